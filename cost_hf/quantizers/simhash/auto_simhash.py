"""Registers SimHash, so that `AutoModel.from_pretrained` finds its class without remote code."""

from transformers import AutoConfig, AutoModel

from cost_hf.quantizers.simhash.configuration_simhash import SimhashConfig
from cost_hf.quantizers.simhash.modeling_simhash import SimhashModel

AutoConfig.register(SimhashConfig.model_type, SimhashConfig, exist_ok=True)
AutoModel.register(SimhashConfig, SimhashModel, exist_ok=True)
