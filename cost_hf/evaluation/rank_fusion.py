"""Reciprocal-rank fusion: merges ranked lists by their ranks alone, so lists with scores of any scale can be combined.

The score of an item is the sum of `weight / (offset + rank)` over the lists that contain it (Cormack, Clarke and
Büttcher 2009, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods"; they use an offset
of 60 for lists of a thousand items, lists of 50 need a smaller one). Sums are rounded to 12 digits, so equal sums tie
whatever the order of their terms. Ties are broken by the best single rank, then by the order of the lists, then by
catalog row.
"""

from collections.abc import Iterator, Sequence
from functools import reduce

import numpy as np

from cost_hf.evaluation.ranking import per_user_metrics
from cost_hf.recommenders.rankers import Scorer

OFFSET = 10
DEPTH = 50  # items taken from every list; weights are chosen on lists of this length
SCORER_DEPTH = 200  # items of a scorer that get a rank; beyond it a rank is worth less than .005
CUTOFF = 10  # weights are chosen on NDCG@10
WEIGHT_STEP = 0.1
DIGITS = 12


def fuse_lists(
    lists: Sequence[np.ndarray], weights: Sequence[float] | np.ndarray, *, top_k: int, offset: int = OFFSET
) -> np.ndarray:
    """Return the fused lists, catalog rows, int32 `[M, top_k]`, -1 where fewer items are listed.

    Args:
        lists: one table `[M, R]` a ranker (R may differ), best first, -1 as padding, no item twice in a row.
        weights: one a list; a list of weight 0 is left out, with the items that it alone contains.
        top_k: length of the fused lists.
        offset: added to every rank.

    Raises:
        ValueError: for weights that do not fit the lists, or lists of different cases.

    Examples:
        >>> import numpy as np
        >>> fuse_lists([np.array([[1, 2, 3]]), np.array([[4, 3, 5]])], [0.5, 0.5], top_k=3).tolist()
        [[3, 1, 4]]
    """
    return fuse_with_scores(lists, weights, top_k=top_k, offset=offset)[0].astype(np.int32)


def fuse_with_scores(
    lists: Sequence[np.ndarray], weights: Sequence[float] | np.ndarray, *, top_k: int, offset: int = OFFSET
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lists of `fuse_lists`, int64 `[M, top_k]`, and their scores, float64, -inf at padding."""
    check_weights(weights, len(lists))
    if len({len(part) for part in lists}) > 1:
        raise ValueError(f"lists must be of the same cases, got {[len(part) for part in lists]!r}; rank all of them")
    weights = np.asarray(weights, dtype=np.float64)
    items, reciprocals = _candidates(lists, weights, offset)
    scores = _weighted(reciprocals, weights[weights > 0])
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    items = np.take_along_axis(items, order, axis=1)
    scores = np.take_along_axis(scores, order, axis=1)
    missing = ((0, 0), (0, top_k - items.shape[1]))
    scores = np.where(items >= 0, scores, -np.inf)
    return np.pad(items, missing, constant_values=-1), np.pad(scores, missing, constant_values=-np.inf)


def choose_weights(
    lists: Sequence[np.ndarray], targets: np.ndarray, *, step: float = WEIGHT_STEP, offset: int = OFFSET
) -> np.ndarray:
    """Return the weights with the highest NDCG@10, float64 `[S]`, summing to 1; among equals the most even ones.

    Args:
        lists: one table `[M, R]` a ranker, for validation cases.
        targets: target catalog row of every case, `[M]`.
        step: grid step; all combinations of its multiples that sum to 1 are tried.
        offset: as in `fuse_lists`.

    Raises:
        ValueError: for a step that does not divide 1.

    Examples:
        >>> import numpy as np
        >>> good, bad = np.array([[0, 9], [1, 9]]), np.array([[9, 8], [9, 8]])
        >>> choose_weights([good, bad], np.array([0, 1])).tolist()
        [1.0, 0.0]
    """
    units = round(1.0 / step)
    if not np.isclose(units * step, 1.0):
        raise ValueError(f"step must divide 1, got {step!r}; take 0.1 or 0.05")
    grid = np.array(list(_simplex(len(lists), units)), dtype=np.float64) / units  # [combinations, S]
    used, group = np.unique(grid > 0.0, axis=0, return_inverse=True)  # lists in use determine the candidates
    gains = np.empty(len(grid))
    for number, is_used in enumerate(used):
        own = np.flatnonzero(group == number)
        items, reciprocals = _candidates(lists, grid[own[0]], offset)
        for row in own:
            ranks = _target_ranks(items, _weighted(reciprocals, grid[row][is_used]), targets)
            gains[row] = per_user_metrics(ranks, [CUTOFF])[f"ndcg@{CUTOFF}"].mean()
    unevenness = (grid**2).sum(axis=1)
    return grid[np.lexsort((unevenness.round(DIGITS), -gains.round(DIGITS)))[0]]


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
        self.scorers, self.depth, self.offset = list(scorers), depth, offset

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """Return summed reciprocal ranks, float64 `[B, N]`, 0 for items beyond the depth of all scorers."""
        parts = (reciprocal_ranks(scorer.scores(histories), self.depth, self.offset) for scorer in self.scorers)
        return reduce(np.add, parts).round(DIGITS)


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


def _candidates(lists: Sequence[np.ndarray], weights: np.ndarray, offset: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the items of the lists with a weight, in the order that breaks ties, and their reciprocal ranks.

    Returns:
        Catalog rows, int64 `[M, U]`, padded with -1, and float64 `[M, U, S]`, 0 where a list does not contain the item;
        S counts the lists with a weight.
    """
    used = [np.asarray(part, dtype=np.int64) for part, weight in zip(lists, weights, strict=True) if weight > 0]
    widths = [part.shape[1] for part in used]
    listed = np.concatenate(used, axis=1)  # [M, W]
    order = np.argsort(listed, axis=1, kind="stable")
    ordered = np.take_along_axis(listed, order, axis=1)
    is_new = np.ones(ordered.shape, dtype=bool)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    slots = is_new.cumsum(axis=1) - 1  # equal items share a slot
    rows, columns = np.nonzero(ordered >= 0)
    slots = slots[rows, columns]
    taken = order[rows, columns]
    items = np.full((len(listed), int(slots.max(initial=0)) + 1), -1, dtype=np.int64)
    items[rows, slots] = ordered[rows, columns]
    table = np.zeros((*items.shape, len(used)))
    reciprocals = np.concatenate([1.0 / (offset + np.arange(1, width + 1)) for width in widths])
    table[rows, slots, np.repeat(np.arange(len(used)), widths)[taken]] = reciprocals[taken]
    first_to_last = np.lexsort((items, table.argmax(axis=2), -table.max(axis=2)))  # empty slots come last
    items = np.take_along_axis(items, first_to_last, axis=1)
    return items, np.take_along_axis(table, first_to_last[:, :, None], axis=1)


def _weighted(reciprocals: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the fused scores of the candidates, float64 `[M, U]`."""
    return (reciprocals * weights).sum(axis=2).round(DIGITS)


def _target_ranks(items: np.ndarray, scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the 1-based rank of every target among the candidates, float64 `[M]`, nan where it is not listed."""
    is_target = items == np.asarray(targets)[:, None]
    columns = is_target.argmax(axis=1)[:, None]
    own = np.take_along_axis(scores, columns, axis=1)
    is_before = (scores > own) | ((scores == own) & (np.arange(items.shape[1]) < columns))
    return np.where(is_target.any(axis=1), 1.0 + (is_before & (items >= 0)).sum(axis=1), np.nan)


def _simplex(size: int, total: int) -> Iterator[tuple[int, ...]]:
    """Yield all ways to distribute `total` units over `size` lists, more for the first lists first."""
    if size == 1:
        yield (total,)
        return
    for own in range(total, -1, -1):
        for others in _simplex(size - 1, total - own):
            yield (own, *others)


def check_weights(weights: Sequence[float] | np.ndarray, count: int) -> None:
    """Raise ValueError unless there is one finite weight a list, none negative and not all 0."""
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != (count,) or not (np.isfinite(given).all() and (given >= 0.0).all() and (given > 0.0).any()):
        raise ValueError(
            f"weights must be one number per list, {count!r}, at least 0 and not all 0, got {given.tolist()!r}"
        )
