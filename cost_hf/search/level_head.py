"""Log-probabilities of one level's codes, over the whole vocabulary or over the level alone."""

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel, T5ForConditionalGeneration, UMT5ForConditionalGeneration

from cost_hf.search.normalizations import check_normalization
from cost_hf.semantic_ids.vocabulary import SidVocabulary


class LevelHead:
    """The model's output matrix, read one level at a time.

    `vocabulary` gives the scores of `generate()`. `level` divides by the probability of the level's codes alone: a
    model of 30,000 words then computes a few hundred logits, and its scores, and with them the order of items, are
    others.

    Args:
        model: its output embeddings are applied to the decoder's last hidden states.
        vocabulary: places of the codes.
        normalization: one of `NORMALIZATIONS`.

    Raises:
        ValueError: for another normalization, or a model of fewer tokens.
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
        """Return natural-log probabilities `[B, R, K]` of the codes of `level` behind `hidden` `[B, R, d]`."""
        hidden, block = hidden if self.scale is None else hidden * self.scale, self.blocks[level]
        if not self.over_level:
            logits = self.head(hidden).float()
            return logits[..., block] - logits.logsumexp(-1, keepdim=True)
        if _is_plain(self.head):
            bias = None if self.head.bias is None else self.head.bias[block]
            logits = nn.functional.linear(hidden, self.head.weight[block], bias)
        else:  # adapters and quantised heads have no rows of their own
            logits = self.head(hidden)[..., block]
        return logits.float().log_softmax(-1)


def _is_plain(head: nn.Module) -> bool:
    return type(head) is nn.Linear and not head._forward_hooks and not head._forward_pre_hooks


def _scales_outputs(model: PreTrainedModel) -> bool:
    """Tell whether a model shrinks the decoder's states before its head: T5 has a flag, UMT5 a rule, mT5 neither."""
    if isinstance(model, UMT5ForConditionalGeneration):
        return bool(model.config.tie_word_embeddings)
    return isinstance(model, T5ForConditionalGeneration) and bool(model.config.scale_decoder_outputs)
