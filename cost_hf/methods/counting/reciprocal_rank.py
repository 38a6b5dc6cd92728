"""The sum of reciprocal ranks of several scorers, which combines scores of any scale.

Cormack, Clarke and Büttcher 2009, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods".

Sums are rounded to 12 digits, so equal sums tie whatever the order of their terms.
"""

from collections.abc import Sequence
from functools import reduce

import numpy as np

from cost_hf.recommenders.rankers import Scorer

OFFSET = 10  # the paper has 60, for lists of a thousand items
SCORER_DEPTH = 200  # items of a scorer that get a rank; beyond it a rank is worth less than .005
DIGITS = 12


class ReciprocalRankScorer:
    """Scores items by the sum of their reciprocal ranks under several scorers, with equal weights; a `Scorer`.

    Equal scores of one scorer share the mean of their ranks, so they stay equal. Ranks are those among all items: a
    mask that a ranker applies later does not change them.

    Args:
        scorers: fitted on one catalog.
        depth: items of a scorer beyond this rank contribute 0.
        offset: added to every rank.
    """

    def __init__(self, scorers: Sequence[Scorer], *, depth: int = SCORER_DEPTH, offset: int = OFFSET):
        self.scorers = list(scorers)
        self.depth = depth
        self.offset = offset

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """Return summed reciprocal ranks, float64 `[B, N]`, 0 for items beyond the depth of all scorers."""
        parts = (reciprocal_ranks(scorer.scores(histories), self.depth, self.offset) for scorer in self.scorers)
        total = reduce(np.add, parts)
        return total.round(DIGITS, out=total)


def reciprocal_ranks(scores: np.ndarray, depth: int, offset: int) -> np.ndarray:
    """Return `1 / (offset + rank)` of the `depth` best scores of every row, float64 `[B, N]`, 0 for the others.

    Equal scores share the mean of their ranks; all scores that equal the last one within the depth are kept.
    """
    width = scores.shape[1]
    cut = max(0, width - depth)
    threshold = np.partition(scores, cut, axis=1)[:, [cut]]
    rows, columns = np.nonzero(scores >= threshold)
    values = scores[rows, columns]
    order = np.lexsort((-values, rows))  # row by row, best first
    starts = np.searchsorted(rows, np.arange(len(scores)))  # rows ascend
    ranks = np.arange(1, len(rows) + 1) - starts[rows]
    is_new = np.ones(len(rows), dtype=bool)
    is_new[1:] = (np.diff(rows) != 0) | (np.diff(values[order]) != 0)
    group = is_new.cumsum() - 1
    mean_ranks = (np.bincount(group, weights=ranks) / np.bincount(group))[group]
    table = np.zeros(scores.shape)
    table[rows[order], columns[order]] = 1.0 / (offset + mean_ranks)
    return table
