"""Registers the model, so that the Auto classes find it without remote code."""

from transformers import AutoConfig, AutoModelForSeq2SeqLM

from cost_hf.methods.token_merger.configuration_merged_t5 import MergedT5Config
from cost_hf.methods.token_merger.modeling_merged_t5 import MergedT5ForConditionalGeneration

AutoConfig.register(MergedT5Config.model_type, MergedT5Config, exist_ok=True)
AutoModelForSeq2SeqLM.register(MergedT5Config, MergedT5ForConditionalGeneration, exist_ok=True)
