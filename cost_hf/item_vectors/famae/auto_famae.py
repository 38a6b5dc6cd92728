"""Registers FAMAE, so that `AutoModel.from_pretrained` finds its class without remote code."""

from transformers import AutoConfig, AutoModel

from cost_hf.item_vectors.famae.configuration_famae import FamaeConfig
from cost_hf.item_vectors.famae.modeling_famae import FamaeModel

AutoConfig.register(FamaeConfig.model_type, FamaeConfig, exist_ok=True)
AutoModel.register(FamaeConfig, FamaeModel, exist_ok=True)
