"""Tags of items, level by level, from a column of comma-separated names."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    import pandas as pd


class ItemTags(NamedTuple):
    """Tags of items.

    Attributes:
        ids: number of the tag of each level, int64 `[N, T]`; -1 where an item has none, or one that no item has that
            fitting may see.
        sizes: numbers of tags, T of them.
    """

    ids: Tensor
    sizes: tuple[int, ...]

    def vectors(self, items: Tensor) -> list[Tensor]:
        """Return the unit mean of the vectors `[N, E]` of the items of every tag, `[tags, E]` each."""
        means = []
        for level, size in enumerate(self.sizes):
            own = self.ids[:, level]
            members = functional.one_hot(own.clamp_min(0), size).to(items) * (own >= 0)[:, None]  # [N, tags]
            means.append(functional.normalize(members.T @ items, dim=1))
        return means


def item_tags(items: pd.DataFrame, column: str, levels: int, fit_rows: np.ndarray | None) -> ItemTags:
    """Number the tags of items; a tag is a name below its broader ones, numbered in sorted order.

    Leading levels at which all items have the same tag are skipped: they divide nothing.

    Args:
        items: items table.
        column: of names from broad to narrow, separated by commas.
        levels: most levels of tags.
        fit_rows: items whose tags are numbered, bool `[N]`; None for all.

    Raises:
        ValueError: for a missing column, or one that divides no items.
    """
    if column not in items:
        raise ValueError(
            f"tags need the items column {column!r}, found {', '.join(map(str, items.columns))}; set codes.tag_column, "
            "or to null for a quantizer without tags"
        )
    paths = [_path(text) for text in items[column].fillna("").astype(str)]
    seen = [path for path, is_seen in zip(paths, _all_if_none(fit_rows, len(paths)), strict=True) if is_seen]
    depth = max(map(len, seen), default=0)
    first = 0
    while first < depth and len({path[: first + 1] for path in seen if len(path) > first}) < 2:
        first += 1
    chosen = range(first, min(depth, first + levels))
    if not chosen:
        raise ValueError(
            f"items column {column!r} divides no items that fitting may see: none has a tag, or all have the same; "
            "name another codes.tag_column, or set it to null"
        )
    ids, sizes = [], []
    for level in chosen:
        names = sorted({path[: level + 1] for path in seen if len(path) > level})
        numbers = {name: number for number, name in enumerate(names)}
        ids.append([numbers.get(path[: level + 1], -1) if len(path) > level else -1 for path in paths])
        sizes.append(len(names))
    return ItemTags(torch.tensor(ids, dtype=torch.int64).T.contiguous(), tuple(sizes))


def _path(text: str) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",")]
    return tuple(names[: names.index("")] if "" in names else names)


def _all_if_none(fit_rows: np.ndarray | None, count: int) -> np.ndarray:
    return np.ones(count, dtype=bool) if fit_rows is None else fit_rows
