"""Which models the search runs exactly, and with which decoding steps."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    DynamicCache,
    MT5ForConditionalGeneration,
    PreTrainedModel,
    T5ForConditionalGeneration,
    UMT5ForConditionalGeneration,
)
from transformers.cache_utils import DynamicLayer

from cost_hf.search.beam_steps import DecodingSteps, Prompt
from cost_hf.search.causal_steps import CausalSteps
from cost_hf.search.t5_steps import T5Steps

T5_FAMILY = (T5ForConditionalGeneration, MT5ForConditionalGeneration, UMT5ForConditionalGeneration)
# positions follow position_ids alone and logits are the head of the last hidden states: each has a test
CAUSAL_TYPES = ("gpt2", "gpt_neox", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3")


def base_model(model: Any) -> PreTrainedModel:
    """Return the transformers model inside a peft one; its layers hold the adapters."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def unsupported_reason(model: Any) -> str | None:
    """Say why `beam_search` can't run a model by its own engines; None where it can."""
    active = getattr(model, "active_peft_config", None)
    if active is not None and (active.is_prompt_learning or getattr(active, "alora_invocation_tokens", None)):
        return "prompt-learning and invocation adapters make the prompt another one"
    inner = base_model(model)
    if inner._forward_hooks or inner._forward_pre_hooks:
        return f"{type(inner).__name__} has hooks on its forward pass, which the engine does not call"
    return _t5_unsupported_reason(inner) if inner.config.is_encoder_decoder else _causal_unsupported_reason(inner)


def _t5_unsupported_reason(model: PreTrainedModel) -> str | None:
    if type(model) not in T5_FAMILY:
        return f"{type(model).__name__} is not T5, mT5 or UMT5 with the forward pass of transformers"
    # the engine calls what lies inside these parts; a part of another make would be passed over
    decoder = model.get_decoder()
    layers = [layer for block in decoder.block for layer in block.layer]
    attentions = [
        getattr(layer, name)
        for layer in layers
        for name in ("SelfAttention", "EncDecAttention")
        if hasattr(layer, name)
    ]
    for part in (decoder, *decoder.block, *layers, *attentions):
        if type(part).__module__ != type(model).__module__ or part._forward_hooks or part._forward_pre_hooks:
            return f"{type(part).__name__} in the decoder is not that of transformers, or has hooks"
    return "float16 T5 needs clamping" if model.dtype == torch.float16 else None


def _causal_unsupported_reason(model: PreTrainedModel) -> str | None:
    config, name = model.config, type(model).__name__
    if config.model_type not in CAUSAL_TYPES:
        return f"the engine knows {', '.join(CAUSAL_TYPES)}, not {config.model_type}"
    if type(model) is not MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]:
        return f"{name} may have a forward pass of its own"
    if (getattr(config, "rope_parameters", None) or {}).get("rope_type") == "longrope":
        return f"{name} turns its positions anew when the prompt grows (longrope)"
    if any(type(layer) is not DynamicLayer for layer in DynamicCache(config=config).layers):
        return f"{name} has layers that do not attend to the whole past"
    if config._attn_implementation not in ("sdpa", "eager"):
        return f"attention {config._attn_implementation!r} takes no float mask"
    return None


def decoding_steps(model: PreTrainedModel, prompt: Prompt, widths: Sequence[int]) -> DecodingSteps:
    """Return the engine of a model without `unsupported_reason`.

    Args:
        model: a base model in eval mode.
        prompt: B requests.
        widths: the most beams that each decoding step will feed.
    """
    return T5Steps(model, prompt, widths) if model.config.is_encoder_decoder else CausalSteps(model, prompt)
