"""Codes that nothing is trained for: random ones, the floor of every comparison, and the categories of the data."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd


def random_codes(item_ids: Sequence[str], level_sizes: Sequence[int], *, seed: int) -> np.ndarray:
    """Return codes `[N, L]` drawn by a hash of (item id, seed): a new item changes no other."""
    digests = [hashlib.blake2b(f"{seed}\0{item}".encode(), digest_size=8 * len(level_sizes)) for item in item_ids]
    words = np.frombuffer(b"".join(digest.digest() for digest in digests), dtype="<u8").reshape(-1, len(level_sizes))
    return (words % np.asarray(level_sizes, dtype=np.uint64)).astype(np.int64)


def category_codes(items: pd.DataFrame, column: str, level_sizes: Sequence[int]) -> np.ndarray:
    """Return codes `[N, L]` of comma-separated categories: level l numbers the l-th name among its siblings.

    Code 0 is a missing name; siblings (names under the same parent) are numbered from 1 in sorted order.

    Raises:
        ValueError: for a missing column, or a level with more siblings than codes.
    """
    if column not in items.columns:
        raise ValueError(
            f"codes.kind category needs the column {column!r}, items have {list(map(str, items.columns))}; "
            "set codes.category_column"
        )
    texts = items[column].fillna("").astype(str)
    names = [[part.strip() for part in text.split(",") if part.strip()] for text in texts]
    codes = np.zeros((len(items), len(level_sizes)), dtype=np.int64)
    for level, size in enumerate(level_sizes):
        paths = [tuple(parts[: level + 1]) for parts in names]
        siblings: dict[tuple[str, ...], set[str]] = {}
        for path in paths:
            if len(path) == level + 1:
                siblings.setdefault(path[:-1], set()).add(path[-1])
        numbers = {
            (*parent, name): number
            for parent, children in siblings.items()
            for number, name in enumerate(sorted(children), start=1)
        }
        needed = max(numbers.values(), default=0) + 1
        if needed > size:
            raise ValueError(
                f"level {level} of {column!r} needs {needed} codes (most siblings, plus one for none), got {size}; "
                f"raise codes.level_sizes[{level}]"
            )
        codes[:, level] = [numbers.get(path, 0) if len(path) == level + 1 else 0 for path in paths]
    return codes
