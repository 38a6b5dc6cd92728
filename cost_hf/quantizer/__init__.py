"""The residual quantizer as a Hub closure: flat files that need torch, transformers and huggingface_hub only.

Importing this package registers it, so that `AutoModel.from_pretrained` finds the class without remote code.
"""

from transformers import AutoConfig, AutoModel

from .configuration_cost import CostConfig
from .modeling_cost import CostModel, CostOutput, CostPreTrainedModel
from .residual_cost import QuantizedLatents, ResidualQuantizer

AutoConfig.register(CostConfig.model_type, CostConfig, exist_ok=True)
AutoModel.register(CostConfig, CostModel, exist_ok=True)

__all__ = ["CostConfig", "CostModel", "CostOutput", "CostPreTrainedModel", "QuantizedLatents", "ResidualQuantizer"]
