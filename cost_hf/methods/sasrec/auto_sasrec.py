"""Registers SASRec, so that `AutoModel.from_pretrained` finds its class without remote code."""

from transformers import AutoConfig, AutoModel

from cost_hf.methods.sasrec.configuration_sasrec import SasRecConfig
from cost_hf.methods.sasrec.modeling_sasrec import SasRecModel

AutoConfig.register(SasRecConfig.model_type, SasRecConfig, exist_ok=True)
AutoModel.register(SasRecConfig, SasRecModel, exist_ok=True)
