"""An immutable state of a recommender's catalog: what one request reads.

An update builds the next snapshot and replaces the present one by one assignment, so requests in other threads see the
catalog before the update or after it, never a mixture.
"""

import threading
from collections.abc import Sequence
from copy import copy
from functools import cached_property
from typing import Any, ClassVar, Self
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from cost_hf.recommenders.rankers import popularity_order
from cost_hf.semantic_ids.catalog_mask import CatalogMask
from cost_hf.semantic_ids.item_columns import ItemColumns
from cost_hf.semantic_ids.item_list import ItemRows
from cost_hf.semantic_ids.where import Filter, Where

KEPT_FILTERS = 32  # compiled masks of filters, those used last; one takes up to 30 bytes an item


class CatalogSnapshot:
    """A catalog with the training clicks of its rows; immutable.

    Args:
        catalog: the items.
        clicks: training clicks of the rows that existed at training, `[M]`, M at most N; later rows have none.

    Attributes:
        of_columns: cached properties that depend on the columns of the catalog.
    """

    of_columns: ClassVar[tuple[str, ...]] = ()

    def __init__(self, catalog: ItemRows, clicks: np.ndarray):
        self.catalog = catalog
        self.popularity = np.zeros(len(catalog), dtype=np.int64)
        self.popularity[: len(clicks)] = clicks[: len(catalog)]
        self._start_caches()

    def _start_caches(self) -> None:
        # callers' masks fitted to this catalog; None for those that fit as they are
        self._fitted: WeakKeyDictionary[CatalogMask, CatalogMask | None] = WeakKeyDictionary()
        self._filters: dict[Any, CatalogMask] = {}  # masks of filters by their keys, the one used last at the end
        self._filtering = threading.Lock()

    def __repr__(self) -> str:
        """Name the catalog."""
        return f"{type(self).__name__}({self.catalog!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy, without the caches of this process's masks."""
        own = ("_fitted", "_filters", "_filtering")
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what `__getstate__` returned."""
        self.__dict__.update(state)
        self._start_caches()

    def with_columns(self, columns: ItemColumns) -> Self:
        """Return the snapshot of the same items with other columns; what a search is made of is shared."""
        other = copy(self)
        other.catalog = self.catalog.with_columns(columns)
        for name in self.of_columns:
            other.__dict__.pop(name, None)
        return other

    def mask(
        self,
        *,
        allowed: Sequence[str] | None = None,
        denied: Sequence[str] | None = None,
        where: Where | None = None,
    ) -> CatalogMask:
        """Return the mask of these items; removed ones are never allowed."""
        if where is not None and allowed is None and denied is None:
            return self.filtered(where)
        mask = CatalogMask.from_item_ids(self.catalog, allowed=allowed, denied=denied)
        return mask if where is None else self.filtered(where).within(mask.dense(1)[0])

    def filtered(self, where: Where) -> CatalogMask:
        """Return the mask of the items that a filter keeps, compiled once for equal filters.

        Raises:
            ValueError: as `CatalogMask.where`.
        """
        chosen = Filter(where, self.catalog.columns)
        key = chosen.key
        with self._filtering:
            mask = self._filters.pop(key, None)
            if mask is None:
                mask = CatalogMask.where(self.catalog, chosen)
            self._filters[key] = mask
            if len(self._filters) > KEPT_FILTERS:
                del self._filters[next(iter(self._filters))]
        return mask

    def base_mask(
        self,
        allowed: Sequence[str] | CatalogMask | Tensor | None,
        denied: Sequence[str] | None,
        where: Where | None = None,
    ) -> CatalogMask | None:
        """Return the mask of what a request allows and denies, without removed items; None where all are allowed.

        Raises:
            KeyError, ValueError: as `CatalogMask.from_item_ids`, `CatalogMask.where` and, for masks,
                `CatalogMask.for_catalog`.
        """
        if where is None:
            return self._listed_mask(allowed, denied)
        mask = self.filtered(where)
        if allowed is None and denied is None:
            return mask
        # what the filter keeps has no removed items
        own = self._listed_mask(allowed, denied)
        return mask if own is None else own.within(mask.dense(1)[0])

    def _listed_mask(
        self, allowed: Sequence[str] | CatalogMask | Tensor | None, denied: Sequence[str] | None
    ) -> CatalogMask | None:
        """Return the mask of a request without a filter."""
        if not isinstance(allowed, CatalogMask | Tensor):
            return self._present if allowed is None and denied is None else self.mask(allowed=allowed, denied=denied)
        if isinstance(allowed, Tensor):
            mask = CatalogMask(len(self.catalog), allowed).for_catalog(self.catalog)
        else:
            mask = self._for_this(allowed)
        return mask if denied is None else mask.within(self.mask(denied=denied).dense(1)[0])

    def _for_this(self, mask: CatalogMask) -> CatalogMask:
        """Return a caller's mask fitted to this state of the catalog, computed once for each mask."""
        if mask in self._fitted:
            return self._fitted[mask] or mask
        fitted = mask.for_catalog(self.catalog)
        self._fitted[mask] = None if fitted is mask else fitted  # a value that is its own key would never be freed
        return fitted

    def cold_mask(self, mask: CatalogMask | None) -> CatalogMask:
        """Return `mask` restricted to items without a click in training."""
        return self._cold if mask is None else mask.within(self._cold_rows)

    @cached_property
    def has_cold_items(self) -> bool:
        """True where an item without a click in training may be recommended."""
        return bool(self._cold_rows.any())

    @cached_property
    def popularity_order(self) -> np.ndarray:
        """Catalog rows, most clicked first, then by item id, `[N]`."""
        return popularity_order(self.popularity, self.catalog.item_ids)

    @cached_property
    def tie_ranks(self) -> np.ndarray:
        """Place of every catalog row in `popularity_order`, `[N]`."""
        return self.popularity_order.argsort()

    @cached_property
    def _cold_rows(self) -> Tensor:
        return torch.from_numpy((self.popularity == 0) & ~self.catalog.removed)

    @cached_property
    def _cold(self) -> CatalogMask:
        return CatalogMask(len(self.catalog), self._cold_rows)

    @cached_property
    def _present(self) -> CatalogMask | None:
        """Mask of the items that are not removed; None where none is removed."""
        return self.mask() if self.catalog.removed.any() else None
