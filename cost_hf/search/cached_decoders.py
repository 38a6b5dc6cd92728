"""Which models have cached decoding, and by which decoding steps."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from cost_hf.search.beam_steps import DecodingSteps, Prompt
from cost_hf.search.causal_steps import CausalSteps
from cost_hf.search.protocol import MixesCrossAttention
from cost_hf.search.t5_steps import T5Steps

T5_TYPES = ("t5", "mt5", "umt5")
# positions follow position_ids alone and logits are the head of the last hidden states: each has a test
CAUSAL_TYPES = ("gpt2", "gpt_neox", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3")
# classes by module and name, so that only the model in use is imported
NAMES = {name: MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES[name] for name in T5_TYPES} | {
    name: MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[name] for name in CAUSAL_TYPES
}
TYPES = {(f"transformers.models.{name}.modeling_{name}", kind): name for name, kind in NAMES.items()}
# methods that decoding depends on; a class that overrides one may decode otherwise
DECODING_METHODS = frozenset(
    {"forward", "__call__", "_call_impl", "_wrapped_call_impl"}
    | {"get_encoder", "get_decoder", "get_input_embeddings", "get_output_embeddings"}
    | {name for name, part in vars(GenerationMixin).items() if callable(part) and not name.startswith("__")}
)


def base_model(model: Any) -> PreTrainedModel:
    """Return the transformers model inside a peft one; its layers hold the adapters."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def decoder_class(model: PreTrainedModel) -> type | None:
    """Return the class of transformers that a model is or extends and whose decoding is known; None without one."""
    for kind in type(model).__mro__:
        if (kind.__module__, kind.__name__) in TYPES:
            return kind
    return None


def unsupported_reason(model: Any) -> str | None:
    """Return why `beam_search` can't run a model by its cached decoders; None where it can."""
    active = getattr(model, "active_peft_config", None)
    if active is not None and (active.is_prompt_learning or getattr(active, "alora_invocation_tokens", None)):
        return "prompt-learning and invocation adapters change the prompt"
    inner = base_model(model)
    if inner._forward_hooks or inner._forward_pre_hooks:
        return f"{type(inner).__name__} has hooks on its forward pass, which cached decoding does not call"
    base = decoder_class(inner)
    if base is None:
        known = ", ".join(NAMES)
        return f"{type(inner).__name__} is no model of {known} and extends none"
    changed = _overridden(type(inner), base)
    if changed is not None:
        return changed
    is_t5 = TYPES[base.__module__, base.__name__] in T5_TYPES
    return _t5_unsupported_reason(inner, base) if is_t5 else _causal_unsupported_reason(inner, base)


def _overridden(kind: type, base: type) -> str | None:
    """Return which class between a model and its base overrides decoding without a declaration; None for no class."""
    for own in kind.__mro__[: kind.__mro__.index(base)]:
        changed = sorted(DECODING_METHODS & vars(own).keys())
        if changed and not vars(own).get("decodes_like_base", False):
            return (
                f"{own.__name__} overrides {', '.join(changed)} of {base.__name__}; if decoding is that of its base "
                "class all the same, set decodes_like_base = True in it (cost_hf.search.protocol)"
            )
    return None


def _t5_unsupported_reason(model: PreTrainedModel, base: type) -> str | None:
    # cached decoding calls what is inside these parts; a replaced part would be passed over
    decoder = model.get_decoder()
    layers = [layer for block in decoder.block for layer in block.layer]
    attentions = [
        getattr(layer, name)
        for layer in layers
        for name in ("SelfAttention", "EncDecAttention")
        if hasattr(layer, name)
    ]
    for part in (decoder, *decoder.block, *layers, *attentions):
        is_known = type(part).__module__ == base.__module__ or (
            isinstance(model, MixesCrossAttention) and vars(type(part)).get("decodes_like_base", False)
        )
        if not is_known or part._forward_hooks or part._forward_pre_hooks:
            return f"{type(part).__name__} in the decoder is not that of {base.__name__}, or has hooks"
    return "float16 T5 needs clamping" if model.dtype == torch.float16 else None


def _causal_unsupported_reason(model: PreTrainedModel, base: type) -> str | None:
    config = model.config
    name = type(model).__name__
    decoder = model.get_decoder()
    # what keeps keys and values knows its layer; attention of another make may not read the mask
    for part in (decoder, *(part for part in decoder.modules() if "layer_idx" in vars(part))):
        if type(part).__module__ != base.__module__:
            return f"{type(part).__name__} in the decoder is not that of {base.__name__}"
    if (getattr(config, "rope_parameters", None) or {}).get("rope_type") == "longrope":
        return f"{name} recomputes its positions when the prompt grows (longrope)"
    if any(type(layer) is not DynamicLayer for layer in DynamicCache(config=config).layers):
        return f"{name} has layers that do not attend to the whole past"
    if config._attn_implementation not in ("sdpa", "eager"):
        return f"attention {config._attn_implementation!r} takes no float mask"
    return None


def decoding_steps(model: PreTrainedModel, prompt: Prompt, widths: Sequence[int]) -> DecodingSteps:
    """Return the decoding steps of a model without `unsupported_reason`.

    Args:
        model: a base model in eval mode.
        prompt: B requests.
        widths: the most beams that each decoding step will feed.
    """
    return T5Steps(model, prompt, widths) if model.config.is_encoder_decoder else CausalSteps(model, prompt)
