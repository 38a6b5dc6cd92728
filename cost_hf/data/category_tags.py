"""Categories of items as numbers, for models that learn to predict them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cost_hf.data.cells import column_parts
from cost_hf.options import require_column

NO_TAG = -1


@dataclass(frozen=True, eq=False)
class CategoryTags:
    """Tags of N items on T levels, broad to narrow.

    Attributes:
        tags: number of each item's tag on a level, int64 `[N, T]`, -1 where it has none.
        sizes: tags of every level.
    """

    tags: np.ndarray
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, items: pd.DataFrame, column: str, *, levels: int, field: str) -> CategoryTags:
        """Return the tags of a column of categories from broad to narrow: lists, or texts with commas.

        A tag is a category with those above it: a name below two parents is two tags. A level on which all items that
        have a tag have the same one says nothing, and is left out.

        Args:
            items: N rows.
            column: of the categories; missing values and empty names are no tags.
            levels: most levels, T.
            field: recipe field of the column, for errors.

        Raises:
            ValueError: for a column that is not there, or one without a level of at least two tags.

        Examples:
            >>> items = pd.DataFrame({"categories": ["Beauty,Hair,Combs", "Beauty,Hair", "Beauty,Skin", None]})
            >>> found = CategoryTags.of(items, "categories", levels=3, field="isr.tag_column")
            >>> found.sizes, found.tags.tolist()
            ((2,), [[0], [0], [1], [-1]])
        """
        require_column(column, items, field=field)
        names = column_parts(items[column])
        paths = pd.Series([()] * len(items), index=items.index, dtype=object)
        tags: list[np.ndarray] = []
        sizes: list[int] = []
        has_tag = np.ones(len(items), dtype=bool)
        for depth in names:
            name = names[depth]
            has_tag = has_tag & (name != "").to_numpy()
            paths = paths + name.map(lambda part: (part,))
            known = sorted(set(paths[has_tag]))
            if len(tags) == levels:
                break
            if len(known) > 1:
                numbers = {path: number for number, path in enumerate(known)}
                level = [numbers[path] if has else NO_TAG for path, has in zip(paths, has_tag, strict=True)]
                tags.append(np.array(level, dtype=np.int64))
                sizes.append(len(known))
        if not tags:
            different = names[(names != "").any(axis=1)].drop_duplicates()
            raise ValueError(
                f"{field}={column!r} must list categories of at least two values, got {len(different)} "
                "different lists without such a level; name another column, or null"
            )
        return cls(np.stack(tags, 1), tuple(sizes))
