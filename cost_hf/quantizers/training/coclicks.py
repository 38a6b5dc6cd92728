"""Items clicked together as positives of the contrastive term: CoST's motive, neighbourhoods, taken from clicks.

The target of an item's softmax is a distribution over the batch: `share` of it goes to the items that were clicked
together with it, in proportion to the counts, the rest to its own reconstruction. An item that has none of them in the
batch keeps all for itself. Batches are made so that most items meet one: an epoch is a random order of pairs of an item
and a partner, drawn by count among those that have none yet, and of the items that are left. Every item comes once an
epoch, so the number of steps, and of negatives, is that of training without co-clicks.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from cost_hf.quantizers.cost.objectives_cost import gather_rows
from cost_hf.quantizers.training.trainer import QuantizerTrainer

ROWS = "rows"  # column of a batch: the number of an item, `[B, 1]`
MATCHING_ROUNDS = 4  # after which hardly a free item has a free partner


class CoclickTrainer(QuantizerTrainer):
    """Trains a `CostModel` whose contrastive term has co-clicked items as positives.

    Args:
        coclicks: counts `[N, N]` of the items in the order of the training table.
        share: of the target of an item that has co-clicked items in its batch.
        arguments: of `Trainer`; batches hold `rows` `[B, 1]`.
    """

    def __init__(self, *, coclicks: csr_matrix, share: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._coclicks = coclicks
        self._share = share

    def model_inputs(self, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the item vectors and the shares of the other candidates in the target of each."""
        own = inputs[ROWS][:, 0]
        candidates = gather_rows(inputs[ROWS])[0][:, 0]
        shares = positive_shares(self._coclicks, own.cpu().numpy(), candidates.cpu().numpy(), share=self._share)
        return super().model_inputs(inputs) | {"positives": torch.from_numpy(shares).to(own.device)}

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler:
        return PairedSampler(self._coclicks, seed=self.args.seed)


def positive_shares(coclicks: csr_matrix, own: np.ndarray, candidates: np.ndarray, *, share: float) -> np.ndarray:
    """Return the shares of candidates in the targets of items, fp32 `[B, C]`; a row sums to `share`, or to 0.

    Args:
        coclicks: counts `[N, N]`.
        own: the items, `[B]`.
        candidates: items whose reconstructions are candidates, `[C]`.
        share: of all co-clicked candidates together.
    """
    counts = coclicks[own][:, candidates].toarray().astype(np.float64)
    totals = counts.sum(1, keepdims=True)
    return (share * counts / np.maximum(totals, 1)).astype(np.float32)


class PairedSampler(Sampler[int]):
    """Random order of all items, as a function of (seed, epoch), in which most follow or precede a co-clicked one.

    Args:
        coclicks: counts `[N, N]`, by which partners are drawn.
        seed: with the epoch, of the order.
    """

    def __init__(self, coclicks: csr_matrix, *, seed: int) -> None:
        self.coclicks = coclicks
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.coclicks.shape[0]

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        partner = matched_partners(self.coclicks, random)
        rank = random.random(len(partner))
        key = np.where(partner < 0, rank, rank[np.minimum(partner, np.arange(len(partner)))])  # the same in a pair
        return iter(np.argsort(key, kind="stable").tolist())


def matched_partners(coclicks: csr_matrix, random: np.random.Generator) -> np.ndarray:
    """Return a partner of each item, -1 for none, int64 `[N]`; partners have each other.

    In each round free items draw one of their co-clicked items by count, pairs of two free items get random priorities,
    and a pair is matched where it has the highest one of both.
    """
    counts = coclicks.data.cumsum()
    before = np.concatenate([[0], counts])[coclicks.indptr]  # of the rows above, [N + 1]
    partner = np.full(coclicks.shape[0], -1, dtype=np.int64)
    for _ in range(MATCHING_ROUNDS):
        free = np.flatnonzero((partner < 0) & (np.diff(before) > 0))
        place = before[free] + random.random(len(free)) * (before[free + 1] - before[free])
        drawn_entry = np.minimum(
            np.searchsorted(counts, place, side="right"), coclicks.indptr[free + 1] - 1
        )  # rounding
        drawn = coclicks.indices[drawn_entry].astype(np.int64)
        priority = random.permutation(len(free))
        is_free = partner[drawn] < 0
        first = free[is_free]
        second = drawn[is_free]
        own = priority[is_free]
        best = np.full(len(partner), -1, dtype=np.int64)
        np.maximum.at(best, first, own)
        np.maximum.at(best, second, own)
        wins = (best[first] == own) & (best[second] == own)
        partner[first[wins]] = second[wins]
        partner[second[wins]] = first[wins]
    return partner
