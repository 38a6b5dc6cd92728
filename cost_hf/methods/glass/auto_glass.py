"""Registers the models of GLASS, so that the Auto classes find them without remote code."""

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from cost_hf.methods.glass.configuration_glass import GlassCausalConfig, GlassConfig
from cost_hf.methods.glass.modeling_glass import GlassForCausalLM, GlassForConditionalGeneration

AutoConfig.register(GlassConfig.model_type, GlassConfig, exist_ok=True)
AutoModelForSeq2SeqLM.register(GlassConfig, GlassForConditionalGeneration, exist_ok=True)
AutoConfig.register(GlassCausalConfig.model_type, GlassCausalConfig, exist_ok=True)
AutoModelForCausalLM.register(GlassCausalConfig, GlassForCausalLM, exist_ok=True)
