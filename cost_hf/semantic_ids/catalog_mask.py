"""Which items may be recommended: stock, categories, fresh items, items already seen; for all requests or for each.

A mask speaks of catalog rows and knows no trie, so one object serves every ranker and is kept from call to call: the
stock of a shop is built once. Seen items, a few for each request, are kept as rows; nothing of the size of requests
times catalog is made for them unless a dense ranker asks.
"""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from cost_hf.semantic_ids.item_rows import ItemRows
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.trie_mask import AllowedNodes, TrieMask, check_batch, dead_keys

FEW = 64  # a table whose lines deny at most one in so many items is kept as lists of rows, which compile faster


class CatalogMask:
    """Allowed items of a catalog, for all requests alike or for each of B requests; it never changes.

    Args:
        num_items: N, catalog rows including removed ones.
        allowed: bool `[N]`, or `[B, N]` where requests differ in much; True = allowed. All items by default.
        denied: catalog rows that each request may not get, int64 `[B, T]`, padded with -1; for requests that differ in
            few items.

    Attributes:
        num_items: N.
        batch: B, or None where all requests are alike.

    Raises:
        ValueError: for tensors of another type or shape, or rows outside the catalog.
    """

    def __init__(self, num_items: int, allowed: Tensor | None = None, denied: Tensor | None = None):
        _check_allowed(allowed, num_items)
        _check_denied(denied, num_items)
        if allowed is not None and allowed.ndim == 2 and denied is not None:
            check_batch(len(denied), len(allowed))
            allowed, denied = _without_rows(allowed, denied), None
        if allowed is not None and allowed.ndim == 2 and (few := _few_denied(allowed)) is not None:
            allowed, denied = None, few
        self.num_items, self.allowed, self.denied = num_items, allowed, denied
        per_request = allowed if allowed is not None and allowed.ndim == 2 else denied
        self.batch = None if per_request is None else len(per_request)
        self._compiled: WeakKeyDictionary[SidTrie, AllowedNodes] = WeakKeyDictionary()

    @classmethod
    def of(cls, mask: "Tensor | CatalogMask | None", num_items: int) -> "CatalogMask | None":
        """Return `mask` (a bool `[N]` or `[B, N]` becomes one); raise ValueError where it is of another catalog."""
        if mask is None or isinstance(mask, Tensor):
            return None if mask is None else cls(num_items, mask)
        mask.check_items(num_items)
        return mask

    @classmethod
    def from_item_ids(
        cls, catalog: ItemRows, *, allowed: Sequence[str] | None = None, denied: Sequence[str] | None = None
    ) -> "CatalogMask":
        """Build the mask of item ids, for all requests; what is removed from the catalog is never allowed.

        Args:
            allowed: only these items; all by default.
            denied: not these items, even where `allowed` names them.

        Raises:
            KeyError: for an item that the catalog does not hold.
            ValueError: for one string in place of a list of them.
        """
        table = torch.full((len(catalog),), allowed is None)
        for name, item_ids in (("allowed", allowed), ("denied", denied)):
            if isinstance(item_ids, str):
                raise ValueError(f"{name} must be a list of item ids, got the string {item_ids!r}; pass [{item_ids!r}]")
            if item_ids is not None:
                table[torch.from_numpy(catalog.rows_of(item_ids))] = name == "allowed"
        return cls(len(catalog), table & ~torch.tensor(catalog.removed))

    def without(self, rows: Tensor) -> "CatalogMask":
        """Return the mask that also denies each request its own catalog rows, int64 `[B, T]`, padded with -1."""
        if self.denied is not None:
            check_batch(len(rows), len(self.denied))
            rows = torch.cat([self.denied, rows], dim=1)
        return self._sharing(self.allowed, rows)

    def take(self, requests: Sequence[int] | Tensor) -> "CatalogMask":
        """Return the mask of some requests `[b]`, by their numbers; itself where all requests are alike."""
        if self.batch is None:
            return self
        lines = torch.as_tensor(requests, dtype=torch.long)
        if self.denied is None:
            return CatalogMask(self.num_items, None if self.allowed is None else self.allowed[lines])
        return self._sharing(self.allowed, self.denied[lines])

    def check_items(self, num_items: int) -> None:
        """Raise ValueError where this mask is not of a catalog of `num_items` rows."""
        if self.num_items != num_items:
            raise ValueError(
                f"the mask covers {self.num_items} catalog rows, expected {num_items}; build it from the same catalog"
            )

    def within(self, allowed: Tensor) -> "CatalogMask":
        """Return the mask that allows nothing beyond `allowed`, bool `[N]`; itself where that changes nothing."""
        _check_allowed(allowed, self.num_items)
        if self.allowed is not None and not (self.allowed & ~allowed).any():
            return self
        return CatalogMask(self.num_items, allowed if self.allowed is None else self.allowed & allowed, self.denied)

    def hide(self, scores: Tensor) -> Tensor:
        """Set the scores `[B, N]` of items that are not allowed to -inf, in place, and return them."""
        if self.batch is not None:
            check_batch(len(scores), self.batch)
        if self.allowed is not None:
            scores.masked_fill_(~self.allowed.to(scores.device), -torch.inf)
        if self.denied is not None:
            scores[_places(self.denied.to(scores.device))] = -torch.inf
        return scores

    def dense(self, batch: int) -> Tensor:
        """Return a read-only bool table `[batch, N]`; `batch` is free where all requests are alike."""
        if self.batch is not None:
            check_batch(batch, self.batch)
        table = torch.ones(self.num_items, dtype=torch.bool) if self.allowed is None else self.allowed
        table = table.expand(batch, -1)
        return table if self.denied is None else _without_rows(table, self.denied)

    def on(self, trie: SidTrie) -> TrieMask:
        """Return the mask for `trie`, on its device; what all requests share is made once for a trie and kept."""
        self.check_items(trie.num_items)
        if self.allowed is not None and trie not in self._compiled:
            self._compiled[trie] = AllowedNodes.of(trie, self.allowed.to(trie.device))
        allowed = self._compiled.get(trie)
        dead = None if self.denied is None else dead_keys(trie, self.denied.to(trie.device), allowed)
        return TrieMask(trie, batch=self.batch, allowed=allowed, dead=dead)

    def _sharing(self, allowed: Tensor | None, denied: Tensor) -> "CatalogMask":
        mask = CatalogMask(self.num_items, allowed, denied)
        if allowed is None or allowed.ndim == 1:
            mask._compiled = self._compiled
        return mask


def _without_rows(table: Tensor, rows: Tensor) -> Tensor:
    """Return a copy of `table` `[B, N]` that is False at `rows` `[B, T]`."""
    table = table.clone()
    table[_places(rows.to(table.device))] = False
    return table


def _places(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return requests and catalog rows of the entries of `rows` `[B, T]` that are none of the padding."""
    requests, columns = (rows >= 0).nonzero(as_tuple=True)
    return requests, rows[requests, columns]


def _few_denied(table: Tensor) -> Tensor | None:
    """Return the rows that `table` `[B, N]` denies, `[B, T]`, -1 behind the last; None where they are many."""
    counts = table.shape[1] - table.count_nonzero(1)
    most = int(counts.max()) if len(table) else 0
    if most * FEW > table.shape[1]:
        return None
    requests, rows = (~table).nonzero(as_tuple=True)
    places = torch.arange(len(rows), device=table.device) - (counts.cumsum(0) - counts)[requests]
    denied = torch.full((len(table), most), -1, device=table.device)
    denied[requests, places] = rows
    return denied


def _check_allowed(allowed: Tensor | None, num_items: int) -> None:
    if allowed is None:
        return
    if allowed.dtype != torch.bool or allowed.ndim not in (1, 2) or allowed.shape[-1] != num_items:
        raise ValueError(
            f"mask must be bool of shape [{num_items}] or [B, {num_items}] (one column per catalog row), "
            f"got {allowed.dtype} of shape {tuple(allowed.shape)}"
        )


def _check_denied(denied: Tensor | None, num_items: int) -> None:
    if denied is None:
        return
    if denied.dtype != torch.long or denied.ndim != 2:
        raise ValueError(
            f"denied rows must be int64 of shape [B, T], got {denied.dtype} of shape {tuple(denied.shape)}; "
            "pad the rows of each request with -1"
        )
    if denied.numel() and int(denied.max()) >= num_items:
        raise ValueError(
            f"denied rows must lie below {num_items}, the number of catalog rows, got {int(denied.max())}; "
            "take them from the catalog that the mask is for"
        )
