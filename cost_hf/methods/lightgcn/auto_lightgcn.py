"""Registers LightGCN, so that `AutoModel.from_pretrained` finds its class without remote code."""

from transformers import AutoConfig, AutoModel

from cost_hf.methods.lightgcn.configuration_lightgcn import LightGcnConfig
from cost_hf.methods.lightgcn.modeling_lightgcn import LightGcnModel

AutoConfig.register(LightGcnConfig.model_type, LightGcnConfig, exist_ok=True)
AutoModel.register(LightGcnConfig, LightGcnModel, exist_ok=True)
