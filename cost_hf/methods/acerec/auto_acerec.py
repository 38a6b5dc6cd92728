"""Registers ACERec, so that `AutoModel.from_pretrained` finds its class without remote code."""

from transformers import AutoConfig, AutoModel

from cost_hf.methods.acerec.configuration_acerec import AceRecConfig
from cost_hf.methods.acerec.modeling_acerec import AceRecModel

AutoConfig.register(AceRecConfig.model_type, AceRecConfig, exist_ok=True)
AutoModel.register(AceRecConfig, AceRecModel, exist_ok=True)
