"""Proof that the top of a list is the top of the whole catalog, from what a search pruned.

The score of an item is a sum of natural-log probabilities along its path in the trie, and none of them is above 0: no
item below a pruned prefix can score above the prefix. A position of a list whose score is above that of every pruned
prefix therefore holds the item that scoring the whole catalog would rank there.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cost_hf.semantic_ids.catalog_mask import TrieMask
from cost_hf.semantic_ids.trie import SidTrie

# machine epsilons of the model's dtype, relative to a score. Two searches that multiply the same matrices in another
# order differ by 2 of them in float32 and by 4 in bfloat16 (benchmarks/results/speed/decode.json, decode_gpu.json).
ROUNDING = 16


@dataclass(frozen=True, eq=False)
class Beams:
    """Leaves that a search kept, best first, and the best of what it did not keep.

    Attributes:
        nodes: leaves of the trie, `[B, R]`; any one where the score is -inf.
        scores: sums of natural-log probabilities, `[B, R]`.
        codes: `[B, R, L]`.
        pruned: highest score of a prefix or leaf that was not kept and leads to an allowed item, `[B]`; -inf for none.
        num_expanded: prefixes that were fed to the decoder, int64 `[B]`.
        rounding: see `relative_rounding`.
    """

    nodes: Tensor
    scores: Tensor
    codes: Tensor
    pruned: Tensor
    num_expanded: Tensor
    rounding: float


@dataclass(frozen=True, eq=False)
class Certificate:
    """What a search proves about the lists of B requests.

    It is about the scores that the model computes in its own precision and under the mask of the request. A position
    is proved only where its score is above `bound` by more than rounding (`ROUNDING` machine epsilons; products of
    reduced precision, such as TF32, round more). Items of one semantic ID share a score and follow the order of the
    trie.

    Attributes:
        num_exact: first positions of the list that are proved to hold the best items of the catalog, int64 `[B]`; all
            of them where no item is missing.
        bound: highest score that an item could have which the search did not return, `[B]`; -inf where none is left.
        num_expanded: prefixes that were fed to the decoder, int64 `[B]`.
    """

    num_exact: Tensor
    bound: Tensor
    num_expanded: Tensor

    def __repr__(self) -> str:
        """Return how many positions are proved, one number a request."""
        return f"Certificate(num_exact={self.num_exact.tolist()})"

    def is_exact(self, top_k: int) -> Tensor:
        """Return which lists are proved to begin with the best `top_k` items of the catalog, bool `[B]`."""
        return self.num_exact >= top_k

    def cut(self, top_k: int) -> "Certificate":
        """Return the certificate of the first `top_k` positions, on the CPU."""
        return Certificate(self.num_exact.clamp_max(top_k).cpu(), self.bound.cpu(), self.num_expanded.cpu())

    def clone(self) -> "Certificate":
        """Return a copy of all tensors."""
        return Certificate(self.num_exact.clone(), self.bound.clone(), self.num_expanded.clone())


def certify(trie: SidTrie, beams: Beams, listed: Tensor, mask: TrieMask | None) -> Certificate:
    """Return the certificate of the lists that the beams were expanded to.

    Args:
        trie: the legal SIDs.
        beams: of the search.
        listed: scores of the items, `[B, R]`, best first, -inf where there is none.
        mask: allowed items.
    """
    size = listed.shape[1]
    bound = highest = beams.pruned
    if trie.leaf_ranges is not None:
        counts = num_leaf_items(trie, beams.nodes, beams.scores, mask, most=size + 1)
        ends = counts.cumsum(1)
        bound = torch.maximum(bound, beams.scores.where(ends > size, -torch.inf).amax(1))
        # items of a leaf that the list cuts come after its listed ones, by the order of the trie
        highest = torch.maximum(highest, beams.scores.where(ends - counts >= size, -torch.inf).amax(1))
    is_proved = surely_above(listed, beams.rounding) > highest[:, None]
    num_exact = is_proved.sum(1).where(highest > -torch.inf, size)
    return Certificate(num_exact, bound, beams.num_expanded)


def relative_rounding(dtype: torch.dtype) -> float:
    """Return by how much of themselves scores of a model of this dtype may differ by the order of operations alone."""
    return ROUNDING * torch.finfo(dtype).eps


def surely_above(scores: Tensor, rounding: float) -> Tensor:
    """Return what the scores exceed by more than rounding, in the shape of `scores`; -inf for -inf."""
    return scores - rounding * scores.abs().clamp_min(1)


def best_left(candidates: Tensor, chosen: Tensor) -> Tensor:
    """Return the highest of `candidates` `[B, C]` that is not at the columns `chosen` `[B, k]`; -inf without any.

    The candidates are overwritten.
    """
    if candidates.shape[1] == 0:
        return candidates.new_full((len(candidates),), -torch.inf)
    return candidates.scatter_(1, chosen, -torch.inf).amax(1)


def num_leaf_items(trie: SidTrie, nodes: Tensor, scores: Tensor, mask: TrieMask | None, *, most: int) -> Tensor:
    """Return how many allowed items leaves `[B, R]` have, int64 `[B, R]`, 0 where the score is -inf.

    Without a mask, numbers above `most` may be returned as `most`.
    """
    rows, present = trie.leaf_rows(nodes.flatten(), limit=most if mask is None else None)
    present = present.view(*nodes.shape, -1) & scores.isfinite()[..., None]
    if mask is not None:
        present = present & mask.keeps_items(rows.view(present.shape))
    return present.sum(-1)
