"""Prefix tree of the valid semantic IDs: which tokens may come next, and which item a complete SID is.

Nodes of one depth are in SID order, so the children, leaves and items of a node are ranges, and every lookup is a
gather. There are no Python objects per item: an index of 1e6 items takes one sort and less than ten bytes per item.
Depth 0 is the root (node 0); `level` l leads from a node of depth l to its children at depth l + 1.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import ref

import numpy as np
import torch
from torch import Tensor

from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.collisions import KEY_BITS
from cost_hf.semantic_ids.item_ids import check_codes, code_table, id_ranks, item_id_list
from cost_hf.semantic_ids.options import level_size_tuple

BLOCK_BITS = 6


@dataclass(frozen=True, repr=False)
class ChildRanges:
    """Child ranges of the nodes of a depth, in little more than two bytes per node.

    The children of node j are nodes `start(j) … start(j + 1) - 1` of the next depth. Starts are increasing, and 64
    nodes with at most 256 children each span fewer than 2^14 children, so a 32-bit start per 64 nodes and a 16-bit
    offset per node are enough. Most nodes of a trie of items are at the deep levels and have one child; this keeps the
    index below ten bytes per item.

    Attributes:
        blocks: int32 start of every block of 64 nodes; all zeros if `offsets` are absolute starts.
        offsets: start of each node relative to its block, int16 `[nodes + 1]`; int32 if a block spans too much.
    """

    blocks: Tensor
    offsets: Tensor

    @classmethod
    def from_starts(cls, starts: np.ndarray) -> "ChildRanges":
        """Pack increasing `starts` `[nodes + 1]`."""
        blocks = starts[:: 1 << BLOCK_BITS].astype(np.int32)
        offsets = starts - np.repeat(blocks, 1 << BLOCK_BITS)[: len(starts)]
        if offsets.max() > np.iinfo(np.int16).max:
            blocks = np.zeros_like(blocks)
            offsets = starts.astype(np.int32)
        else:
            offsets = offsets.astype(np.int16)
        return cls(torch.from_numpy(blocks), torch.from_numpy(offsets))

    def start(self, nodes: Tensor) -> Tensor:
        """Return the first child of each node, int32; the shape of `nodes`."""
        flat = nodes.flatten()
        starts = self.blocks.index_select(0, flat >> BLOCK_BITS) + self.offsets.index_select(0, flat)
        return starts.view(nodes.shape)

    def spans(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Return first child and number of children of each node `[n]`, both int32 `[n]`; -1 has no children."""
        bounds = self.start(nodes.clamp_min(0)[:, None] + torch.arange(2, dtype=nodes.dtype, device=nodes.device))
        first = bounds[:, 0]
        return first, (bounds[:, 1] - first) * (nodes >= 0)

    def parents(self, children: Tensor) -> Tensor:
        """Return the parent node of each child `[n]`, int64."""
        children = children.to(torch.int32)
        if self.offsets.dtype == torch.int32:
            return torch.searchsorted(self.offsets, children, right=True) - 1
        node = torch.searchsorted(self.blocks, children, right=True) - 1
        inside = children - self.blocks.index_select(0, node)
        node = node << BLOCK_BITS
        for bit in reversed(range(BLOCK_BITS)):
            # the last offset is the end of all children: larger than any child, or in an empty block of its own
            probe = (node + (1 << bit)).clamp_max(len(self.offsets) - 1)
            node = probe.where(self.offsets.index_select(0, probe) <= inside, node)
        return node

    def all_parents(self) -> Tensor:
        """Return the parent node of every child, `[children]` int64."""
        return torch.arange(len(self.offsets) - 1, device=self.offsets.device).repeat_interleave(
            self.all_starts().diff()
        )

    def all_starts(self) -> Tensor:
        """Return all starts, `[nodes + 1]` int64."""
        blocks = self.blocks.long().repeat_interleave(1 << BLOCK_BITS)[: len(self.offsets)]
        return blocks + self.offsets

    def to(self, device: torch.device | str) -> "ChildRanges":
        """Return the ranges on `device`."""
        return ChildRanges(self.blocks.to(device), self.offsets.to(device))

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return self.blocks.nbytes + self.offsets.nbytes


def subset(values: np.ndarray | Tensor | None, rows: np.ndarray | None) -> np.ndarray | None:
    """Return `values` `[N]` at `rows`; all of them if `rows` is None, and None without values."""
    if values is None:
        return None
    array = np.asarray(values)
    return array if rows is None else array[rows]


def sort_rows(
    codes: np.ndarray,
    level_sizes: Sequence[int],
    *,
    priority: np.ndarray | None,
    item_ids: Sequence[str] | None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the rows in SID order, `[N]`, and their SIDs packed into one integer each, in that order.

    If code and row numbers fit into 63 bits they are sorted as one integer: sorting values is several times as fast as
    sorting an index. Wider SIDs are sorted column by column and have no packed form (None).
    """
    bits = [_bits(size) for size in level_sizes]
    row_bits = _bits(len(codes))
    if sum(bits) + row_bits > KEY_BITS:
        rows = np.lexsort(codes.T[::-1])
        is_repeated = ~(codes[rows][1:] != codes[rows][:-1]).any(1)
        return _order_ties(rows, is_repeated, priority, item_ids), None
    packed = np.zeros(len(codes), dtype=np.int64)
    for level, width in enumerate(bits):
        packed <<= width
        packed |= codes[:, level]
    packed <<= row_bits
    packed |= np.arange(len(codes))
    packed.sort()
    rows = packed & ((1 << row_bits) - 1)
    packed >>= row_bits
    return _order_ties(rows, packed[1:] == packed[:-1], priority, item_ids), packed


def build_levels(
    keys: np.ndarray | None, codes: np.ndarray, rows: np.ndarray, level_sizes: Sequence[int]
) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray | None]:
    """Return node codes per level, child starts per level, and item starts of the leaves (None if SIDs are unique).

    Args:
        keys: packed SIDs in SID order, or None.
        codes: SIDs of all catalog rows.
        rows: catalog rows in SID order.
    """
    node_codes = []
    starts = []
    parents = np.zeros(1, dtype=np.int64)  # positions, in SID order, of the first rows of the nodes of the depth above
    is_first = np.zeros(len(rows), dtype=bool)
    is_first[0] = True
    shifts = np.cumsum([0, *(_bits(size) for size in level_sizes[:0:-1])])[::-1]
    for level, size in enumerate(level_sizes):
        column = codes[rows, level] if keys is None else keys >> shifts[level]
        is_first[1:] |= column[1:] != column[:-1]
        begins = np.flatnonzero(is_first)
        starts.append(np.append(np.searchsorted(begins, parents), len(begins)))
        values = column[begins] if keys is None else column[begins] & ((1 << _bits(size)) - 1)
        node_codes.append(values.astype(_code_type(size)))
        parents = begins
    is_unique = len(parents) == len(rows)
    return node_codes, starts, None if is_unique else np.append(parents, len(rows))


def _order_ties(
    rows: np.ndarray, is_repeated: np.ndarray, priority: np.ndarray | None, item_ids: Sequence[str] | None
) -> np.ndarray:
    """Order the rows of each SID by descending priority, then item id; `is_repeated[i]`: i + 1 has the SID of i."""
    if not is_repeated.any():
        return rows
    group = np.concatenate([[0], np.cumsum(~is_repeated)])
    places = np.flatnonzero(np.append(False, is_repeated) | np.append(is_repeated, False))
    tied = rows[places]
    names = tied if item_ids is None else id_ranks([item_ids[row] for row in tied.tolist()])
    weight = np.zeros(len(tied)) if priority is None else -np.asarray(priority, dtype=np.float64)[tied]
    ordered = rows.copy()
    ordered[places] = tied[np.lexsort((names, weight, group[places]))]
    return ordered


def _bits(size: int) -> int:
    return max(int(size) - 1, 1).bit_length()


def _code_type(size: int) -> type[np.generic]:
    if size <= 1 << 8:
        return np.uint8
    return np.int16 if size <= 1 << 15 else np.int32


TABLE_SIZE = 1 << 18  # entries of a table over the nodes and codes of a level
SEARCHED = 1 << 24  # codes compared at once when prefixes are looked up; bounds memory


class SidTrie:
    """A prefix tree over the SIDs of a catalog.

    Args:
        codes: SIDs, `[N, L]`.
        level_sizes: codes per level, L numbers.
        priority: items that share a SID are in descending order of this, `[N]` (training popularity).
        item_ids: break ties of `priority`, in ascending order; by default catalog rows do.
        removed: rows that are not valid, bool `[N]`.
        has_parallel_levels: whether levels do not depend on each other, so that items below a node are not alike.

    Attributes:
        level_sizes: codes per level.
        num_items: N, catalog rows including removed ones; the width of a mask.
        item_ids: of the catalog rows, to check that a mask belongs to them; None if they were not given.
        num_nodes: number of nodes at depth 1 … L.
        leaf_items: catalog rows in SID order, int32.

    Raises:
        ValueError: if no row is valid, or codes are outside their level.

    Examples:
        >>> import torch
        >>> from cost_hf import Catalog, SidTrie
        >>> codes = [[0, 1], [1, 0], [1, 1]]
        >>> catalog = Catalog.from_codes(["lamp", "desk", "chair"], codes, level_sizes=(2, 2), collisions="none")
        >>> trie = SidTrie.from_catalog(catalog)
        >>> [catalog.item_ids[row] for row in trie.items_under([1])]
        ['desk', 'chair']
        >>> trie.prefix(torch.tensor([[0, 0], [1, 1]]))  # no item has the SID (0, 0)
        tensor([-1,  2])
    """

    def __init__(
        self,
        codes: np.ndarray | Tensor,
        level_sizes: Sequence[int],
        *,
        priority: np.ndarray | Tensor | None = None,
        item_ids: Sequence[str] | None = None,
        removed: np.ndarray | None = None,
        has_parallel_levels: bool = False,
    ):
        self.has_parallel_levels = has_parallel_levels
        table = code_table(codes)
        self.level_sizes = level_size_tuple(level_sizes)
        check_codes(table, self.level_sizes)
        self.num_items = len(table)
        self.item_ids: tuple[str, ...] | None = None
        if item_ids is not None:  # a catalog's own are checked and kept as they are: masks compare identity first
            self.item_ids = item_ids if isinstance(item_ids, tuple) else tuple(item_id_list(item_ids))
        if self.item_ids is not None and len(self.item_ids) != len(table):
            raise ValueError(f"expected one item id per row of codes, got {len(self.item_ids)} for {len(table)} rows")
        legal = None if removed is None or not removed.any() else np.flatnonzero(~removed)
        if not len(table) or (legal is not None and not len(legal)):
            raise ValueError(f"a trie needs at least one item, got {len(table)} rows, all removed; add items first")
        rows, keys = sort_rows(
            table if legal is None else table[legal],
            self.level_sizes,
            priority=subset(priority, legal),
            item_ids=_at(self.item_ids, legal),
        )
        rows = rows if legal is None else legal[rows]
        node_codes, starts, leaf_starts = build_levels(keys, table, rows, self.level_sizes)
        self.ranges = [ChildRanges.from_starts(level) for level in starts]
        self.max_children = [int(np.diff(level).max()) for level in starts]
        # padded, so that a window of children can start at any node
        padded = [np.pad(level, (0, most)) for level, most in zip(node_codes, self.max_children, strict=True)]
        self._codes = [torch.from_numpy(level) for level in padded]
        self.leaf_items = torch.from_numpy(rows.astype(np.int32))
        self.leaf_ranges = None if leaf_starts is None else ChildRanges.from_starts(leaf_starts)
        self.num_nodes = [len(level) for level in node_codes]
        self.max_leaf_items = 1 if leaf_starts is None else int(np.diff(leaf_starts).max())
        self._copies: dict[torch.device, SidTrie] = {}
        self._origin: ref[SidTrie] | None = None

    def __repr__(self) -> str:
        levels = "x".join(map(str, self.level_sizes)) + (" in parallel" if self.has_parallel_levels else "")
        return f"SidTrie({len(self.leaf_items)} of {self.num_items} items, levels {levels}, on {self.device})"

    @classmethod
    def from_catalog(cls, catalog: Catalog, popularity: np.ndarray | Tensor | None = None) -> "SidTrie":
        """Build the trie of the items that are not removed.

        Args:
            catalog: N rows.
            popularity: training clicks per catalog row, `[N]`; items of one SID are in descending order of it.

        Raises:
            ValueError: for a catalog without items.
        """
        return cls(
            catalog.codes,
            catalog.level_sizes,
            priority=popularity,
            item_ids=catalog.item_ids,
            removed=catalog.removed,
            has_parallel_levels=catalog.has_parallel_levels,
        )

    @property
    def codes(self) -> list[Tensor]:
        """Last code of every node, one tensor per level, uint8, int16 or int32."""
        return [codes[:nodes] for codes, nodes in zip(self._codes, self.num_nodes, strict=True)]

    def children(self, level: int, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the children of nodes of depth `level`.

        Args:
            level: 0 … L - 1; at level 0 the only node is 0, the root.
            nodes: int `[R]`; -1 has no children.

        Returns:
            Codes int64 `[R, m]`, nodes of depth `level + 1` int32 `[R, m]` and validity `[R, m]`; m is the largest
            number of children (of the given nodes on CPU, of any node on GPU: this avoids a host synchronisation).
            Where validity is False, the code is still one of this level and the node exists.
        """
        first, counts = self.ranges[level].spans(nodes)
        width = self._width(level, counts)
        # at the first step all beams are at the root: one row serves all
        first = first if level else first[:1]
        codes = windows(self._codes[level], width).index_select(0, first).long()
        steps = torch.arange(2 * width, dtype=torch.int32, device=nodes.device)
        child = (first[:, None] + steps[:width]).clamp_(max=self.num_nodes[level] - 1)
        valid = windows(steps < width, width).index_select(0, width - counts)
        return codes.expand(len(nodes), -1), child.expand(len(nodes), -1), valid

    def prefix(self, codes: Tensor) -> Tensor:
        """Return the node of each prefix `[..., l]` at depth l, int64 `[...]`, -1 if no item has it.

        A level is a table lookup if its table is small, else a binary search within the parent's children.

        Raises:
            ValueError: for a prefix of more than L codes.
        """
        if codes.shape[-1] > len(self.level_sizes):
            raise ValueError(f"a prefix has at most {len(self.level_sizes)} codes, got shape {tuple(codes.shape)}")
        node = torch.zeros(codes.shape[:-1], dtype=torch.long, device=codes.device).flatten()
        for level, wanted in enumerate(codes.unbind(-1)):
            # bounds the copies of children below
            rows = max(1, SEARCHED // self.max_children[level])
            pieces = zip(node.split(rows), wanted.flatten().split(rows), strict=True)
            node = torch.cat([self._step(level, *piece) for piece in pieces])
        return node.view(codes.shape[:-1])

    def _step(self, level: int, nodes: Tensor, wanted: Tensor) -> Tensor:
        """Return the child of each node `[R]` with the code `wanted` `[R]`, -1 if there is none."""
        codes = self._codes[level]
        size = self.level_sizes[level]
        code = wanted.clamp(0, size - 1)
        if level < len(self._tables):
            child = self._tables[level].index_select(0, nodes.clamp_min(0) * size + code).long()
            return child.where((code == wanted) & (nodes >= 0), -1)
        code = code.to(codes.dtype)
        first, counts = self.ranges[level].spans(nodes)
        width = self._width(level, counts)
        # the children of a node are followed by those of the next; replaced by the largest number they keep the order
        last = torch.iinfo(codes.dtype).max
        fill = torch.arange(2 * width, device=nodes.device).ge(width).to(codes.dtype) * last
        siblings = windows(codes, width).index_select(0, first)
        siblings = torch.maximum(siblings, windows(fill, width).index_select(0, width - counts))
        index = torch.searchsorted(siblings, code[:, None])[:, 0]
        child = first + index
        return child.where((index < counts) & (codes.index_select(0, child) == code) & (code == wanted), -1)

    @cached_property
    def _tables(self) -> list[Tensor]:
        """Child of every node and code of the upper levels, int32, flat, -1 for no child; only while this is small."""
        tables: list[Tensor] = []
        for codes, ranges, size in zip(self.codes, self.ranges, self.level_sizes, strict=True):
            parents = len(ranges.offsets) - 1
            if parents * size > TABLE_SIZE:
                break
            table = torch.full((parents * size,), -1, dtype=torch.int32, device=self.device)
            table[ranges.all_parents() * size + codes] = torch.arange(len(codes), dtype=torch.int32, device=self.device)
            tables.append(table)
        return tables

    def _width(self, level: int, counts: Tensor) -> int:
        on_host = counts.device.type == "cpu" and len(counts) > 0
        return int(counts.max()) if on_host else self.max_children[level]

    def leaf_rows(self, leaves: Tensor, *, limit: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the items of leaves.

        Args:
            leaves: nodes of depth L, `[R]`; -1 has no items.
            limit: maximum number of items per leaf.

        Returns:
            Catalog rows `[R, m]` int64 and validity `[R, m]`; m is the size of the largest leaf (of the given ones on
            CPU, of any on GPU), or `limit`.
        """
        known = leaves >= 0
        leaves = leaves.clamp_min(0)
        if self.leaf_ranges is None:
            return self.leaf_items[leaves].long()[:, None], known[:, None]
        first, counts = self.leaf_ranges.spans(leaves)
        on_host = leaves.device.type == "cpu" and len(leaves) > 0
        largest = int(counts.max()) if on_host else self.max_leaf_items
        steps = torch.arange(largest if limit is None else min(largest, limit), device=leaves.device)
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

    @cached_property
    def leaves(self) -> Tensor:
        """Leaf (node of depth L) of every catalog row, int32 `[N]`, -1 for removed rows; computed on first use."""
        items = torch.arange(len(self.leaf_items), device=self.device)
        table = torch.full((self.num_items,), -1, dtype=torch.int32, device=self.device)
        table[self.leaf_items] = (items if self.leaf_ranges is None else self.leaf_ranges.all_parents()).int()
        return table

    def to(self, device: torch.device | str) -> "SidTrie":
        """Return the trie on `device`, always the same object for a device; itself if it is there already.

        Copies are kept by the original trie, which a copy returns for the original device.
        """
        device = torch.empty(0, device=device).device  # "cuda" is the current one
        origin = (None if self._origin is None else self._origin()) or self
        for known in (self, origin):
            if known.device == device:
                return known
        if device not in origin._copies:
            origin._copies.setdefault(device, origin._on(device))
        return origin._copies[device]

    def _on(self, device: torch.device) -> "SidTrie":
        moved = copy.copy(self)
        moved._codes = [level.to(device) for level in self._codes]
        moved.ranges = [level.to(device) for level in self.ranges]
        moved.leaf_items = self.leaf_items.to(device)
        moved.leaf_ranges = None if self.leaf_ranges is None else self.leaf_ranges.to(device)
        moved._origin = ref(self)  # weak: a reference cycle would keep device memory until garbage collection
        return moved

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy, without caches and copies on other devices."""
        made = ("leaves", "_tables", "_copies", "_origin")
        kept = {name: value for name, value in self.__dict__.items() if name not in made}
        return {**kept, "_copies": {}, "_origin": None}

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self.leaf_items.device

    @property
    def nbytes(self) -> int:
        """Bytes of the index, without caches (leaves of rows, tables of upper levels)."""
        leaves = 0 if self.leaf_ranges is None else self.leaf_ranges.nbytes
        levels = sum(codes.nbytes + ranges.nbytes for codes, ranges in zip(self._codes, self.ranges, strict=True))
        return self.leaf_items.nbytes + leaves + levels


def _at(item_ids: tuple[str, ...] | None, rows: np.ndarray | None) -> Sequence[str] | None:
    """Return the ids of some rows; all ids for None."""
    return item_ids if item_ids is None or rows is None else [item_ids[row] for row in rows.tolist()]


def windows(values: Tensor, width: int) -> Tensor:
    """Return all windows of `width` consecutive `values` `[n]` as rows of a view; indexing copies whole windows."""
    return values.as_strided((len(values) - width + 1, width), (1, 1))
