"""Registers the models of LIGER, so that the Auto classes find them without remote code."""

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from cost_hf.methods.liger.configuration_liger import LigerCausalConfig, LigerConfig
from cost_hf.methods.liger.modeling_liger import LigerForCausalLM, LigerForConditionalGeneration

AutoConfig.register(LigerConfig.model_type, LigerConfig, exist_ok=True)
AutoModelForSeq2SeqLM.register(LigerConfig, LigerForConditionalGeneration, exist_ok=True)
AutoConfig.register(LigerCausalConfig.model_type, LigerCausalConfig, exist_ok=True)
AutoModelForCausalLM.register(LigerCausalConfig, LigerForCausalLM, exist_ok=True)
