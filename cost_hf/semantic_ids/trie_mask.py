"""A mask of catalog rows compiled for a trie: which nodes still lead to an allowed item of a request.

What all requests share is one count of allowed children for each node. What each request denies besides is a short
sorted list of the nodes whose last allowed item it takes away: a table of requests times nodes is never made for it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from cost_hf.semantic_ids.child_ranges import ChildRanges
from cost_hf.semantic_ids.trie import SidTrie, windows


@dataclass(frozen=True, eq=False, repr=False)
class AllowedNodes:
    """What a mask allows of a trie, but for the denied rows of single requests.

    Attributes:
        items: the mask itself, bool `[N]` or `[B, N]`.
        counts: allowed children (of a leaf: items) of the nodes of depth 1 … L, `[nodes]` or `[B, nodes]` each.
        kept: whether there are any, bool, flat, with room for a run of children behind the last node.
    """

    items: Tensor
    counts: list[Tensor]
    kept: list[Tensor]

    @classmethod
    def of(cls, trie: SidTrie, items: Tensor) -> "AllowedNodes":
        """Count for `trie` what `items`, bool `[N]` or `[B, N]`, leaves of every node."""
        table = items[..., trie.leaf_items]
        counts = [table if trie.leaf_ranges is None else _sums(table, trie.leaf_ranges)]
        for ranges in reversed(trie.ranges[1:]):
            counts.append(_sums(counts[-1] > 0, ranges))
        counts.reverse()
        rooms = trie.max_children
        kept = [pad((table > 0).flatten(), (0, room)) for table, room in zip(counts, rooms, strict=True)]
        return cls(items, counts, kept)


class TrieMask:
    """A `CatalogMask` for one trie; made by `CatalogMask.on`.

    On a GPU its questions cost no host synchronisation.

    Args:
        trie: what it is for.
        batch: B, or None where all requests are alike.
        allowed: None = all.
        dead: as `dead_keys` gives them; None = nothing is denied by one request only.

    Attributes:
        batch: B, or None where all requests are alike.
        is_empty: requests that no item is left for, bool `[B]`; `[1]` where all requests are alike.
    """

    def __init__(self, trie: SidTrie, *, batch: int | None, allowed: AllowedNodes | None, dead: list[Tensor] | None):
        self.batch, self._allowed, self._dead = batch, allowed, dead
        self._widths = [*trie.num_nodes, trie.num_items]
        first = torch.arange(trie.num_nodes[0], device=trie.device).expand(batch or 1, -1)
        self.is_empty = ~self.keeps_nodes(0, first).any(1)

    def keeps_nodes(self, level: int, nodes: Tensor, requests: Tensor | None = None) -> Tensor:
        """Tell which nodes of depth `level` + 1 still lead to an allowed item.

        Args:
            nodes: runs of siblings as `SidTrie.children` gives them, `[B, R, m]`, or `[…, m]` with `requests`; behind
                the last real node of a run the answer means nothing.
            requests: number of the request that each run belongs to, of the shape `[…]`; by default the first
                dimension of `nodes` counts them. Where all requests are alike it makes no difference.
        """
        first, size = nodes[..., 0].flatten(), nodes.shape[-1]
        keys = self._keys(self._widths[level], nodes[..., 0], requests)
        kept = torch.ones((), dtype=torch.bool, device=nodes.device).expand(len(first), size)
        if self._allowed is not None:
            places = first if self._allowed.items.ndim == 1 else keys
            kept = windows(self._allowed.kept[level], size).index_select(0, places)
        if self._dead is not None and len(self._dead[level]):
            kept = kept & _survivors(self._dead[level], keys, size)
        return kept.view(nodes.shape)

    def keeps_items(self, rows: Tensor, requests: Tensor | None = None) -> Tensor:
        """Tell which catalog rows `[B, R, m]` are allowed; `requests` as in `keeps_nodes`."""
        keys = self._keys(self._widths[-1], rows, requests)
        kept = torch.ones((), dtype=torch.bool, device=rows.device).expand(len(keys))
        if self._allowed is not None:
            places = rows.flatten() if self._allowed.items.ndim == 1 else keys
            kept = self._allowed.items.flatten().index_select(0, places)
        if self._dead is not None and len(denied := self._dead[-1]):
            place = torch.searchsorted(denied, keys).clamp_max(len(denied) - 1)
            kept = kept & (denied.index_select(0, place) != keys)
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
    """Tell which keys of the runs `keys[r] … keys[r] + size - 1` are not among the sorted `dead`: bool `[R, size]`.

    Only the ends of a run are looked up: what lies between them is dead, and most runs have nothing there.
    """
    start, stop = torch.searchsorted(dead, torch.stack([keys, keys + size])).unbind()
    most = int((stop - start).max()) if keys.device.type == "cpu" else min(size, len(dead))
    place = start[:, None] + torch.arange(most, device=keys.device)
    column = dead[place.clamp_max(len(dead) - 1)] - keys[:, None]
    # one column more takes what lies beyond the end of a run
    column = column.where(place < stop[:, None], size)
    kept = torch.ones(len(keys), size + 1, dtype=torch.bool, device=keys.device)
    return kept.scatter_(1, column, False)[:, :size]


def _sums(values: Tensor, ranges: ChildRanges) -> Tensor:
    """Add up the children `[..., n]` of every node: int32 `[..., nodes]`."""
    before = pad(values.cumsum(-1, dtype=torch.int32), (1, 0))
    return before[..., ranges.all_starts()].diff(dim=-1)


def dead_keys(trie: SidTrie, denied: Tensor, allowed: AllowedNodes | None) -> list[Tensor]:
    """Return sorted keys of the nodes of depth 1 … L, then of the items, that a request loses by its denied rows.

    A leaf dies with the last of its allowed items, a node with the last of its allowed children.

    Args:
        denied: catalog rows int64 `[B, T]`, -1 where there is none; rows that repeat or are illegal anyhow do no harm.
        allowed: what all requests share; None = all items.

    Returns:
        Keys `request * width + number`, ascending, where width is the number of nodes of the depth, or of items.
    """
    requests, columns = (denied >= 0).nonzero(as_tuple=True)
    item_keys = (requests * trie.num_items + denied[requests, columns]).unique()
    requests, rows = item_keys // trie.num_items, item_keys % trie.num_items
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
    """Return what to add to log-probabilities: 0 where `legal`, else -inf; in the shape of `legal`.

    Filling by a mask takes a branch per number, ten times as long where the mask is irregular.
    """
    return legal.view(torch.uint8).to(dtype).reciprocal_().neg_().add_(1)


def check_batch(requests: int, expected: int) -> None:
    """Raise ValueError where a mask for `expected` requests meets another number of them."""
    if requests != expected:
        raise ValueError(f"the mask is for {expected} requests, got {requests}; pass one line per request, in order")
