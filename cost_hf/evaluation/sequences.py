"""Sequences as flat arrays, to count clicks and transitions without a loop over users."""

from collections.abc import Sequence

import numpy as np

from cost_hf.data.row_lists import RowLists


def joined(sequences: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return all catalog rows in order and the number of the sequence that each belongs to, int64 `[S]` each."""
    lists = RowLists.of(sequences)
    return lists.concatenated().astype(np.int64, copy=False), np.repeat(np.arange(len(lists)), lists.lengths)


def consecutive_pairs(sequences: Sequence[np.ndarray]) -> np.ndarray:
    """Return every (item, next item) of a sequence, int64 `[P, 2]`; pairs of equal items are kept.

    Examples:
        >>> consecutive_pairs([np.array([4, 7, 7]), np.array([1])]).tolist()
        [[4, 7], [7, 7]]
    """
    rows, owners = joined(sequences)
    is_pair = owners[:-1] == owners[1:]
    return np.stack([rows[:-1][is_pair], rows[1:][is_pair]], axis=1)


def click_counts(
    sequences: Sequence[np.ndarray], *, num_items: int, weights: Sequence[np.ndarray] | None = None
) -> np.ndarray:
    """Return clicks per catalog row, int64 `[N]`.

    Args:
        sequences: catalog rows of every user.
        num_items: N, size of the catalog.
        weights: what each click counts, whole numbers; 1 by default.

    Raises:
        ValueError: for rows outside the catalog.

    Examples:
        >>> click_counts([np.array([0, 2]), np.array([2])], num_items=4).tolist()
        [1, 0, 2, 0]
    """
    rows, _ = joined(sequences)
    if len(rows) and (rows.min() < 0 or rows.max() >= num_items):
        raise ValueError(
            f"sequences must hold catalog rows 0 … {num_items - 1}, got {int(rows.min())!r} … {int(rows.max())!r}; "
            "take them from a split of the same catalog"
        )
    if weights is None:
        return np.bincount(rows, minlength=num_items)
    return np.bincount(rows, RowLists.of(weights).concatenated(), num_items).astype(np.int64)
