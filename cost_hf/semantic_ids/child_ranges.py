"""Where the children of every trie node begin, in little more than two bytes a node.

The starts of one level only ever grow, and 64 nodes with at most 256 children each span fewer than 2^14 children, so a
32-bit start for every 64 nodes and a 16-bit offset for each node say the same as a 32-bit start for each. Most nodes
of a trie of items sit at the deep levels with one child each; this is what keeps the index below ten bytes an item.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BLOCK_BITS = 6


@dataclass(frozen=True, repr=False)
class ChildRanges:
    """Children of node j are `start(j) … start(j + 1) - 1` of the next level.

    Attributes:
        blocks: int32 start of every block of 64 nodes; all zeros where `offsets` are whole starts.
        offsets: start of each node, counted from its block, int16; int32 where a block spans too much; `[nodes + 1]`.
    """

    blocks: Tensor
    offsets: Tensor

    @classmethod
    def from_starts(cls, starts: np.ndarray) -> "ChildRanges":
        """Pack `starts` `[nodes + 1]`, growing."""
        blocks = starts[:: 1 << BLOCK_BITS].astype(np.int32)
        offsets = starts - np.repeat(blocks, 1 << BLOCK_BITS)[: len(starts)]
        if offsets.max() > np.iinfo(np.int16).max:
            blocks, offsets = np.zeros_like(blocks), starts.astype(np.int32)
        else:
            offsets = offsets.astype(np.int16)
        return cls(torch.from_numpy(blocks), torch.from_numpy(offsets))

    def start(self, nodes: Tensor) -> Tensor:
        """Return the first child of each node, int32; the shape of `nodes`."""
        flat = nodes.flatten()
        starts = self.blocks.index_select(0, flat >> BLOCK_BITS) + self.offsets.index_select(0, flat)
        return starts.view(nodes.shape)

    def spans(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first child of each node `[n]` and how many it has, int32 `[n]` both; -1 has none."""
        bounds = self.start(nodes.clamp_min(0)[:, None] + torch.arange(2, dtype=nodes.dtype, device=nodes.device))
        first = bounds[:, 0]
        return first, (bounds[:, 1] - first) * (nodes >= 0)

    def parents(self, children: Tensor) -> Tensor:
        """Return the node that each child `[n]` belongs to, int64."""
        children = children.to(torch.int32)
        if self.offsets.dtype == torch.int32:
            return torch.searchsorted(self.offsets, children, right=True) - 1
        node = torch.searchsorted(self.blocks, children, right=True) - 1
        inside, node = children - self.blocks.index_select(0, node), node << BLOCK_BITS
        for bit in reversed(range(BLOCK_BITS)):
            # the last offset is the end of all children: beyond any child, or in a block of its own, which none is in
            probe = (node + (1 << bit)).clamp_max(len(self.offsets) - 1)
            node = probe.where(self.offsets.index_select(0, probe) <= inside, node)
        return node

    def all_parents(self) -> Tensor:
        """Return the node that every child belongs to, `[children]` int64."""
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
