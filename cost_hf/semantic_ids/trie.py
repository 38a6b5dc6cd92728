"""The legal semantic IDs as sorted arrays: what the decoder may say next, and which item a finished answer is.

Nodes of one depth stand in SID order, so the children of a node, its leaves and its items are ranges, and every
question is a gather. There are no Python objects per item: an index over 1e6 items takes one sort and under ten bytes
an item. Depth 0 is the root (node 0); `level` l leads from a node of depth l to its children at depth l + 1.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.child_ranges import ChildRanges
from cost_hf.semantic_ids.trie_build import build_levels, sort_rows


class SidTrie:
    """A prefix tree over the SIDs of a catalog.

    Args:
        codes: SIDs, `[N, L]`.
        level_sizes: codes per level, L numbers.
        priority: items that share a SID stand in descending order of this, `[N]` (training popularity).
        item_ids: breaks ties of `priority`; ascending. Without them catalog rows do.
        removed: rows that are not legal, bool `[N]`.

    Attributes:
        level_sizes: codes per level.
        num_items: N, catalog rows including removed ones; the width of a mask.
        num_nodes: nodes at depth 1 … L.
        codes: last code of every node, one tensor per level, uint8, int16 or int32.
        leaf_items: catalog rows in SID order, int32.

    Raises:
        ValueError: where nothing is legal, or codes lie outside their level.
    """

    def __init__(
        self,
        codes: np.ndarray | Tensor,
        level_sizes: Sequence[int],
        *,
        priority: np.ndarray | Tensor | None = None,
        item_ids: Sequence[str] | None = None,
        removed: np.ndarray | None = None,
    ):
        table = np.asarray(codes)
        self.level_sizes = tuple(int(size) for size in level_sizes)
        _check_codes(table, self.level_sizes)
        self.num_items = len(table)
        legal = None if removed is None or not removed.any() else np.flatnonzero(~removed)
        if not len(table) or (legal is not None and not len(legal)):
            raise ValueError(f"a trie needs at least one item, got {len(table)} rows, none legal; add items first")
        rows, keys = sort_rows(
            table if legal is None else table[legal],
            self.level_sizes,
            priority=_subset(priority, legal),
            item_ids=item_ids if legal is None or item_ids is None else [item_ids[row] for row in legal.tolist()],
        )
        rows = rows if legal is None else legal[rows]
        node_codes, starts, leaf_starts = build_levels(keys, table, rows, self.level_sizes)
        self.codes = [torch.from_numpy(level) for level in node_codes]
        self.ranges = [ChildRanges.from_starts(level) for level in starts]
        self.leaf_items = torch.from_numpy(rows.astype(np.int32))
        self.leaf_ranges = None if leaf_starts is None else ChildRanges.from_starts(leaf_starts)
        self.num_nodes = [len(level) for level in self.codes]
        self.max_children = [int(np.diff(level).max()) for level in starts]
        self.max_leaf_items = 1 if leaf_starts is None else int(np.diff(leaf_starts).max())

    @classmethod
    def from_catalog(cls, catalog: Catalog, popularity: np.ndarray | Tensor | None = None) -> "SidTrie":
        """Build the trie of the items that are not removed; `popularity` `[N]` orders items of one SID."""
        return cls(
            catalog.codes,
            catalog.level_sizes,
            priority=popularity,
            item_ids=catalog.item_ids,
            removed=catalog.removed,
        )

    def children(self, level: int, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the children of nodes of depth `level`.

        Args:
            level: 0 … L - 1; at level 0 the only node is 0, the root.
            nodes: `[R]`; -1 has no children.
        Returns:
            Codes int64 `[R, m]`, nodes of depth `level + 1` `[R, m]` and validity `[R, m]`; m is the largest number of
            children (of the nodes given on CPU, of any node elsewhere: that spares a host synchronisation). Where
            validity is false, code and node are those of some existing node.
        """
        known, count = nodes >= 0, len(nodes)
        # every beam of the first step stands at the root: one row serves all
        parents = nodes.clamp_min(0) if level else torch.zeros_like(nodes[:1])
        first, stop = self.ranges[level].start(parents), self.ranges[level].start(parents + 1)
        on_host = nodes.device.type == "cpu" and count > 0
        width = int((stop - first).max()) if on_host else self.max_children[level]
        child = first[:, None] + torch.arange(width, device=nodes.device)
        valid = (child < stop[:, None]) & known[:, None]
        child = torch.minimum(child, stop[:, None] - 1)
        return self.codes[level][child].long().expand(count, -1), child.expand(count, -1), valid

    def prefix(self, codes: Tensor) -> Tensor:
        """Return the node of each prefix `[..., l]` at depth l, -1 where no item has it; the shape is `[...]`.

        Each level is one binary search within the parent's children, all prefixes side by side.
        """
        if codes.shape[-1] > len(self.level_sizes):
            raise ValueError(f"a prefix has at most {len(self.level_sizes)} codes, got shape {tuple(codes.shape)}")
        node = torch.zeros(codes.shape[:-1], dtype=torch.long, device=codes.device)
        for level in range(codes.shape[-1]):
            node = self._step(level, node, codes[..., level])
        return node

    def _step(self, level: int, nodes: Tensor, code: Tensor) -> Tensor:
        """Return the child that carries `code`, -1 where there is none; both arguments have one shape."""
        known = nodes >= 0
        nodes = nodes.clamp_min(0)
        place, last = self.ranges[level].start(nodes), self.ranges[level].start(nodes + 1) - 1
        # place moves to the first child whose code is not below the wanted one, or to the last child
        for bit in reversed(range(self.max_children[level].bit_length())):
            probe = place + (1 << bit)
            is_below = (probe <= last) & (self.codes[level][torch.minimum(probe, last) - 1] < code)
            place = torch.where(is_below, probe, place)
        return torch.where(known & (self.codes[level][place] == code), place, -1)

    def leaf_rows(self, leaves: Tensor) -> tuple[Tensor, Tensor]:
        """Return the items of leaves.

        Args:
            leaves: nodes of depth L, `[R]`; -1 has no items.
        Returns:
            Catalog rows `[R, m]` int64 and which of them are real `[R, m]`; m is the size of the largest leaf.
        """
        known = leaves >= 0
        leaves = leaves.clamp_min(0)
        if self.leaf_ranges is None:
            return self.leaf_items[leaves].long()[:, None], known[:, None]
        first = self.leaf_ranges.start(leaves)
        counts = (self.leaf_ranges.start(leaves + 1) - first) * known
        steps = torch.arange(self.max_leaf_items, device=leaves.device)
        present = steps < counts[:, None]
        return self.leaf_items[torch.where(present, first[:, None] + steps, first[:, None])].long(), present

    def items_under(self, prefix: Sequence[int]) -> Tensor:
        """Return the catalog rows of all items whose SID begins with `prefix`, in SID order, `[n]` int64."""
        node = int(self.prefix(torch.tensor([list(prefix)], dtype=torch.long, device=self.device)))
        if node < 0:
            return self.leaf_items[:0].long()
        bounds = torch.tensor([node, node + 1], device=self.device)
        for level in range(len(prefix), len(self.level_sizes)):
            bounds = self.ranges[level].start(bounds)
        if self.leaf_ranges is not None:
            bounds = self.leaf_ranges.start(bounds)
        return self.leaf_items[int(bounds[0]) : int(bounds[1])].long()

    def allowed(self, mask: Tensor) -> list[Tensor]:
        """Tell which nodes still lead to an allowed item.

        Args:
            mask: bool `[N]` or `[B, N]`, True = allowed; removed rows stay illegal whatever it says.
        Returns:
            One table per depth 1 … L, bool `[nodes]` or `[B, nodes]`.
        """
        self.check_mask(mask)
        table = mask.to(self.device)[..., self.leaf_items]
        tables = []
        if self.leaf_ranges is not None:
            table = _any_in_ranges(table, self.leaf_ranges)
        for ranges in reversed(self.ranges[1:]):
            tables.append(table)
            table = _any_in_ranges(table, ranges)
        return [table, *reversed(tables)]

    def check_mask(self, mask: Tensor) -> None:
        """Raise ValueError where `mask` is not a bool `[N]` or `[B, N]`."""
        if mask.dtype != torch.bool or mask.ndim not in (1, 2) or mask.shape[-1] != self.num_items:
            raise ValueError(
                f"mask must be bool of shape [{self.num_items}] or [B, {self.num_items}] (one column per catalog row), "
                f"got {mask.dtype} of shape {tuple(mask.shape)}"
            )

    def to(self, device: torch.device | str) -> "SidTrie":
        """Return the trie on `device`; itself where it is there already."""
        if torch.device(device) == self.device:
            return self
        moved = copy.copy(self)
        moved.codes = [level.to(device) for level in self.codes]
        moved.ranges = [level.to(device) for level in self.ranges]
        moved.leaf_items = self.leaf_items.to(device)
        moved.leaf_ranges = None if self.leaf_ranges is None else self.leaf_ranges.to(device)
        return moved

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.leaf_items.device

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        leaves = 0 if self.leaf_ranges is None else self.leaf_ranges.nbytes
        levels = sum(codes.nbytes + ranges.nbytes for codes, ranges in zip(self.codes, self.ranges, strict=True))
        return self.leaf_items.nbytes + leaves + levels


def _any_in_ranges(table: Tensor, ranges: ChildRanges) -> Tensor:
    """Reduce the children `[..., n]` of every node to one "any of them": `[..., nodes]`."""
    counts = torch.nn.functional.pad(table.to(torch.int32).cumsum(-1, dtype=torch.int32), (1, 0))
    sums = counts[..., ranges.all_starts()]
    return sums[..., 1:] > sums[..., :-1]


def _subset(values: np.ndarray | Tensor | None, rows: np.ndarray | None) -> np.ndarray | None:
    if values is None:
        return None
    array = np.asarray(values)
    return array if rows is None else array[rows]


def _check_codes(codes: np.ndarray, level_sizes: tuple[int, ...]) -> None:
    if codes.ndim != 2 or codes.shape[1] != len(level_sizes):
        raise ValueError(f"expected codes [N, {len(level_sizes)}] for level_sizes={level_sizes}, got {codes.shape}")
    if len(codes) and (codes.min() < 0 or (codes.max(0) >= np.array(level_sizes)).any()):
        raise ValueError(
            f"codes must lie in 0 … size - 1 of their level, got {codes.min(0).tolist()} … {codes.max(0).tolist()} for "
            f"level_sizes={level_sizes}; pass the sizes that the codes were made with"
        )
