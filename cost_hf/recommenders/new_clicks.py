"""Clicks that come after training, for recommenders that count: which of them are new, as catalog rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cost_hf.data.cells import plain_value
from cost_hf.data.errors import DataError
from cost_hf.data.events import WEIGHT
from cost_hf.data.row_lists import RowLists
from cost_hf.data.schema import as_numbers
from cost_hf.data.splits import user_starts
from cost_hf.data.tables import read_interactions
from cost_hf.semantic_ids.item_ids import item_id_list
from cost_hf.semantic_ids.item_list import ItemRows

COUNTED = "counted"  # column of a click log


@dataclass(frozen=True, eq=False)
class NewClicks:
    """Sequences of clicks whose first ones may have been counted already.

    Args:
        sequences: catalog rows of S users, oldest first; arrays are taken as well.
        counted: how many first clicks of every sequence are in the counts already, int64 `[S]`.
        weights: what each click counts, by its event, int64 arrays like `sequences`; None where all count 1.

    Examples:
        >>> import numpy as np
        >>> NewClicks([np.array([0, 1, 2]), np.array([1])], np.array([2, 0]))
        NewClicks(2 clicks of 2 users)
    """

    sequences: RowLists
    counted: np.ndarray
    weights: RowLists | None = None

    def __post_init__(self) -> None:
        """Hold the sequences in one array."""
        object.__setattr__(self, "sequences", RowLists.of(self.sequences))
        object.__setattr__(self, "weights", None if self.weights is None else RowLists.of(self.weights))

    def __repr__(self) -> str:
        """Return the number of clicks to count and of their users."""
        users = int((self.sequences.lengths > self.counted).sum())
        return f"NewClicks({len(self)} clicks of {users} users)"

    def __len__(self) -> int:
        """Return the number of clicks to count."""
        return int((self.sequences.lengths - self.counted).sum())

    @classmethod
    def of_new_users(cls, sequences: Sequence[np.ndarray], weights: Sequence[np.ndarray] | None = None) -> "NewClicks":
        """Return whole sequences, of which nothing was counted before."""
        counted = np.zeros(len(sequences), dtype=np.int64)
        return cls(RowLists.of(sequences), counted, None if weights is None else RowLists.of(weights))

    @classmethod
    def read(cls, clicks: Any, catalog: ItemRows, *, counted: Sequence[int] | None = None) -> "NewClicks":
        """Return clicks in any form that `Recommender.update_from` takes; arguments and errors are described there."""
        if isinstance(clicks, str | Path | pd.DataFrame | Mapping) or hasattr(clicks, "to_pandas"):
            if counted is not None:
                raise ValueError(
                    f"counted= belongs to sequences, got it with a table; give the table a column {COUNTED!r} that is "
                    "true in the rows of clicks that were counted already"
                )
            return cls._of_table(read_interactions(clicks), catalog)
        return cls._of_sequences(clicks, catalog, counted)

    @property
    def earlier(self) -> RowLists:
        """The part of every sequence that was counted already."""
        return self._first(self.sequences)

    @property
    def earlier_weights(self) -> RowLists | None:
        """What the clicks that were counted already count; None where all count 1."""
        return None if self.weights is None else self._first(self.weights)

    @property
    def later(self) -> RowLists:
        """The part of every sequence that is to be counted."""
        return self._last(self.sequences)

    @property
    def later_weights(self) -> RowLists | None:
        """What the clicks that are to be counted count; None where all count 1."""
        return None if self.weights is None else self._last(self.weights)

    def clicks_of_items(self, num_items: int) -> np.ndarray:
        """Return what the clicks on each catalog row that are to be counted add up to, int64 `[N]`."""
        weights = None if self.later_weights is None else self.later_weights.concatenated()
        return np.bincount(self.later.concatenated(), weights, minlength=num_items).astype(np.int64)

    def _first(self, parts: RowLists) -> RowLists:
        return RowLists(parts.rows, parts.starts, self.counted)

    def _last(self, parts: RowLists) -> RowLists:
        return RowLists(parts.rows, parts.starts + self.counted, parts.lengths - self.counted)

    @classmethod
    def _of_table(cls, clicks: pd.DataFrame, catalog: ItemRows) -> "NewClicks":
        is_counted = _flags(clicks)
        starts = user_starts(clicks)
        is_first = np.zeros(len(clicks), dtype=bool)
        is_first[starts] = True
        follows = np.flatnonzero(~is_first[1:] & is_counted[1:] & ~is_counted[:-1])
        if len(follows):
            raise DataError(
                f"interactions.{COUNTED}: expected the first clicks of a user to be those that were counted, got a "
                f"later one of user_id {clicks['user_id'].iloc[follows[0]]!r} ({len(follows)} clicks like this); sort "
                "the log as it was in training, or mark the clicks before them too"
            )
        rows = np.asarray(catalog.rows_of(clicks["item_id"].tolist()), dtype=np.int64)
        lengths = np.diff(np.append(starts, len(clicks)))
        counted = np.add.reduceat(is_counted.astype(np.int64), starts)
        weights = RowLists(_weights(clicks), starts, lengths) if WEIGHT in clicks else None
        return cls(RowLists(rows, starts, lengths), counted, weights)

    @classmethod
    def _of_sequences(cls, clicks: Any, catalog: ItemRows, counted: Sequence[int] | None) -> "NewClicks":
        if not isinstance(clicks, Iterable):
            raise ValueError(
                f"clicks must be a table, the path of one, or a list of sequences of item ids, got {clicks!r:.80}"
            )
        listed = list(clicks)
        sequences = [item_id_list(one, name=f"sequence {number}") for number, one in enumerate(listed)]
        counts = np.zeros(len(sequences), dtype=np.int64) if counted is None else np.asarray(counted)
        lengths = np.array([len(one) for one in sequences], dtype=np.int64)
        is_whole = counts.shape == lengths.shape and (counts.dtype.kind in "iu" or not len(lengths))
        if not is_whole or (counts < 0).any() or (counts > lengths).any():
            raise ValueError(
                f"counted must hold one whole number for each of the {len(sequences)} sequences, from 0 to its length, "
                f"got {counted!r:.80}"
            )
        rows = np.asarray(catalog.rows_of([item for one in sequences for item in one]), dtype=np.int64)
        return cls(RowLists.joined(rows, lengths), counts.astype(np.int64))


def _weights(clicks: pd.DataFrame) -> np.ndarray:
    """Return what each click of a log counts, int64 `[clicks]`."""
    values = as_numbers(clicks[WEIGHT]).to_numpy(dtype=np.float64, na_value=np.nan)
    is_wrong = ~(np.isfinite(values) & (values >= 0) & (values % 1 == 0))
    if is_wrong.any():
        raise DataError(
            f"interactions.{WEIGHT}: expected a whole number of 0 or more in every row, got "
            f"{plain_value(clicks[WEIGHT], int(is_wrong.argmax()))!r} ({int(is_wrong.sum())} like this); correct the "
            "column, or drop it where all clicks count 1"
        )
    return values.astype(np.int64)


def _flags(clicks: pd.DataFrame) -> np.ndarray:
    """Return which clicks were counted already, bool `[clicks]`."""
    if COUNTED not in clicks:
        return np.zeros(len(clicks), dtype=bool)
    values = clicks[COUNTED]
    known = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    flags = [known.get(str(value).strip().lower()) for value in values]
    if None in flags:
        raise DataError(
            f"interactions.{COUNTED}: expected true or false (or 1 or 0) in every row, got "
            f"{values.iloc[flags.index(None)]!r}; correct the column, or drop it where no click was counted before"
        )
    return np.array(flags, dtype=bool)
