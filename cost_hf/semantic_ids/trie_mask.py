"""A mask of catalog rows compiled for a trie: which nodes still lead to an allowed item of a request.

What all requests share is one count of allowed children for each node. What each request denies besides is a short
sorted list of the nodes whose last allowed item it takes away: a table of requests times nodes is never made for it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cost_hf.semantic_ids.child_ranges import ChildRanges
from cost_hf.semantic_ids.trie import SidTrie


class TrieMask:
    """A `CatalogMask` for one trie; made by `CatalogMask.on`. Its questions cost no host synchronisation.

    Args:
        trie: what it is for.
        batch: B, or None where all requests are alike.
        counts: allowed children as `allowed_children` counts them, then the allowed items; None = all are.
        dead: as `dead_keys` gives them; None = nothing is denied by one request only.

    Attributes:
        batch: B, or None where all requests are alike.
        is_empty: requests that no item is left for, bool `[B]`; `[1]` where all requests are alike.
    """

    def __init__(self, trie: SidTrie, *, batch: int | None, counts: list[Tensor] | None, dead: list[Tensor] | None):
        widths = [*trie.num_nodes, trie.num_items]
        legal = [
            _Legal(
                width,
                counts=None if counts is None else counts[place],
                dead=None if dead is None or not len(dead[place]) else dead[place],
            )
            for place, width in enumerate(widths)
        ]
        self._nodes, self._items, self.batch = legal[:-1], legal[-1], batch
        first = torch.arange(self._nodes[0].width, device=trie.device).expand(batch or 1, 1, -1)
        self.is_empty = ~self.keeps_nodes(0, first).flatten(1).any(1)

    def keeps_nodes(self, level: int, nodes: Tensor, requests: Tensor | None = None) -> Tensor:
        """Tell which nodes of depth `level` + 1 still lead to an allowed item.

        Args:
            nodes: `[B, R, m]`, or any shape with `requests`.
            requests: numbers of the requests that ask, of a shape that broadcasts to `nodes`; by default the first
                dimension of `nodes` counts them.
        """
        return self._nodes[level].keeps(nodes, self._requests(nodes) if requests is None else requests)

    def keeps_items(self, rows: Tensor, requests: Tensor | None = None) -> Tensor:
        """Tell which catalog rows `[B, R, m]` are allowed; `requests` as in `keeps_nodes`."""
        return self._items.keeps(rows, self._requests(rows) if requests is None else requests)

    def _requests(self, things: Tensor) -> Tensor:
        if self.batch is not None:
            check_batch(len(things), self.batch)
        return torch.arange(len(things), device=things.device).view(-1, *[1] * (things.ndim - 1))


@dataclass(frozen=True, eq=False)
class _Legal:
    """What is allowed of the nodes of one depth, or of the items.

    Attributes:
        width: how many there are.
        counts: allowed children of each (of an item: whether it is allowed), `[width]` or `[B, width]`; None = all.
        dead: what a request denies altogether, as sorted keys `request * width + number`; None = nothing.
    """

    width: int
    counts: Tensor | None
    dead: Tensor | None

    def keeps(self, numbers: Tensor, requests: Tensor) -> Tensor:
        kept = torch.ones((), dtype=torch.bool, device=numbers.device).expand(numbers.shape)
        if self.counts is not None:
            places = numbers if self.counts.ndim == 1 else requests * self.width + numbers
            kept = (self.counts.flatten().index_select(0, places.flatten()) > 0).view(numbers.shape)
        if self.dead is not None:
            keys = requests * self.width + numbers
            place = torch.searchsorted(self.dead, keys).clamp_max(len(self.dead) - 1)
            kept = kept & (self.dead[place] != keys)
        return kept


def allowed_children(trie: SidTrie, allowed: Tensor) -> list[Tensor]:
    """Count the allowed children of every node of depth 1 … L; those of a leaf are its items.

    Args:
        allowed: bool `[N]` or `[B, N]`.

    Returns:
        Tables `[nodes]` or `[B, nodes]`, one per depth; int32, or bool where no node of a depth can have two.
    """
    counts = allowed[..., trie.leaf_items]
    if trie.leaf_ranges is not None:
        counts = _sums(counts, trie.leaf_ranges)
    tables = [counts]
    for ranges in reversed(trie.ranges[1:]):
        tables.append(_sums(tables[-1] > 0, ranges))
    return tables[::-1]


def _sums(values: Tensor, ranges: ChildRanges) -> Tensor:
    """Add up the children `[..., n]` of every node: int32 `[..., nodes]`."""
    before = torch.nn.functional.pad(values.cumsum(-1, dtype=torch.int32), (1, 0))
    return before[..., ranges.all_starts()].diff(dim=-1)


def dead_keys(trie: SidTrie, denied: Tensor, counts: list[Tensor] | None) -> list[Tensor]:
    """Return sorted keys of the nodes of depth 1 … L, then of the items, that a request loses by its denied rows.

    A leaf dies with the last of its allowed items, a node with the last of its allowed children.

    Args:
        denied: catalog rows int64 `[B, T]`, -1 where there is none; rows that repeat or are illegal anyhow do no harm.
        counts: as `TrieMask` takes them, of masks that all requests share.

    Returns:
        Keys `request * width + number`, ascending, where width is the number of nodes of the depth, or of items.
    """
    requests, columns = (denied >= 0).nonzero(as_tuple=True)
    item_keys = (requests * trie.num_items + denied[requests, columns]).unique()
    requests, rows = item_keys // trie.num_items, item_keys % trie.num_items
    leaves = trie.leaves[rows].long()
    counted = leaves >= 0 if counts is None else (leaves >= 0) & counts[-1][rows]
    keys, lost = (requests * trie.num_nodes[-1] + leaves)[counted].unique(return_counts=True)
    found = [item_keys]
    for depth in range(len(trie.num_nodes), 0, -1):
        width = trie.num_nodes[depth - 1]
        nodes = keys % width
        total = _num_children(trie, depth, nodes) if counts is None else counts[depth - 1][nodes]
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


def check_batch(requests: int, expected: int) -> None:
    """Raise ValueError where a mask for `expected` requests meets another number of them."""
    if requests != expected:
        raise ValueError(f"the mask is for {expected} requests, got {requests}; pass one line per request, in order")
