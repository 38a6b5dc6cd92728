"""Lists of catalog rows, one a user or case, as slices of one array: no Python object a list.

The histories of a user's cases contain each other, so a slice costs 16 bytes where an array of its own would cost the
history again, and a numpy view of it more than a hundred bytes.
"""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

BLOCK_ROWS = 2**22  # rows that are copied at a time: 32 MiB


class RowLists(Sequence[np.ndarray]):
    """S lists of catalog rows, or of a number for each row of such lists.

    Args:
        rows: what the lists are slices of, int64; other numbers keep their type.
        starts: where each list begins in `rows`, int64 `[S]`; lists may overlap.
        lengths: of the lists, int64 `[S]`.

    Examples:
        >>> import numpy as np
        >>> histories = RowLists(np.array([4, 7, 9]), np.array([0, 0]), np.array([1, 2]))
        >>> [history.tolist() for history in histories]
        [[4], [4, 7]]
    """

    def __init__(self, rows: np.ndarray, starts: np.ndarray, lengths: np.ndarray):
        self.rows = rows
        self.starts = starts
        self.lengths = lengths

    @classmethod
    def joined(cls, rows: np.ndarray, lengths: np.ndarray) -> "RowLists":
        """Return lists that follow each other in `rows`."""
        return cls(rows, np.cumsum(lengths) - lengths, lengths)

    @classmethod
    def of(cls, lists: Sequence[np.ndarray]) -> "RowLists":
        """Return lists of any kind as slices of one array."""
        if isinstance(lists, RowLists):
            return lists
        lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        rows = np.concatenate(lists) if len(lists) else np.empty(0, np.int64)
        if rows.dtype.kind in "iu" or not rows.size:
            rows = rows.astype(np.int64, copy=False)
        return cls.joined(rows, lengths)

    def __repr__(self) -> str:
        """Summarise the size."""
        return f"RowLists({len(self)} lists of {int(self.lengths.sum())} rows)"

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice) -> "RowLists": ...

    def __getitem__(self, index: int | slice) -> "np.ndarray | RowLists":
        if isinstance(index, slice):
            return self.take(index)
        start = self.starts[index]
        return self.rows[start : start + self.lengths[index]]

    def __iter__(self) -> Iterator[np.ndarray]:
        rows = self.rows
        for start, length in zip(self.starts.tolist(), self.lengths.tolist(), strict=True):
            yield rows[start : start + length]

    def take(self, chosen: np.ndarray | slice) -> "RowLists":
        """Return some of the lists, by their numbers, a mask or a slice; rows are not copied."""
        return RowLists(self.rows, self.starts[chosen], self.lengths[chosen])

    def concatenated(self) -> np.ndarray:
        """Return the rows of all lists in order; lists that follow each other are not copied."""
        if not len(self):
            return self.rows[:0]
        if (self.starts[1:] == self.starts[:-1] + self.lengths[:-1]).all():
            return self.rows[self.starts[0] : self.starts[-1] + self.lengths[-1]]
        ends = np.cumsum(self.lengths)
        return self.rows[np.arange(ends[-1]) + np.repeat(self.starts - (ends - self.lengths), self.lengths)]

    def are_inside(self) -> bool:
        """Return whether every list is a slice of the rows, as those of a damaged file may not be."""
        ends = self.starts + self.lengths
        return min(self.starts.min(initial=0), self.lengths.min(initial=0)) >= 0 and ends.max(initial=0) <= len(
            self.rows
        )

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield what `concatenated` returns, in parts with the bounds of `bounds`."""
        for start, end in self.bounds():
            yield self[start:end].concatenated()

    def bounds(self) -> Iterator[tuple[int, int]]:
        """Yield the first and the last list of blocks of at most `BLOCK_ROWS` rows in total, or of one longer list."""
        ends = np.cumsum(self.lengths)
        start = 0
        while start < len(self):
            before = int(ends[start - 1]) if start else 0
            end = max(start + 1, int(np.searchsorted(ends, before + BLOCK_ROWS, side="right")))
            yield start, end
            start = end
