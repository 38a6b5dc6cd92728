"""Sequence packing: several sequences in one row of a batch, without attention between them.

Batches of short histories padded to their longest are mostly padding. Packed, a row holds several users in sequence:
position ids restart at each of them and attention is block-diagonal. The training step is the same: same users, same
labels, same loss. The mask is explicit: `transformers` would derive the blocks from the position ids, but only where no
cache is built, and without a mask users would see each other.
"""

from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

SLACK = 7  # tokens that a row may be longer than the longest sequence
MAX_TIMES = 4  # width of a row in longest sequences, at most, where all of them continue a shared prefix


@dataclass(frozen=True)
class Packing:
    """Positions of the tokens of B sequences in `num_rows` rows of `width` columns.

    Attributes:
        num_rows: R.
        width: S, tokens of the fullest row.
        owners: sequence of every token, `[T]`, in the order of the sequences.
        positions: position of every token in its own sequence, `[T]`.
        cells: index of every token in the flattened `[R, S]` grid, `[T]`.
    """

    num_rows: int
    width: int
    owners: np.ndarray
    positions: np.ndarray
    cells: np.ndarray

    def grid(self, values: np.ndarray, *, fill: int) -> Tensor:
        """Return values of the tokens `[T]` as a grid `[R, S]` with `fill` after a row's last sequence.

        It is int64, or float32 for such values.
        """
        flat = np.full(self.num_rows * self.width, fill, dtype=np.float32 if values.dtype == np.float32 else np.int64)
        flat[self.cells] = values
        return torch.from_numpy(flat.reshape(self.num_rows, self.width))

    def attention_mask(
        self, *, shared: int = 0, branches: np.ndarray | None = None, forks: np.ndarray | None = None
    ) -> Tensor:
        """Return the additive float mask `[R, 1, P + S, P + S]`: a token attends to its own sequence up to itself.

        Padding attends to padding, since a softmax over nothing would be NaN.

        Args:
            shared: P, leading columns of every row that all of its sequences continue; they attend to themselves only.
            branches: number of the branch that a token belongs to, `[T]`, 0 for the sequence itself. The tokens of a
                branch follow those of the sequence; they attend to their branch and to the sequence up to its fork, and
                nothing else attends to them. None where there are no branches.
            forks: number of tokens of the sequence that a token of a branch attends to, `[T]`.
        """
        segments = functional.pad(self.grid(self.owners, fill=-1), (shared, 0), value=-2)
        # in place: many users in long rows make a mask of gigabytes, which must not be held twice
        is_visible = segments[:, :, None] == segments[:, None, :]
        is_visible[:, shared:, :shared] = True
        is_visible.tril_()
        if branches is not None and forks is not None:
            branch = functional.pad(self.grid(branches, fill=0), (shared, 0), value=0)
            position = functional.pad(self.grid(self.positions, fill=0), (shared, 0), value=-1)
            fork = functional.pad(self.grid(forks, fill=0), (shared, 0), value=0)
            is_before_fork = (branch == 0)[:, None, :] & (position[:, None, :] < fork[:, :, None])
            is_visible &= is_before_fork.logical_or_(branch[:, :, None] == branch[:, None, :])
        hidden = torch.finfo(torch.float32).min
        return torch.full(is_visible.shape, hidden, dtype=torch.float32).masked_fill_(is_visible, 0.0)[:, None]


def pack(lengths: np.ndarray, *, shared: int = 0) -> Packing:
    """Pack sequences first-fit-decreasing into rows hardly longer than the longest of them.

    Attention grows with the square of the width, so rows are at most `SLACK` tokens longer than the longest sequence:
    lengths come in steps of an item, and a few tokens often make room for one more user. Of these widths the one with
    the fewest cells wins. Tokens of a shared prefix count as cells of every row, which favours longer rows: then up to
    `MAX_TIMES` times the longest sequence is tried.

    Args:
        lengths: tokens of every sequence, at least 1, `[B]`.
        shared: tokens of the prefix of every row that its sequences continue.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    if len(lengths) == 0 or lengths.min() < 1:
        raise ValueError(f"every sequence must have a token, got lengths {lengths.tolist()}; drop empty ones")
    order = np.argsort(-lengths, kind="stable")
    longest = int(lengths.max())
    widths = [
        times * longest + extra for times in range(1, MAX_TIMES + 1 if shared else 2) for extra in range(SLACK + 1)
    ]
    layouts = [_first_fit(lengths[order].tolist(), width) for width in widths]
    rows, starts, used = min(layouts, key=lambda layout: len(layout[2]) * (shared + max(layout[2])))
    owners = np.repeat(np.arange(len(lengths)), lengths)
    positions = np.arange(len(owners)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    first_cells = np.empty_like(lengths)
    first_cells[order] = np.array(rows) * max(used) + starts
    return Packing(len(used), max(used), owners, positions, first_cells[owners] + positions)


def _first_fit(lengths: list[int], capacity: int) -> tuple[list[int], list[int], list[int]]:
    """Put each sequence in the first row with room; return rows and first columns `[B]` and used columns `[R]`.

    Neighbours of one length fill row after row, so the work grows with the number of lengths, not of sequences.
    """
    rows: list[int] = []
    starts: list[int] = []
    used: list[int] = []
    for length, same in groupby(lengths):
        left = sum(1 for _ in same)
        row = 0
        while left:
            if row == len(used):
                used.append(0)
            number = min(left, (capacity - used[row]) // length)
            rows += [row] * number
            starts += range(used[row], used[row] + number * length, length)
            used[row] += number * length
            left = left - number
            row = row + 1
    return rows, starts, used
