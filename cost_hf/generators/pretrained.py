"""Pretrained backbones: loading, the digest of their weights, and their prompt layouts."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from cost_hf.files import readable_load_errors
from cost_hf.generators.model_classes import ModelClasses
from cost_hf.generators.prompts import PromptLayout
from cost_hf.generators.templates import PromptEncoder, load_templates

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BaseModel:
    """The pretrained model that an adapter belongs to.

    Attributes:
        name: Hub id or directory.
        revision: commit on the Hub; None for a directory.
        digest: `weights_digest` before any token was added.
        added_tokens: tokens that the vocabulary added to it.
    """

    name: str
    revision: str | None
    digest: str
    added_tokens: int


def auto_class(config: Any) -> Any:
    """Return the Auto class that loads a generator of this configuration."""
    return AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM


def load_model(
    name: str | Path,
    *,
    revision: str | None = None,
    is_causal: bool | None = None,
    dropout: float | None = None,
    model_classes: ModelClasses | None = None,
) -> PreTrainedModel:
    """Load a pretrained generator in fp32.

    Args:
        name: Hub id or directory.
        revision: branch, tag or commit of a Hub id.
        is_causal: the required kind; None for either.
        dropout: of a seq2seq model, in place of its own.
        model_classes: of a method; weights that the pretrained model does not have are initialised by its class.

    Raises:
        ValueError: for a model of the other kind, or of a type for which the method has no class.
    """
    with readable_load_errors("the pretrained model", name):
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    if is_causal is not None and bool(config.is_encoder_decoder) == is_causal:
        found, wanted = ("seq2seq", "causal") if is_causal else ("causal", "seq2seq")
        raise ValueError(
            f"generator.backbone={str(name)!r} is a {config.model_type} ({found} model), generator.kind={wanted!r} was "
            f"given; set generator.kind to {found}"
        )
    key = "dropout_rate" if hasattr(config, "dropout_rate") else "dropout"  # T5's name, and that of the others
    own = {} if dropout is None else {key: dropout}
    if model_classes is not None:
        kind = model_classes.of_type(config.model_type)
        extended = model_classes.extended(config)
        for field, value in own.items():
            setattr(extended, field, value)
        with readable_load_errors("the pretrained model", name):
            return kind.from_pretrained(name, config=extended, revision=revision, dtype=torch.float32)
    with readable_load_errors("the pretrained model", name):
        return auto_class(config).from_pretrained(
            name, revision=revision, dtype=torch.float32, trust_remote_code=False, **own
        )


def load_tokenizer(name: str, *, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Load a tokenizer with an end token; where it has no padding token, the end token pads.

    Padding is always marked by a mask, never by the id.
    """
    with readable_load_errors("the tokenizer", name):
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
    if tokenizer.eos_token_id is None:
        raise ValueError(
            f"the tokenizer of {name!r} has no end token (eos), got {tokenizer.special_tokens_map!r}; set eos_token in "
            "its tokenizer_config.json"
        )
    if tokenizer.pad_token_id is None:
        logger.info("the tokenizer of %s has no padding token; its end token pads instead, under a mask", name)
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def context_of(model: PreTrainedModel) -> int | None:
    """Return the number of positions of a decoder-only model; None for one without a limit."""
    config = model.config
    return None if config.is_encoder_decoder else getattr(config, "max_position_embeddings", None)


def code_vectors(level_vectors: Sequence[Tensor], level_sizes: Sequence[int]) -> Tensor | None:
    """Return the code vectors of all levels in one table, `[n, D]`; None without a quantizer.

    Args:
        level_vectors: of the quantizer's levels, `[K, D]` each.
        level_sizes: of the catalog; an appended level has no vectors and gets NaN.
    """
    if not level_vectors:
        return None
    parts = [vectors.detach().float().cpu() for vectors in level_vectors]
    missing = sum(level_sizes) - sum(map(len, parts))
    return torch.cat([*parts, torch.full((missing, parts[0].shape[1]), torch.nan)])


def layouts_of(
    prompt: str, prompt_encoder: PromptEncoder, *, templates: str | Path | None, paraphrases: bool
) -> list[PromptLayout]:
    """Return the layouts of a prompt: the bare one, or one per template; the first is used for recommendations."""
    if prompt == "bare":
        return [prompt_encoder.bare_layout()]
    found = load_templates(prompt, templates)
    return [prompt_encoder.layout(template) for template in (found if paraphrases else found[:1])]
