"""Registers the models of PRISM's recommender, so that the Auto classes find them without remote code."""

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from cost_hf.methods.prism.configuration_prism_isr import PrismIsrCausalConfig, PrismIsrConfig
from cost_hf.methods.prism.modeling_prism_isr import PrismForCausalLM, PrismForConditionalGeneration

AutoConfig.register(PrismIsrConfig.model_type, PrismIsrConfig, exist_ok=True)
AutoModelForSeq2SeqLM.register(PrismIsrConfig, PrismForConditionalGeneration, exist_ok=True)
AutoConfig.register(PrismIsrCausalConfig.model_type, PrismIsrCausalConfig, exist_ok=True)
AutoModelForCausalLM.register(PrismIsrCausalConfig, PrismForCausalLM, exist_ok=True)
