"""Registers HSTU, so that `AutoModel.from_pretrained` finds its class without remote code."""

from transformers import AutoConfig, AutoModel

from cost_hf.methods.hstu.configuration_hstu import HstuConfig
from cost_hf.methods.hstu.modeling_hstu import HstuModel

AutoConfig.register(HstuConfig.model_type, HstuConfig, exist_ok=True)
AutoModel.register(HstuConfig, HstuModel, exist_ok=True)
