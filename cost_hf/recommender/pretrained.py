"""A pretrained backbone: which one it is, its new vocabulary, and the prompts that it reads."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
from transformers.utils.hub import cached_file, extract_commit_hash

from cost_hf.recommender.prompts import PromptLayout
from cost_hf.recommender.templates import Conversation, load_templates
from cost_hf.semantic_ids.vocabulary import SidVocabulary

logger = logging.getLogger(__name__)
SAMPLED = 65536  # values of a tensor that its digest sees


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

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def weights_digest(model: PreTrainedModel) -> str:
    """Return a digest of a model's weights: names, shapes and up to 65,536 evenly spread values of every tensor.

    Values are rounded to bfloat16 first, so a model has the same digest in fp32 and in bf16, and one of seven billion
    weights is read in seconds. A change of single values between the sampled ones is not seen.
    """
    state = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        values = weight.detach().flatten()
        step = -(-values.numel() // SAMPLED) or 1
        sampled = values[::step].to("cpu", torch.bfloat16).contiguous().view(torch.int16)
        state.update(f"{name}:{tuple(weight.shape)}:".encode())
        state.update(sampled.numpy().astype("<i2").tobytes())
    return state.hexdigest()


def commit_of(name: str, revision: str | None) -> str | None:
    """Return the commit that a Hub id stands for now; None for a directory."""
    if Path(name).is_dir():
        return None
    return extract_commit_hash(cached_file(name, "config.json", revision=revision), None)


def load_model(name: str, *, is_causal: bool, revision: str | None = None, **overrides: Any) -> PreTrainedModel:
    """Load a pretrained generator in fp32; raise ValueError where it is not of the kind that was asked for."""
    config = AutoConfig.from_pretrained(name, revision=revision)
    if bool(config.is_encoder_decoder) == is_causal:
        found, wanted = ("seq2seq", "causal") if is_causal else ("causal", "seq2seq")
        raise ValueError(
            f"generator.backbone={name!r} is a {config.model_type} ({found} model), generator.kind={wanted!r} was "
            f"given; set generator.kind to {found}"
        )
    auto = AutoModelForCausalLM if is_causal else AutoModelForSeq2SeqLM
    return auto.from_pretrained(name, revision=revision, dtype=torch.float32, **overrides)


def load_tokenizer(name: str, *, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Load a tokenizer that has an end token; where it has none for padding, padding takes the end token.

    What is padding is always said by a mask, never by the id.
    """
    tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
    if tokenizer.eos_token_id is None:
        raise ValueError(
            f"the tokenizer of {name!r} has no end token (eos), got {tokenizer.special_tokens_map!r}; set eos_token in "
            "its tokenizer_config.json"
        )
    if tokenizer.pad_token_id is None:
        logger.info("the tokenizer of %s has no padding token; its end token pads, under a mask", name)
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def code_vectors(level_vectors: Sequence[Tensor | None], vocabulary: SidVocabulary) -> Tensor | None:
    """Return vectors of all codes level after level, `[n, D]`, NaN for levels without; None where no level has any."""
    known = [vectors for vectors in level_vectors if vectors is not None]
    if not known:
        return None
    width = known[0].shape[1]
    parts = [
        torch.full((size, width), torch.nan) if place >= len(known) else known[place].detach().float().cpu()
        for place, size in enumerate(vocabulary.level_sizes)
    ]
    return torch.cat(parts)


def layouts_of(
    prompt: str, conversation: Conversation, *, templates: str | Path | None, paraphrases: bool
) -> list[PromptLayout]:
    """Return the layouts of a prompt: one bare, or one a template; the first one recommends."""
    if prompt == "bare":
        return [conversation.bare_layout()]
    found = load_templates(prompt, templates)
    return [conversation.layout(template) for template in (found if paraphrases else found[:1])]


def context_of(model: PreTrainedModel) -> int | None:
    """Return the positions that a decoder-only model has; None for one without a limit."""
    config = model.config
    return None if config.is_encoder_decoder else getattr(config, "max_position_embeddings", None)


def fitting_history(
    layouts: Sequence[PromptLayout], *, levels: int, max_history: int, context: int | None, overflow: str
) -> int:
    """Return how many items of a history fit into a model's context beside the words and the answer.

    Args:
        layouts: of all prompts.
        levels: tokens of an item.
        max_history: items that are wanted.
        context: positions of the model; None has no limit.
        overflow: `error`, or `drop_oldest` to keep the most recent items that fit.

    Raises:
        ValueError: where they do not fit, with the numbers.
    """
    words = max(layout.constant_tokens for layout in layouts)
    needed = words + levels * (max_history + 1)
    if context is None or needed <= context:
        return max_history
    fits = (context - words) // levels - 1
    if fits < 1 or overflow == "error":
        remedy = (
            f"set generator.max_history to at most {fits}, or generator.overflow to drop_oldest"
            if fits >= 1
            else "take a shorter prompt (generator.prompt, tasks.templates) or a backbone with a longer context"
        )
        raise ValueError(
            f"a prompt of {max_history} items takes {needed} tokens ({words} of words, {levels} an item, {levels} for "
            f"the answer), the backbone has a context of {context}; {remedy}"
        )
    logger.warning("histories keep their %d most recent items, not %d: the context is %d", fits, max_history, context)
    return fits
