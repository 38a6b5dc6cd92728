"""Semantic IDs as features: prefixes are categories of growing detail that similar items share.

A ranking model can take them beside, or instead of, item ids: an item without clicks has the prefixes of its likes
(arXiv 2306.08121 uses SID prefixes so).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np


@dataclass(frozen=True, eq=False)
class PrefixFeatures:
    """Categories of items, one column per prefix length.

    Attributes:
        ids: int64 `[N, n]`, in catalog row order; column l holds the number of the prefix of length l + 1.
        sizes: number of categories of every column, n numbers: rows of an embedding table.
    """

    ids: np.ndarray
    sizes: tuple[int, ...]

    def __repr__(self) -> str:
        return f"PrefixFeatures({len(self.ids)} items, {self.sizes} categories)"


def prefix_features(codes: np.ndarray, level_sizes: Sequence[int], length: int) -> PrefixFeatures:
    """Return the categories of SIDs `[N, L]`.

    A prefix has the number that its codes spell in the mixed base of the level sizes. It depends on the codes alone, so
    it is the same in every version of a catalog and in every process. Wide tables are hashed by the reader, as usual.

    Args:
        length: prefixes of 1 … length codes.

    Raises:
        ValueError: for a length outside 1 … L, or more categories than an int64 counts.
    """
    is_number = isinstance(length, Integral) and not isinstance(length, bool)
    if not is_number or not 1 <= length <= len(level_sizes):
        raise ValueError(f"prefixes have 1 … {len(level_sizes)} codes, got length {length!r:.80}; choose one of these")
    sizes = [int(np.prod([int(size) for size in level_sizes[: end + 1]], dtype=object)) for end in range(length)]
    if sizes[-1] > np.iinfo(np.int64).max:
        raise ValueError(
            f"prefixes of {length} codes have {sizes[-1]} categories, more than an int64 counts; shorten them"
        )
    columns = np.empty((len(codes), length), dtype=np.int64)
    number = np.zeros(len(codes), dtype=np.int64)
    for level in range(length):
        number = number * int(level_sizes[level]) + codes[:, level]
        columns[:, level] = number
    return PrefixFeatures(columns, tuple(sizes))
