"""SASRec as a Hub closure: flat files that need torch, transformers and huggingface_hub only.

Importing this package registers it, so that `AutoModel.from_pretrained` finds the class without remote code.
"""

from transformers import AutoConfig, AutoModel

from .configuration_sasrec import SasRecConfig
from .modeling_sasrec import SasRecModel, SasRecOutput

AutoConfig.register(SasRecConfig.model_type, SasRecConfig, exist_ok=True)
AutoModel.register(SasRecConfig, SasRecModel, exist_ok=True)

__all__ = ["SasRecConfig", "SasRecModel", "SasRecOutput"]
