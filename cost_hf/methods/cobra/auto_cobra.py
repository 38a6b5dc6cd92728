"""Registers the model of COBRA, so that the Auto classes find it without remote code."""

from transformers import AutoConfig, AutoModelForCausalLM

from cost_hf.methods.cobra.configuration_cobra import CobraConfig
from cost_hf.methods.cobra.modeling_cobra import CobraForCausalLM

AutoConfig.register(CobraConfig.model_type, CobraConfig, exist_ok=True)
AutoModelForCausalLM.register(CobraConfig, CobraForCausalLM, exist_ok=True)
