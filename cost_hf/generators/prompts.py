"""Token ids of a generator's input: histories of catalog rows to prompts, labels and training examples.

An item is exactly L tokens, so every layout is index arithmetic on one `[N, L]` table between two constant runs of
tokens. A bare causal row is `[user] <|sid_begin|> item item …`, followed by the answer; a bare seq2seq source is
`[user] item item … </s>`, and the answer is the decoder's output. Text prompts (`templates`) have more tokens before
and after the items. Labels are the L tokens of an item without an end token: the depth is fixed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cost_hf.generators.distillation import SoftTargets
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.options import MAX_HISTORY, whole_number
from cost_hf.semantic_ids.vocabulary import SidVocabulary

IGNORED_LABEL = -100
LABEL_WEIGHTS = "label_weights"  # in batches: of the loss of every label


class Example(NamedTuple):
    """Token ids of a training example: its input, `shared` and then `source`, and its target.

    Attributes:
        shared: leading tokens that all examples of one prompt text have in common, `[P]`.
        source: tokens that follow them, `[S]`.
        target: tokens to learn, `[T]`.
        item_rows: catalog row of the item that each token of source and target belongs to, `[S + T]`, -1 for tokens of
            no item; None for text tasks, whose tokens belong to no item.
        soft_targets: of a teacher, beside the target; None without one.
        weights: of the loss of every target token, float32 `[T]`, 0 for tokens that are not learned; None where all are
            1.
        long_rows: catalog rows of the items before the target, oldest first, more of them than the prompt holds; where
            a row has several targets, of those before the row. None for models that read the prompt alone.
    """

    shared: np.ndarray
    source: np.ndarray
    target: np.ndarray
    item_rows: np.ndarray | None = None
    soft_targets: SoftTargets | None = None
    weights: np.ndarray | None = None
    long_rows: np.ndarray | None = None

    @property
    def tokens(self) -> np.ndarray:
        """All tokens in order, `[P + S + T]`."""
        return np.concatenate([self.shared, self.source, self.target])


@dataclass(frozen=True)
class PromptLayout:
    """Token ids around the items of a history.

    Attributes:
        before: tokens before the first item; the last one is `<|sid_begin|>` where a causal answer follows the items.
        after: tokens between the last item and the answer.
    """

    before: tuple[int, ...]
    after: tuple[int, ...] = ()

    @classmethod
    def bare(cls, vocabulary: SidVocabulary, *, is_causal: bool) -> "PromptLayout":
        """Return the layout without text, for vocabularies of SID tokens only."""
        return cls((vocabulary.begin_id,)) if is_causal else cls((), (vocabulary.eos_id,))

    @property
    def constant_tokens(self) -> int:
        """Tokens that every prompt has besides its items."""
        return len(self.before) + len(self.after)


@dataclass(frozen=True)
class PromptBuilder:
    """Turns histories into model inputs.

    Args:
        vocabulary: token ids of codes, markers and hashed user tokens.
        item_tokens: token ids of every catalog row, `[N, L]`.
        layout: token ids around the items.
        is_causal: whether the answer continues the prompt; else it is the output of a decoder.
        max_history: most recent items kept.
    """

    vocabulary: SidVocabulary
    item_tokens: Tensor
    layout: PromptLayout
    is_causal: bool
    max_history: int

    def __repr__(self) -> str:
        """Summarise catalog and layout in one line."""
        kind = "causal" if self.is_causal else "seq2seq"
        return (
            f"PromptBuilder({kind}, {len(self.item_tokens)} items of {self.item_tokens.shape[1]} tokens, "
            f"{self.layout.constant_tokens} tokens around them, max_history={self.max_history})"
        )

    @classmethod
    def for_catalog(
        cls,
        catalog: Catalog,
        vocabulary: SidVocabulary,
        *,
        is_causal: bool,
        max_history: int,
        layout: PromptLayout | None = None,
    ) -> "PromptBuilder":
        """Build the token table of `catalog`; raise ValueError where `max_history` is below one item.

        Args:
            layout: the bare one by default.
        """
        whole_number(max_history, "max_history", most=MAX_HISTORY, remedy="set generator.max_history")
        codes = torch.tensor(np.asarray(catalog.codes))
        layout = PromptLayout.bare(vocabulary, is_causal=is_causal) if layout is None else layout
        return cls(vocabulary, vocabulary.encode(codes), layout, is_causal, max_history)

    @property
    def learns_all_positions(self) -> bool:
        """Whether the answer continues the list of items, so that one pass trains every next item of a user."""
        return self.is_causal and not self.layout.after

    def inputs(self, histories: Tensor, *, user_ids: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
        """Return left-padded `input_ids` and `attention_mask`, both `[B, S]`.

        Args:
            histories: catalog rows, oldest first, `[B, T]`, padded with -1 on the right.
            user_ids: raw user ids, used when the vocabulary has hashed user tokens.
        """
        input_ids, attention_mask, _ = self.inputs_with_items(histories, user_ids=user_ids)
        return input_ids, attention_mask

    def inputs_with_items(
        self, histories: Tensor, *, user_ids: Sequence[str] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return `inputs` and, beside them, the catalog row of every token's item, `[B, S]`, -1 where there is none."""
        rows = recent_rows(histories.cpu(), self.max_history)
        tokens = self.item_tokens[rows.clamp_min(0)].masked_fill((rows < 0)[..., None], self.vocabulary.pad_id)
        token_rows = rows.repeat_interleave(self.item_tokens.shape[1], dim=1)
        shared, first = self._before
        users = self._user_tokens([] if user_ids is None else list(user_ids), len(rows))
        head = torch.cat([_repeated(shared, len(rows)), users, _repeated(first, len(rows))], 1)
        tail = _repeated(self.layout.after, len(rows))
        is_token = [head >= 0, token_rows >= 0, torch.ones_like(tail, dtype=torch.bool)]
        item_rows = [torch.full_like(head, -1), token_rows, torch.full_like(tail, -1)]
        return _pack_left(
            torch.cat([head, tokens.flatten(1), tail], 1),
            torch.cat(is_token, 1),
            torch.cat(item_rows, 1),
            pad_id=self.vocabulary.pad_id,
        )

    def labels(self, targets: Tensor) -> Tensor:
        """Return the L tokens of each target row, `[B, L]`."""
        return self.item_tokens[targets]

    def sequence(self, user_id: str | None, rows: np.ndarray, first_label: int) -> Example:
        """Return the example whose targets are all items of a user's rows from `first_label` on, each given its prefix.

        Only for layouts in which the answer continues the list of items. Without a user there is no user token.
        """
        shared, first = self._before
        items = self.item_tokens.numpy()[rows]
        head = [*self._tokens_of(user_id), *first]
        source = np.concatenate([np.array(head, dtype=np.int64), items[:first_label].ravel()])
        item_rows = np.concatenate([np.full(len(head), -1), np.repeat(rows, items.shape[1])])
        return Example(np.array(shared, dtype=np.int64), source, items[first_label:].ravel(), item_rows)

    def pair(self, user_id: str | None, history: np.ndarray, target: int) -> Example:
        """Return the example whose target is one item, given a history of at most `max_history` rows."""
        shared, first = self._before
        head = [*self._tokens_of(user_id), *first]
        table = self.item_tokens.numpy()
        source = [np.array(head, dtype=np.int64), table[history].ravel(), np.array(self.layout.after, dtype=np.int64)]
        rows = [np.full(len(head), -1), np.repeat(history, table.shape[1]), np.full(len(self.layout.after), -1)]
        item_rows = np.concatenate([*rows, np.full(table.shape[1], target)])
        return Example(np.array(shared, dtype=np.int64), np.concatenate(source), table[target], item_rows)

    @property
    def _before(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the leading tokens that prompts share, and `<|sid_begin|>` where it precedes the items.

        A user's own token comes between them. The marker is not shared: each user's first item is predicted from it.
        """
        before = self.layout.before
        cut = len(before) - 1 if self.learns_all_positions else len(before)
        return before[:cut], before[cut:]

    def _tokens_of(self, user_id: str | None) -> list[int]:
        """Return the tokens of a user; none without one."""
        tokens = self._user_tokens([] if user_id is None else [user_id], 1)[0]
        return [token for token in tokens.tolist() if token >= 0]

    def _user_tokens(self, user_ids: Sequence[str], count: int) -> Tensor:
        """Return the tokens of hashed users `[count, 1]`, or `[count, 0]` where there are none.

        A subclass may give users other tokens, `[count, u]`, -1 for those of a user that has none.
        """
        if not self.vocabulary.num_user_tokens or not user_ids:
            return torch.empty(count, 0, dtype=torch.long)
        if len(user_ids) != count:
            raise ValueError(f"expected one user id per history, got {len(user_ids)} for {count} histories")
        return torch.tensor([[self.vocabulary.user_token_id(user)] for user in user_ids])


def recent_rows(histories: Tensor, most: int) -> Tensor:
    """Return the last `most` rows of every history, aligned to the right, padded with -1 on the left: `[B, W]`.

    Args:
        histories: catalog rows, oldest first, `[B, T]`, padded with -1 on the right.
        most: of a history.
    """
    lengths = (histories >= 0).sum(1)
    width = min(most, int(lengths.max())) if len(lengths) else 0
    index = lengths[:, None] - width + torch.arange(width, device=histories.device)
    return torch.where(index >= 0, histories.gather(1, index.clamp_min(0)), -1)


def _repeated(tokens: Sequence[int], count: int) -> Tensor:
    return torch.tensor(tokens, dtype=torch.long).expand(count, -1)


def _pack_left(tokens: Tensor, present: Tensor, item_rows: Tensor, *, pad_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """Move the present tokens of every row to its right end, in order, and cut columns that hold padding only."""
    order = present.to(torch.int8).argsort(dim=1, stable=True)  # absent tokens first
    first = tokens.shape[1] - int(present.sum(1).max()) if len(tokens) else 0
    tokens, present, item_rows = (part.gather(1, order)[:, first:] for part in (tokens, present, item_rows))
    return tokens.masked_fill(~present, pad_id), present.long(), item_rows.masked_fill(~present, -1)
