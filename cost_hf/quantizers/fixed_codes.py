"""Codes that need no item vectors: random ones, the floor of any comparison, and those of a category tree."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cost_hf.options import ItemFacts, require_column
from cost_hf.quantizers.base import CodesOptions

if TYPE_CHECKING:
    import pandas as pd

    from cost_hf.quantizers.fit import CodesResult, FitInputs


@dataclass
class FixedOptions(CodesOptions):
    """What codes without a model have in common."""

    uses_vectors: ClassVar[bool] = False
    needs_item_ids: ClassVar[bool] = True
    follows_reassignment: ClassVar[bool] = False
    collisions: ClassVar[str | None] = "append"  # other policies move items by their vectors


@CodesOptions.register("random")
@dataclass
class RandomOptions(FixedOptions):
    """Uniform codes drawn from item id and seed."""

    is_control: ClassVar[bool] = True
    has_parallel_levels: ClassVar[bool] = True

    def fit(self, inputs: FitInputs, *, folder: Path, digest: str, seed: int) -> CodesResult:
        """Draw the codes."""
        from cost_hf.quantizers.fit import CodesResult

        codes = random_codes(inputs.item_ids, self.level_sizes, seed=seed)
        return CodesResult.of_codes(codes, self.level_sizes, inputs)


@CodesOptions.register("category")
@dataclass
class CategoryOptions(FixedOptions):
    """One level for each depth of the category tree."""

    category_column: str = field(default="categories", metadata={"help": "comma-separated column from broad to narrow"})

    @property
    def item_columns(self) -> list[str]:
        """Return the category column."""
        return [self.category_column]

    def check_items(self, items: ItemFacts) -> None:
        """Raise ValueError for a missing column, or a parent with more names than its level has codes."""
        super().check_items(items)
        category_codes(items.table, self.category_column, self.level_sizes)

    def fit(self, inputs: FitInputs, *, folder: Path, digest: str, seed: int) -> CodesResult:
        """Number the categories."""
        from cost_hf.quantizers.fit import CodesResult

        codes = category_codes(inputs.items, self.category_column, self.level_sizes)
        return CodesResult.of_codes(codes, self.level_sizes, inputs)


def random_codes(item_ids: Sequence[str], level_sizes: Sequence[int], *, seed: int) -> np.ndarray:
    """Return uniform codes `[N, L]` int64; an item's codes depend on its id and the seed only, not on other items."""
    width = 8 * len(level_sizes)
    drawn = b"".join(hashlib.shake_128(f"{seed}:{item_id}".encode()).digest(width) for item_id in item_ids)
    numbers = np.frombuffer(drawn, dtype="<u8").reshape(len(item_ids), len(level_sizes))
    return (numbers % np.asarray(level_sizes, dtype=np.uint64)).astype(np.int64)


def category_codes(items: pd.DataFrame, column: str, level_sizes: Sequence[int]) -> np.ndarray:
    """Return codes `[N, L]` int64 of categories from broad to narrow: lists, or texts with commas.

    The code of level m is the position of the m-th name among the names below the same parent, in sorted order. Items
    with fewer names get the empty name there, which sorts first; names beyond the last level are left out.

    Raises:
        ValueError: for a missing column, or a parent with more names than the level has codes.
    """
    from cost_hf.data.cells import column_parts

    require_column(column, items, field="codes.category_column")
    names = column_parts(items[column]).reindex(columns=range(len(level_sizes)), fill_value="")
    codes = np.empty((len(items), len(level_sizes)), dtype=np.int64)
    parent = np.zeros(len(items), dtype=np.int64)
    for level, size in enumerate(level_sizes):
        # objects, since an array of strings would give each the width of the longest
        _, name = np.unique(names[level].to_numpy(dtype=object), return_inverse=True)
        pairs, path = np.unique(np.stack([parent, name], 1), axis=0, return_inverse=True)  # sorted by parent, then name
        first = np.searchsorted(pairs[:, 0], pairs[:, 0])
        path = path.reshape(-1)
        codes[:, level] = (np.arange(len(pairs)) - first)[path]
        widest = int(codes[:, level].max(initial=0)) + 1
        if widest > size:
            raise ValueError(
                f"category codes need {widest} codes on level {level + 1}, got codes.level_sizes="
                f"{list(level_sizes)!r}; raise it to at least {widest} there, or merge categories in {column!r}"
            )
        parent = path
    return codes
