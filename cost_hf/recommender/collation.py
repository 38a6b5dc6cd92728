"""Training examples and batches of both generators.

The causal generator learns every next item of a user in one pass, the first one included. The seq2seq generator needs
one example for every prefix of a sequence, four to six times the work for each target.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from cost_hf.recommender.prompts import IGNORED_LABEL, PromptBuilder


class SequenceDataset(Dataset):
    """Users' training sequences as rows of at most `max_items` items, with the first item that is a label.

    A longer sequence becomes overlapping windows, cut from its end: every item is a label once, and behind the first
    window with at least half a window of history before it.
    """

    def __init__(self, sequences: Sequence[np.ndarray], user_ids: Sequence[str], *, max_items: int):
        self.examples: list[tuple[str, np.ndarray, int]] = [
            (user, np.asarray(sequence[start:end]), first - start)
            for user, sequence in zip(user_ids, sequences, strict=True)
            for start, end, first in _windows(len(sequence), max_items)
        ]
        self.lengths = np.array([len(rows) for _, rows, _ in self.examples])

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[str, np.ndarray, int]:
        return self.examples[index]


class PrefixDataset(Dataset):
    """Every prefix of every training sequence with the item that follows it (seq2seq generator)."""

    def __init__(self, sequences: Sequence[np.ndarray], user_ids: Sequence[str], *, max_history: int):
        self.sequences, self.user_ids, self.max_history = list(sequences), list(user_ids), max_history
        owners = [np.full(max(len(rows) - 1, 0), number) for number, rows in enumerate(self.sequences)]
        ends = [np.arange(1, len(rows)) for rows in self.sequences]
        self.owners = np.concatenate(owners) if owners else np.empty(0, np.int64)
        self.ends = np.concatenate(ends) if ends else np.empty(0, np.int64)
        self.lengths = np.minimum(self.ends, max_history)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> tuple[str, np.ndarray, int]:
        owner, end = int(self.owners[index]), int(self.ends[index])
        rows = self.sequences[owner]
        return self.user_ids[owner], rows[max(end - self.max_history, 0) : end], int(rows[end])


class CausalCollator:
    """Rows `[user] <|sid_begin|> item item …`, right-padded; item tokens are labels from the row's first label on."""

    def __init__(self, prompts: PromptBuilder):
        self.prompts = prompts

    def __call__(self, examples: Sequence[tuple[str, np.ndarray, int]]) -> dict[str, Tensor]:
        """Return `input_ids`, `attention_mask` and `labels`, each `[B, S]`."""
        vocabulary = self.prompts.vocabulary
        item_tokens = self.prompts.item_tokens
        rows = pad_rows([rows for _, rows, _ in examples])
        levels = item_tokens.shape[1]
        present = (rows >= 0).repeat_interleave(levels, dim=1)
        first = torch.tensor([first for _, _, first in examples])[:, None] * levels
        is_label = present & (torch.arange(present.shape[1]) >= first)
        tokens = item_tokens[rows.clamp_min(0)].flatten(1)
        prefix = torch.full((len(examples), 1), vocabulary.begin_id)
        if vocabulary.num_user_tokens:
            users = torch.tensor([[vocabulary.user_token_id(user)] for user, _, _ in examples])
            prefix = torch.cat([users, prefix], 1)
        return {
            "input_ids": torch.cat([prefix, tokens.masked_fill(~present, vocabulary.pad_id)], 1),
            "attention_mask": torch.cat([torch.ones_like(prefix), present.long()], 1),
            "labels": torch.cat(
                [torch.full_like(prefix, IGNORED_LABEL), tokens.masked_fill(~is_label, IGNORED_LABEL)], 1
            ),
        }


class PrefixCollator:
    """Sources of seq2seq prompts with the target's tokens as labels."""

    def __init__(self, prompts: PromptBuilder):
        self.prompts = prompts

    def __call__(self, examples: Sequence[tuple[str, np.ndarray, int]]) -> dict[str, Tensor]:
        """Return `input_ids` and `attention_mask` `[B, S]` and `labels` `[B, L]`."""
        users, histories, targets = zip(*examples, strict=True)
        input_ids, attention_mask = self.prompts.inputs(pad_rows(histories), user_ids=users)
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "labels": self.prompts.labels(torch.tensor(targets)),
        }


class LengthGroupedSampler(Sampler[int]):
    """Random order in which neighbours have similar lengths; a function of (seed, epoch) alone.

    A permutation is cut into windows of `window` batches, each sorted by length and dealt out as whole batches in
    random order. The stock sampler draws from the global generator, so a resumed run would see other batches.
    """

    def __init__(self, lengths: np.ndarray, *, batch_size: int, seed: int, window: int = 32):
        self.lengths, self.batch_size, self.seed, self.window = np.asarray(lengths), batch_size, seed, window
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(len(self.lengths))
        span = self.batch_size * self.window
        order = np.concatenate(
            [part[np.argsort(self.lengths[part], kind="stable")] for part in _cut(order, span)] or [order]
        )
        batches = _cut(order, self.batch_size)
        full = [batch for batch in batches if len(batch) == self.batch_size]
        mixed = [full[index] for index in generator.permutation(len(full))]
        # the short batch stays last: a short one in the middle would shift every batch border behind it
        return iter(np.concatenate(mixed + batches[len(full) :]).tolist() if batches else [])


def pad_rows(histories: Sequence[np.ndarray]) -> Tensor:
    """Stack ragged catalog rows into `[B, T]`, padded with -1 on the right."""
    width = max((len(rows) for rows in histories), default=0)
    padded = np.full((len(histories), width), -1, dtype=np.int64)
    for line, rows in zip(padded, histories, strict=True):
        line[: len(rows)] = rows
    return torch.from_numpy(padded)


def _windows(length: int, size: int) -> list[tuple[int, int, int]]:
    """Cut a sequence into windows (start, end, first label), oldest first; steps of half a window from the end."""
    step, windows, end = max(size // 2, 1), [], length
    while end > size:
        windows.append((end - size, end, end - step))
        end -= step
    return [(0, end, 0)][: min(end, 1)] + windows[::-1]


def _cut(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [order[start : start + size] for start in range(0, len(order), size)]
