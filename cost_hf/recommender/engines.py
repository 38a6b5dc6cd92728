"""Which models the search runs exactly, and with which decoding steps."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    DynamicCache,
    MT5ForConditionalGeneration,
    PreTrainedModel,
    T5ForConditionalGeneration,
    UMT5ForConditionalGeneration,
)
from transformers.cache_utils import DynamicLayer

from cost_hf.recommender.beam_steps import DecodingSteps, Prompt
from cost_hf.recommender.causal_steps import CausalSteps
from cost_hf.recommender.t5_steps import T5Steps

T5_FAMILY = (T5ForConditionalGeneration, MT5ForConditionalGeneration, UMT5ForConditionalGeneration)
# positions follow position_ids alone and logits are the head of the last hidden states: each has a test
CAUSAL_TYPES = ("gpt2", "gpt_neox", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3")


def base_model(model: Any) -> PreTrainedModel:
    """Return the transformers model inside a peft one; its layers hold the adapters."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def obstacle(model: Any) -> str | None:
    """Say why `beam_search` can't run a model by its own engines; None where it can."""
    active = getattr(model, "active_peft_config", None)
    if active is not None and active.is_prompt_learning:
        return "prompt-learning adapters put tokens before the prompt"
    inner = base_model(model)
    config, name = inner.config, type(inner).__name__
    if config.is_encoder_decoder:
        own = [family for family in T5_FAMILY if isinstance(inner, family)]
        if not own or type(inner).forward is not own[0].forward:
            return f"{name} is not T5, mT5 or UMT5 with the forward pass of transformers"
        return "float16 T5 needs clamping" if inner.dtype == torch.float16 else None
    if config.model_type not in CAUSAL_TYPES:
        return f"the engine knows {', '.join(CAUSAL_TYPES)}, not {config.model_type}"
    if any(type(layer) is not DynamicLayer for layer in DynamicCache(config=config).layers):
        return f"{name} has layers that do not attend to the whole past"
    if config._attn_implementation not in ("sdpa", "eager"):
        return f"attention {config._attn_implementation!r} takes no float mask"
    return None


def decoding_steps(model: PreTrainedModel, prompt: Prompt, widths: Sequence[int]) -> DecodingSteps:
    """Return the engine of a model without `obstacle`.

    Args:
        model: a base model in eval mode.
        prompt: B requests.
        widths: the most beams that each decoding step will feed.
    """
    return T5Steps(model, prompt, widths) if model.config.is_encoder_decoder else CausalSteps(model, prompt)
