"""What cached decoding has in common: prompts, steps of all beams, and the log-probabilities of a level's codes.

`generate()` copies the prompt's keys and values for every beam. Here the beams of a request are tokens of one row:
under a float mask each attends to the prompt and to its own ancestors, so nothing is copied per beam. The steps
(`t5_steps`, `causal_steps`) call the model's own modules, so adapters and quantized layers count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from cost_hf.search.normalizations import check_normalization
from cost_hf.semantic_ids.vocabulary import SidVocabulary


@dataclass(frozen=True)
class Prompt:
    """The prompts of B requests.

    Attributes:
        attention_mask: 1 at tokens, 0 at padding, `[B, S]`.
        input_ids: token ids `[B, S]`; None where one of the next two is given.
        inputs_embeds: embedded prompts `[B, S, d]`.
        encoder_states: encoded prompts of an encoder-decoder model, `[B, S, d]`.
        model_kwargs: further keyword arguments of the encoder, or of every pass of a decoder-only model.
    """

    attention_mask: Tensor
    input_ids: Tensor | None = None
    inputs_embeds: Tensor | None = None
    encoder_states: Tensor | None = None
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_padded(self) -> bool:
        """Whether a mask is needed; always off the CPU, since the check would synchronize the device."""
        return self.attention_mask.device.type != "cpu" or not bool(self.attention_mask.all())


class DecodingSteps(Protocol):
    """The decoder's last hidden states at the last tokens of all beams of a batch of requests."""

    @property
    def batch(self) -> int:
        """B, number of requests."""

    @property
    def prompt_states(self) -> Tensor | None:
        """Last hidden states at all positions of the prompts, `[B, S, d]`; None before `start` and after `resumed`."""

    def prompt_tensors(self) -> list[Tensor]:
        """Return what decoding needs of the prompts, `[B, …]` each."""

    def resumed(self, tensors: Sequence[Tensor]) -> "DecodingSteps":
        """Return steps that continue from `prompt_tensors` of the same shapes; they share no state with these."""

    def start(self, added: Tensor | None = None) -> Tensor:
        """Return the hidden states that predict the first code, `[B, 1, d]`; drop the beams of an earlier search."""

    def advance(self, tokens: Tensor, parents: Tensor, added: Tensor | None = None) -> Tensor:
        """Append a token to every beam and return the hidden states at it, `[B, R, d]`.

        Args:
            tokens: `[B, R]`.
            parents: the beam of the previous step that each one continues, `[B, R]`.
            added: added to the embeddings of the tokens, `[B, R, d]`.
        """

    def feed(self, tokens: Tensor, depths: Tensor, visible: Tensor, added: Tensor | None = None) -> Tensor:
        """Append tokens of any depths, and return the hidden states at them, `[B, R, d]`.

        `advance` is for beams of one depth. This is for a search that returns to prefixes which it had left; after
        `start` it uses one of the two.

        Args:
            tokens: `[B, R]`.
            depths: codes of the answer before each token, `[B, R]`; 0 for a first code.
            visible: which tokens each attends to, bool `[B, R, fed + R]`: its ancestors among those fed before, in the
                order of the calls, and itself.
            added: added to the embeddings of the tokens, `[B, R, d]`.
        """


class Ancestry:
    """Which of the tokens fed so far are ancestors of each beam: bool `[B, R, tokens so far]`."""

    def __init__(self) -> None:
        self.paths: Tensor | None = None

    def extend(self, parents: Tensor) -> Tensor:
        """Add a step in which beam r continues beam `parents[:, r]`; return the ancestors, own token included."""
        batch, beams = parents.shape
        own = torch.eye(beams, dtype=torch.bool, device=parents.device).expand(batch, -1, -1)
        if self.paths is None:
            self.paths = own
        else:
            index = parents[..., None].expand(-1, -1, self.paths.shape[-1])
            self.paths = torch.cat([self.paths.gather(1, index), own], dim=-1)
        return self.paths


def float_mask(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 0 where `visible` and the lowest number of `dtype` elsewhere."""
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, torch.finfo(dtype).min)


class LevelHead:
    """The model's output matrix, read one level at a time.

    `vocabulary` gives the scores of `generate()`. `level` normalizes over the level's codes alone: a model with 30,000
    tokens then computes a few hundred logits, and scores and the order of items differ.

    Args:
        model: its output embeddings are applied to the decoder's last hidden states.
        vocabulary: token ids of the codes.
        normalization: one of `NORMALIZATIONS`.

    Raises:
        ValueError: for an unknown normalization, or a model with too few tokens.
    """

    def __init__(self, model: PreTrainedModel, vocabulary: SidVocabulary, *, normalization: str):
        check_normalization(normalization)
        self.head: Any = model.get_output_embeddings()
        rows = getattr(self.head, "out_features", model.config.vocab_size)
        if rows < vocabulary.begin_id:
            raise ValueError(
                f"the model gives logits for {rows} tokens, the codes need {vocabulary.begin_id}; resize the model by "
                "SidVocabulary.extend, or load the vocabulary it was trained with"
            )
        self.scale = model.config.d_model**-0.5 if _scales_outputs(model) else None
        starts = vocabulary.level_offsets.tolist()
        self.blocks = [slice(first, first + size) for first, size in zip(starts, vocabulary.level_sizes, strict=True)]
        self.over_level = normalization == "level"

    def log_probs(self, hidden: Tensor, level: int) -> Tensor:
        """Return natural-log probabilities `[B, R, K]` of the codes of `level` given `hidden` `[B, R, d]`."""
        block = self.blocks[level]
        if self.scale is not None:
            hidden = hidden * self.scale
        if not self.over_level:
            logits = self.head(hidden).float()
            return logits[..., block] - logits.logsumexp(-1, keepdim=True)
        if _is_plain(self.head):
            bias = None if self.head.bias is None else self.head.bias[block]
            logits = nn.functional.linear(hidden, self.head.weight[block], bias)
        else:  # adapters and quantized heads can't be sliced
            logits = self.head(hidden)[..., block]
        return logits.float().log_softmax(-1)


def _is_plain(head: nn.Module) -> bool:
    return type(head) is nn.Linear and not head._forward_hooks and not head._forward_pre_hooks


def _scales_outputs(model: PreTrainedModel) -> bool:
    """Whether a model scales the decoder's states before its head: T5 has a flag, UMT5 a rule, mT5 neither."""
    if not model.config.is_encoder_decoder:
        return False
    from transformers import T5ForConditionalGeneration, UMT5ForConditionalGeneration  # not needed by causal models

    if isinstance(model, UMT5ForConditionalGeneration):
        return bool(model.config.tie_word_embeddings)
    return isinstance(model, T5ForConditionalGeneration) and bool(model.config.scale_decoder_outputs)
