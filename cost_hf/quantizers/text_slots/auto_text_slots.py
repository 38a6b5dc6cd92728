"""Registers the quantizer of text slots, so that `AutoModel.from_pretrained` finds its class without remote code."""

from transformers import AutoConfig, AutoModel

from cost_hf.quantizers.text_slots.configuration_text_slots import TextSlotsConfig
from cost_hf.quantizers.text_slots.modeling_text_slots import TextSlotsModel

AutoConfig.register(TextSlotsConfig.model_type, TextSlotsConfig, exist_ok=True)
AutoModel.register(TextSlotsConfig, TextSlotsModel, exist_ok=True)
