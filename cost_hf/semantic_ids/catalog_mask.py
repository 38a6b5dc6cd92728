"""Which items may be recommended: stock, categories, fresh items, seen items; for all requests or for each.

A `CatalogMask` is about catalog rows and independent of a trie, so that one object serves every ranker and can be kept
between calls: the stock of a shop is built once. Seen items, a few per request, are kept as rows; no table of requests
times catalog is built for them unless a dense ranker asks for it. A mask of item ids stores the rows that it was built
for. Catalogs grow at their end, so it stays valid for every later state of these rows; where other items took their
rows after a rollback, it is refused.

`TrieMask` is such a mask compiled for a trie: which nodes still lead to an allowed item of a request. What all requests
share is one count of allowed children per node. What a request denies in addition is a short sorted list of the nodes
whose last allowed item it removes: a table of requests times nodes is never built for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from cost_hf.semantic_ids.item_ids import item_id_list
from cost_hf.semantic_ids.item_list import ItemRows, describe_items
from cost_hf.semantic_ids.options import whole_number
from cost_hf.semantic_ids.trie import ChildRanges, SidTrie, windows
from cost_hf.semantic_ids.where import Filter, Where


@dataclass(frozen=True, eq=False, repr=False)
class AllowedNodes:
    """The nodes of a trie that a mask allows, without the denied rows of single requests.

    Attributes:
        items: the mask itself, bool `[N]` or `[B, N]`.
        counts: number of allowed children (items, for a leaf) of the nodes of depth 1 … L, each `[nodes]` or
            `[B, nodes]`.
        kept: whether there are any, bool, flat, padded by one window of children.
    """

    items: Tensor
    counts: list[Tensor]
    kept: list[Tensor]

    @classmethod
    def of(cls, trie: SidTrie, items: Tensor) -> "AllowedNodes":
        """Count the allowed children of every node of `trie`, for `items` bool `[N]` or `[B, N]`."""
        table = items[..., trie.leaf_items]
        counts = [table if trie.leaf_ranges is None else _sums(table, trie.leaf_ranges)]
        for ranges in reversed(trie.ranges[1:]):
            counts.append(_sums(counts[-1] > 0, ranges))
        counts.reverse()
        rooms = trie.max_children
        kept = [pad((table > 0).flatten(), (0, room)) for table, room in zip(counts, rooms, strict=True)]
        return cls(items, counts, kept)


class TrieMask:
    """A `CatalogMask` compiled for one trie; built by `CatalogMask.on`.

    Its lookups need no host synchronisation on a GPU.

    Args:
        trie: the trie.
        batch: B, or None if the mask is the same for all requests.
        allowed: nodes that are allowed for all requests; None allows all.
        dead: result of `dead_keys`; None if no request denies rows of its own.

    Attributes:
        batch: B, or None if the mask is the same for all requests.
        is_empty: requests without any allowed item, bool `[B]`; `[1]` if the mask is the same for all requests.
    """

    def __init__(self, trie: SidTrie, *, batch: int | None, allowed: AllowedNodes | None, dead: list[Tensor] | None):
        self.batch = batch
        self._allowed = allowed
        self._dead = dead
        self._widths = [*trie.num_nodes, trie.num_items]
        first = torch.arange(trie.num_nodes[0], device=trie.device).expand(batch or 1, -1)
        self.is_empty = ~self.keeps_nodes(0, first).any(1)

    def keeps_nodes(self, level: int, nodes: Tensor, requests: Tensor | None = None) -> Tensor:
        """Return which nodes of depth `level` + 1 still lead to an allowed item, bool in the shape of `nodes`.

        Args:
            level: 0 … L - 1.
            nodes: runs of siblings as returned by `SidTrie.children`, `[B, R, m]`, or `[…, m]` with `requests`; after
                the last valid node of a run the result is undefined.
            requests: index of the request of each run, of shape `[…]`; by default the first dimension of `nodes`.
                Ignored if the mask is the same for all requests.
        """
        first = nodes[..., 0].flatten()
        size = nodes.shape[-1]
        keys = self._keys(self._widths[level], nodes[..., 0], requests)
        kept = torch.ones((), dtype=torch.bool, device=nodes.device).expand(len(first), size)
        if self._allowed is not None:
            indices = first if self._allowed.items.ndim == 1 else keys
            kept = windows(self._allowed.kept[level], size).index_select(0, indices)
        if self._dead is not None and len(self._dead[level]):
            kept = kept & _survivors(self._dead[level], keys, size)
        return kept.view(nodes.shape)

    def keeps_items(self, rows: Tensor, requests: Tensor | None = None) -> Tensor:
        """Return which catalog rows `[B, R, m]` are allowed, bool `[B, R, m]`; `requests` as in `keeps_nodes`."""
        keys = self._keys(self._widths[-1], rows, requests)
        kept = torch.ones((), dtype=torch.bool, device=rows.device).expand(len(keys))
        if self._allowed is not None:
            indices = rows.flatten() if self._allowed.items.ndim == 1 else keys
            kept = self._allowed.items.flatten().index_select(0, indices)
        if self._dead is not None and len(denied := self._dead[-1]):
            index = torch.searchsorted(denied, keys).clamp_max(len(denied) - 1)
            kept = kept & (denied.index_select(0, index) != keys)
        return kept.view(rows.shape)

    def _keys(self, width: int, numbers: Tensor, requests: Tensor | None) -> Tensor:
        """Return `request * width + number`, int64, flat, for `numbers` `[…, m]`; `requests` `[…]` as above."""
        if self.batch is None:
            return numbers.flatten().long().contiguous()
        if requests is None:
            check_batch(len(numbers), self.batch)
            requests = torch.arange(len(numbers), device=numbers.device)
        requests = requests.view(*requests.shape, *[1] * (numbers.ndim - requests.ndim))
        return (requests * width + numbers).flatten()


def _survivors(dead: Tensor, keys: Tensor, size: int) -> Tensor:
    """Return which keys of the runs `keys[r] … keys[r] + size - 1` are not in the sorted `dead`, bool `[R, size]`.

    Only the ends of a run are searched for: all entries of `dead` between them are hits, and most runs have none.
    """
    start, stop = torch.searchsorted(dead, torch.stack([keys, keys + size])).unbind()
    most = int((stop - start).max()) if keys.device.type == "cpu" else min(size, len(dead))
    index = start[:, None] + torch.arange(most, device=keys.device)
    column = dead[index.clamp_max(len(dead) - 1)] - keys[:, None]
    # an extra column receives entries beyond the end of a run
    column = column.where(index < stop[:, None], size)
    kept = torch.ones(len(keys), size + 1, dtype=torch.bool, device=keys.device)
    return kept.scatter_(1, column, False)[:, :size]


def _sums(values: Tensor, ranges: ChildRanges) -> Tensor:
    """Return the sum over the children `[..., n]` of every node, int32 `[..., nodes]`."""
    before = pad(values.cumsum(-1, dtype=torch.int32), (1, 0))
    return before[..., ranges.all_starts()].diff(dim=-1)


def dead_keys(trie: SidTrie, denied: Tensor, allowed: AllowedNodes | None) -> list[Tensor]:
    """Return sorted keys of the nodes of depth 1 … L, then of the items, that requests lose by their denied rows.

    A leaf is lost with the last of its allowed items, a node with the last of its allowed children.

    Args:
        trie: the trie.
        denied: catalog rows int64 `[B, T]`, padded with -1; repeated or removed rows are ignored.
        allowed: nodes that are allowed for all requests; None allows all.

    Returns:
        Ascending keys `request * width + number`, one int64 tensor per depth and one for items; width is the number of
        nodes of the depth, or of items.
    """
    requests, columns = (denied >= 0).nonzero(as_tuple=True)
    item_keys = (requests * trie.num_items + denied[requests, columns]).unique()
    requests = item_keys // trie.num_items
    rows = item_keys % trie.num_items
    leaves = trie.leaves[rows].long()
    counted = leaves >= 0 if allowed is None else (leaves >= 0) & allowed.items[rows]
    keys, lost = (requests * trie.num_nodes[-1] + leaves)[counted].unique(return_counts=True)
    found = [item_keys]
    for depth in range(len(trie.num_nodes), 0, -1):
        width = trie.num_nodes[depth - 1]
        nodes = keys % width
        total = _num_children(trie, depth, nodes) if allowed is None else allowed.counts[depth - 1][nodes]
        dead = keys[lost == total]
        found.append(dead)
        if depth > 1:
            parents = trie.ranges[depth - 1].parents(dead % width)
            keys, lost = (dead // width * trie.num_nodes[depth - 2] + parents).unique_consecutive(return_counts=True)
    return found[::-1]


def _num_children(trie: SidTrie, depth: int, nodes: Tensor) -> Tensor:
    if depth < len(trie.num_nodes):
        return trie.ranges[depth].spans(nodes)[1]
    return torch.ones_like(nodes) if trie.leaf_ranges is None else trie.leaf_ranges.spans(nodes)[1]


def log_legal(legal: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a term to add to log-probabilities: 0 where `legal`, else -inf; in the shape of `legal`.

    `masked_fill` branches per element and takes ten times as long for irregular masks.
    """
    return legal.view(torch.uint8).to(dtype).reciprocal_().neg_().add_(1)


def check_batch(requests: int, expected: int) -> None:
    """Raise ValueError if a mask for `expected` requests is used with another number of requests."""
    if requests != expected:
        raise ValueError(f"the mask is for {expected} requests, got {requests}; pass one row per request, in order")


FEW = 64  # a table that denies at most one in so many items per request is kept as lists of rows, which compile faster


@dataclass(frozen=True, eq=False, repr=False)
class MaskRows:
    """The catalog rows that a mask of item ids was built for.

    Attributes:
        item_ids: of the rows, N of them.
        named: rows that the caller allowed, removed or not, bool `[N]`.
        takes_new: whether rows appended later are allowed.
    """

    item_ids: tuple[str, ...]
    named: Tensor
    takes_new: bool

    def check(self, item_ids: Sequence[str]) -> None:
        """Raise ValueError unless one list of rows is a prefix of the other."""
        if item_ids is self.item_ids:
            return
        shared = min(len(item_ids), len(self.item_ids))
        if tuple(item_ids[:shared]) != self.item_ids[:shared]:
            row = next(row for row in range(shared) if item_ids[row] != self.item_ids[row])
            raise ValueError(
                f"the mask was built for other catalog rows: row {row} was item {self.item_ids[row]!r} then and is "
                f"{item_ids[row]!r} now; build it again from the current catalog"
            )

    def moved(self, item_ids: Sequence[str]) -> "MaskRows":
        """Return the same choice for another state of these rows."""
        return MaskRows(tuple(item_ids), _fitted(self.named, len(item_ids), self.takes_new), self.takes_new)


class CatalogMask:
    """Allowed items of a catalog, the same for all requests or for each of B requests; immutable.

    The tensors are copied. A mask of tensors stores only the number of rows: it is valid for the catalog that these
    rows were taken from. Masks of item ids (`from_item_ids`, `recommender.mask`) stay valid while their catalog is
    updated.

    Args:
        num_items: N, catalog rows including removed ones.
        allowed: bool `[N]`, or `[B, N]` for requests with very different items; True = allowed. All items by default.
            One row `[1, N]` applies to any number of requests, as `[N]` does.
        denied: catalog rows that each request excludes, int64 `[B, T]`, padded with -1; for requests that differ in
            few items. One row `[1, T]` applies to any number of requests.

    Attributes:
        num_items: N.
        batch: B, or None if the mask is the same for all requests.

    Raises:
        ValueError: for tensors of another dtype or shape, or rows outside the catalog.

    Examples:
        >>> from cost_hf import Catalog, CatalogMask
        >>> catalog = Catalog.from_codes(["lamp", "desk", "chair"], [[0, 1], [1, 0], [1, 1]], level_sizes=(2, 2))
        >>> mask = CatalogMask.from_item_ids(catalog, denied=["desk"])
        >>> mask.dense(1)
        tensor([[ True, False,  True]])
    """

    def __init__(self, num_items: int, allowed: Tensor | None = None, denied: Tensor | None = None):
        num_items = whole_number(num_items, "num_items", least=0)
        _check_allowed(allowed, num_items)
        _check_denied(denied, num_items)
        self._take_over(
            num_items, None if allowed is None else allowed.clone(), None if denied is None else denied.clone()
        )

    @classmethod
    def _of_own(
        cls, num_items: int, allowed: Tensor | None, denied: Tensor | None = None, rows: MaskRows | None = None
    ) -> "CatalogMask":
        """Return a mask of checked tensors, which are not copied."""
        mask = cls.__new__(cls)
        mask._take_over(num_items, allowed, denied, rows)
        return mask

    def _take_over(
        self, num_items: int, allowed: Tensor | None, denied: Tensor | None, rows: MaskRows | None = None
    ) -> None:
        if allowed is not None and allowed.ndim == 2:
            if denied is not None:
                allowed = _without_rows(allowed, denied, _lines(denied, allowed))
                denied = None
            if (few := _few_denied(allowed)) is not None:
                allowed = None
                denied = few
            elif len(allowed) == 1:
                allowed = allowed[0]
        self.num_items = num_items
        self._allowed = allowed
        self._denied = denied
        self._rows = rows
        per_request = allowed if allowed is not None and allowed.ndim == 2 else denied
        self.batch = None if per_request is None or len(per_request) == 1 else len(per_request)
        self._compiled: WeakKeyDictionary[SidTrie, AllowedNodes] = WeakKeyDictionary()
        self._carried: tuple[Sequence[str], CatalogMask] | None = None  # cached for the last other state of the rows

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without caches."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_compiled", "_carried")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state and start with empty caches."""
        self.__dict__.update(state)
        self._compiled = WeakKeyDictionary()
        self._carried = None

    def __repr__(self) -> str:
        """Summarise the size of the mask."""
        requests = "all requests" if self.batch is None else f"{self.batch} requests"
        return f"CatalogMask({self.num_items} items, for {requests})"

    @classmethod
    def of(
        cls, mask: "Tensor | CatalogMask | None", num_items: int, item_ids: Sequence[str] | None = None
    ) -> "CatalogMask | None":
        """Return `mask` as a `CatalogMask` for a catalog.

        Args:
            mask: a mask, or a bool tensor `[N]` or `[B, N]`; None is returned as None.
            num_items: N, rows of the catalog.
            item_ids: of these rows, if they are known: a mask of item ids is then extended to appended rows, as by
                `for_catalog`.

        Raises:
            ValueError: for a mask of another catalog.
        """
        if mask is None or not isinstance(mask, CatalogMask):
            return None if mask is None else cls(num_items, mask)
        return mask._for_rows(num_items, item_ids)

    @classmethod
    def from_item_ids(
        cls, catalog: ItemRows, *, allowed: Sequence[str] | None = None, denied: Sequence[str] | None = None
    ) -> "CatalogMask":
        """Build a mask of item ids for all requests; items removed from the catalog are never allowed.

        Args:
            catalog: the catalog of the items.
            allowed: only these items; all by default. Items added later are then not allowed.
            denied: not these items, even if they are in `allowed`. Without `allowed`, items added later are allowed.

        Raises:
            KeyError: for an item that is not in the catalog.
            ValueError: for one string, or a table of bools, instead of a list of ids.
        """
        if not isinstance(catalog, ItemRows):
            raise ValueError(f"catalog must be a Catalog, got {type(catalog).__name__}; see recommender.catalog")
        table = torch.full((len(catalog),), allowed is None)
        for name, item_ids in (("allowed", allowed), ("denied", denied)):
            if item_ids is not None:
                _check_item_ids(item_ids, name)
                rows = catalog.rows_of(item_id_list(item_ids, name=name, is_ordered=False))
                table[torch.from_numpy(rows)] = name == "allowed"
        present = table & torch.from_numpy(~catalog.removed)
        return cls._of_own(len(catalog), present, rows=MaskRows(catalog.item_ids, table, allowed is None))

    @classmethod
    def where(cls, catalog: ItemRows, conditions: Where | Filter) -> "CatalogMask":
        """Build the mask of the items whose columns fulfil all conditions, for all requests.

        It is that of the columns as they are: where they change, or items are added, build it again. `recommend(...,
        where=...)` does so by itself. Items removed from the catalog are never allowed.

        Args:
            catalog: the catalog of the items.
            conditions: by column, as in `where`: `(low, high)`, a list of values, or one value; or a pyarrow
                expression over the columns.

        Raises:
            ValueError: for a column that is not there, values of another type than the column's, or conditions that no
                item fulfils.

        Examples:
            >>> from cost_hf import Catalog, CatalogMask
            >>> catalog = Catalog.from_codes(["lamp", "desk", "chair"], [[0, 1], [1, 0], [1, 1]], level_sizes=(2, 2))
            >>> catalog = catalog.with_columns({"price": [30.0, 120.0, 80.0], "in_stock": [True, True, False]})
            >>> CatalogMask.where(catalog, {"price": (None, 100), "in_stock": True}).dense(1)
            tensor([[ True, False, False]])
        """
        chosen = conditions if isinstance(conditions, Filter) else Filter(conditions, catalog.columns)
        table = chosen.matches(catalog.columns)
        present = table & ~catalog.removed
        if not present.any():
            reasons = chosen.why_none(catalog.columns, ~catalog.removed)
            raise ValueError(
                f"no item of {describe_items(catalog)} fulfils where {chosen}{f' ({reasons})' if reasons else ''}; "
                "loosen a condition"
            )
        rows = MaskRows(catalog.item_ids, torch.from_numpy(table), takes_new=False)
        return cls._of_own(len(catalog), torch.from_numpy(present), rows=rows)

    def for_catalog(self, catalog: ItemRows) -> "CatalogMask":
        """Return the mask for the current state of its catalog; itself if nothing changes.

        Rows appended since are allowed if the mask was built from `denied` only, and not if it was built from
        `allowed`. Removed items are not allowed; restored ones are allowed if the mask allowed them. After a rollback
        the mask is cut to the remaining rows.

        Raises:
            ValueError: if its rows belong to other items now, for example after a rollback.
        """
        if self._rows is None:
            self.check_items(len(catalog))
            return self.within(torch.from_numpy(~catalog.removed)) if catalog.removed.any() else self
        self._rows.check(catalog.item_ids)
        rows = self._rows if catalog.item_ids is self._rows.item_ids else self._rows.moved(catalog.item_ids)
        allowed = rows.named & torch.from_numpy(~catalog.removed).to(rows.named.device)
        if rows is self._rows and self._allowed is not None and allowed.equal(self._allowed):
            return self
        return self._of_own(len(catalog), allowed, _below(self._denied, len(catalog)), rows)

    def _for_rows(self, num_items: int, item_ids: Sequence[str] | None) -> "CatalogMask":
        """Return the mask for these catalog rows, without knowing which are removed."""
        rows = self._rows
        if rows is None or item_ids is None or item_ids is rows.item_ids:
            self.check_items(num_items)
            return self
        if self._carried is not None and self._carried[0] is item_ids:
            return self._carried[1]
        rows.check(item_ids)
        allowed = None if self._allowed is None else _fitted(self._allowed, num_items, rows.takes_new)
        carried = self._of_own(num_items, allowed, _below(self._denied, num_items), rows.moved(item_ids))
        self._carried = item_ids, carried
        return carried

    def without(self, rows: Tensor) -> "CatalogMask":
        """Return the mask that also excludes catalog rows per request, int64 `[B, T]`, padded with -1.

        Raises:
            ValueError: for another dtype or shape, rows outside the catalog, or another number of requests.
        """
        _check_denied(rows, self.num_items)
        if self._denied is None:
            return self._sharing(rows.clone())
        lines = _lines(rows, self._denied)
        own = rows.to(self._denied.device)
        return self._sharing(torch.cat([self._denied.expand(lines, -1), own.expand(lines, -1)], dim=1))

    def take(self, requests: Sequence[int] | Tensor) -> "CatalogMask":
        """Return the mask of some requests `[b]`, by their indices; itself if it is the same for all requests."""
        if self.batch is None:
            return self
        lines = torch.as_tensor(requests, dtype=torch.long)
        if self._denied is not None:
            return self._sharing(self._denied[lines])
        return self._of_own(self.num_items, None if self._allowed is None else self._allowed[lines], rows=self._rows)

    def first(self, num_items: int) -> "CatalogMask":
        """Return the mask of the first `num_items` rows; itself where it has no more."""
        if num_items == self.num_items:
            return self
        allowed = None if self._allowed is None else self._allowed[..., :num_items]
        return self._of_own(num_items, allowed, _below(self._denied, num_items))

    def check_items(self, num_items: int) -> None:
        """Raise ValueError unless the mask covers `num_items` rows."""
        if self.num_items != num_items:
            raise ValueError(
                f"the mask covers {self.num_items} catalog rows, expected {num_items}; build it from the same catalog"
            )

    def within(self, allowed: Tensor) -> "CatalogMask":
        """Return the intersection of the mask with `allowed`, bool `[N]`; itself if that changes nothing."""
        _check_allowed(allowed, self.num_items)
        if self._allowed is None:
            return self if allowed.all() else self._of_own(self.num_items, allowed.clone(), self._denied)
        kept = self._allowed & allowed.to(self._allowed.device)
        if kept.equal(self._allowed):
            return self
        rows = self._rows
        if rows is not None:
            rows = MaskRows(rows.item_ids, rows.named & allowed.to(rows.named.device), rows.takes_new)
        return self._of_own(self.num_items, kept, self._denied, rows)

    def hide(self, scores: Tensor) -> Tensor:
        """Set the scores `[B, N]` of items that are not allowed to -inf, in place, and return the scores."""
        if self.batch is not None:
            check_batch(len(scores), self.batch)
        if self._allowed is not None:
            scores.masked_fill_(~self._allowed.to(scores.device), -torch.inf)
        if self._denied is not None:
            scores[_entries(self._denied.to(scores.device).expand(len(scores), -1))] = -torch.inf
        return scores

    def dense(self, batch: int) -> Tensor:
        """Return a new bool table `[batch, N]`; any `batch` is valid if the mask is the same for all requests."""
        if self.batch is not None:
            check_batch(batch, self.batch)
        table = torch.ones(1, self.num_items, dtype=torch.bool) if self._allowed is None else self._allowed
        return table.expand(batch, -1).clone() if self._denied is None else _without_rows(table, self._denied, batch)

    def on(self, trie: SidTrie) -> TrieMask:
        """Return the mask compiled for `trie`, on its device; the part that all requests share is cached per trie.

        Raises:
            ValueError: for a trie of another catalog.
        """
        mask = self._for_rows(trie.num_items, trie.item_ids)
        if mask is not self:
            return mask.on(trie)
        if self._allowed is not None and trie not in self._compiled:
            self._compiled[trie] = AllowedNodes.of(trie, self._allowed.to(trie.device))
        allowed = self._compiled.get(trie)
        dead = None if self._denied is None else dead_keys(trie, self._denied.to(trie.device), allowed)
        return TrieMask(trie, batch=self.batch, allowed=allowed, dead=dead)

    def _sharing(self, denied: Tensor) -> "CatalogMask":
        """Return the mask with other denied rows; the compiled part that all requests share is reused."""
        mask = self._of_own(self.num_items, self._allowed, denied, self._rows)
        if self._allowed is None or self._allowed.ndim == 1:
            mask._compiled = self._compiled
        return mask


def _fitted(table: Tensor, num_items: int, fill: bool) -> Tensor:
    """Return a bool table `[N]` cut or extended to `num_items` rows."""
    missing = num_items - len(table)
    return table[:num_items] if missing <= 0 else torch.cat([table, table.new_full((missing,), fill)])


def _below(denied: Tensor | None, num_items: int) -> Tensor | None:
    """Return the denied rows `[B, T]` with rows from `num_items` on replaced by -1."""
    return None if denied is None else denied.where(denied < num_items, -1)


def _lines(rows: Tensor, others: Tensor) -> int:
    """Return the number of requests of two tables; one row applies to all requests."""
    if len(rows) != 1 and len(others) != 1:
        check_batch(len(rows), len(others))
    return len(rows) if len(others) == 1 else len(others)


def _without_rows(table: Tensor, rows: Tensor, batch: int) -> Tensor:
    """Return a copy `[batch, N]` of `table` that is False at `rows` `[batch, T]`; one row of either applies to all."""
    table = table.expand(batch, -1).clone()
    table[_entries(rows.to(table.device).expand(batch, -1))] = False
    return table


def _entries(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return requests and catalog rows of the entries of `rows` `[B, T]` that are not padding."""
    requests, columns = (rows >= 0).nonzero(as_tuple=True)
    return requests, rows[requests, columns]


def _few_denied(table: Tensor) -> Tensor | None:
    """Return the rows that `table` `[B, N]` denies, `[B, T]`, padded with -1; None if they are many."""
    counts = table.shape[1] - table.count_nonzero(1)
    most = int(counts.max()) if len(table) else 0
    if most * FEW > table.shape[1]:
        return None
    requests, rows = (~table).nonzero(as_tuple=True)
    columns = torch.arange(len(rows), device=table.device) - (counts.cumsum(0) - counts)[requests]
    denied = torch.full((len(table), most), -1, device=table.device)
    denied[requests, columns] = rows
    return denied


def _check_allowed(allowed: Tensor | None, num_items: int) -> None:
    if allowed is None:
        return
    if not isinstance(allowed, Tensor):
        raise ValueError(
            f"mask must be a CatalogMask or a bool tensor of shape [{num_items}] or [B, {num_items}] (one column per "
            f"catalog row), got {type(allowed).__name__}; convert it by torch.as_tensor"
        )
    if allowed.dtype != torch.bool or allowed.ndim not in (1, 2) or allowed.shape[-1] != num_items:
        raise ValueError(
            f"mask must be bool of shape [{num_items}] or [B, {num_items}] (one column per catalog row), "
            f"got {allowed.dtype} of shape {tuple(allowed.shape)}"
        )


def _check_denied(denied: Tensor | None, num_items: int) -> None:
    if denied is None:
        return
    if not isinstance(denied, Tensor) or denied.dtype != torch.long or denied.ndim != 2:
        found = (
            f"{denied.dtype} of shape {tuple(denied.shape)}" if isinstance(denied, Tensor) else type(denied).__name__
        )
        raise ValueError(
            f"denied rows must be an int64 tensor of shape [B, T], got {found}; pad the rows of each request with -1"
        )
    if denied.numel() and int(denied.max()) >= num_items:
        raise ValueError(
            f"denied rows must be below {num_items}, the number of catalog rows, got {int(denied.max())}; "
            "take them from the catalog that the mask is for"
        )


def _check_item_ids(item_ids: Any, name: str) -> None:
    """Raise ValueError for a table over catalog rows in place of item ids."""
    if isinstance(item_ids, Tensor) or (isinstance(item_ids, np.ndarray) and item_ids.dtype.kind == "b"):
        raise ValueError(
            f"{name} must be a list of item ids (strings), got {type(item_ids).__name__} of {item_ids.dtype}; "
            "make a table over catalog rows a mask: CatalogMask(num_items, torch.as_tensor(table))"
        )
