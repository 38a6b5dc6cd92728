"""Registers the quantizer of PRISM, so that `AutoModel.from_pretrained` finds its class without remote code."""

from transformers import AutoConfig, AutoModel

from cost_hf.quantizers.prism.configuration_prism import PrismConfig
from cost_hf.quantizers.prism.modeling_prism import PrismModel

AutoConfig.register(PrismConfig.model_type, PrismConfig, exist_ok=True)
AutoModel.register(PrismConfig, PrismModel, exist_ok=True)
