"""Reciprocal-rank fusion: one list out of several, from ranks alone, so that scores of any kind can be mixed.

The score of an item is the sum of `weight / (offset + rank)` over the lists that hold it (Cormack, Clarke and Büttcher
2009, "Reciprocal rank fusion outperforms Condorcet"; they use an offset of 60 for lists of a thousand, lists of 50 want
a smaller one). Sums are rounded to 12 digits, so equal evidence ties whatever the order of its terms; ties stand by the
best single rank, then in the order of the lists, then by catalog row.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from cost_hf.evaluation.ranking import per_user_metrics
from cost_hf.recommenders.rankers import Ranker, Ranking, Scorer
from cost_hf.semantic_ids.catalog_mask import CatalogMask

OFFSET = 10
DEPTH = 50  # items asked of every part: the length of judged lists, on which weights are chosen
SCORER_DEPTH = 200  # a scorer's best items that have a rank; below it a place is worth less than .005
CUTOFF = 10  # weights are chosen on NDCG@10
WEIGHT_STEP = 0.1
DIGITS = 12


def fuse_lists(
    lists: Sequence[np.ndarray], weights: Sequence[float] | np.ndarray, *, top_k: int, offset: int = OFFSET
) -> np.ndarray:
    """Return the fused lists, catalog rows, int32 `[M, top_k]`, -1 where fewer items are listed.

    Args:
        lists: one table `[M, R]` a part (R may differ), best first, -1 where empty, no item twice in a row.
        weights: one a part; a part of weight 0 is left out, with the items that it alone lists.
        top_k: length of the fused lists.
        offset: added to every rank.

    Raises:
        ValueError: for weights that do not fit the lists, or lists about different cases.
    """
    return _fused(lists, weights, top_k=top_k, offset=offset)[0].astype(np.int32)


def choose_weights(
    lists: Sequence[np.ndarray], targets: np.ndarray, *, step: float = WEIGHT_STEP, offset: int = OFFSET
) -> np.ndarray:
    """Return the weights with the highest NDCG@10, float64 `[S]`, adding up to 1; of equals the most even ones.

    Args:
        lists: one table `[M, R]` a part, ranked for validation cases.
        targets: catalog row wanted in every case, `[M]`.
        step: all multiples of it that add up to 1 are tried.
        offset: as in `fuse_lists`.
    """
    parts = round(1.0 / step)
    if not np.isclose(parts * step, 1.0):
        raise ValueError(f"step must divide 1, got {step!r}; take 0.1 or 0.05")
    grid = np.array(list(_simplex(len(lists), parts)), dtype=np.float64) / parts  # [combinations, S]
    used, group = np.unique(grid > 0.0, axis=0, return_inverse=True)  # lists in use decide what there is to rank
    gains = np.empty(len(grid))
    for number, is_used in enumerate(used):
        own = np.flatnonzero(group == number)
        items, shares = _candidates(lists, grid[own[0]], offset)
        for row in own:
            ranks = _places(items, _weighted(shares, grid[row][is_used]), targets)
            gains[row] = per_user_metrics(ranks, [CUTOFF])[f"ndcg@{CUTOFF}"].mean()
    unevenness = (grid**2).sum(axis=1)
    return grid[np.lexsort((unevenness.round(DIGITS), -gains.round(DIGITS)))[0]]


class FusionRanker:
    """Ranks by the weighted reciprocal ranks of its parts; a `Ranker`.

    Args:
        rankers: the parts; one whose `rank` has a keyword `user_ids` is given them. Parts of weight 0 are never asked.
        weights: one a part, as `choose_weights` finds them.
        depth: items asked of every part; a longer list that is asked for extends it.
        offset: as in `fuse_lists`.
    """

    def __init__(
        self,
        rankers: Sequence[Ranker],
        weights: Sequence[float] | np.ndarray,
        *,
        depth: int = DEPTH,
        offset: int = OFFSET,
    ):
        _check_weights(weights, len(rankers))
        pairs = [(ranker, float(weight)) for ranker, weight in zip(rankers, weights, strict=True) if weight > 0]
        self.rankers, self.weights = [ranker for ranker, _ in pairs], [weight for _, weight in pairs]
        self.depth, self.offset = depth, offset

    def rank(
        self,
        histories: Tensor,
        *,
        top_k: int,
        mask: Tensor | CatalogMask | None = None,
        user_ids: Sequence[str] | None = None,
    ) -> Ranking:
        """Return the best `top_k` items of every history `[B, T]`, -1 where the parts list fewer."""
        lists = []
        for ranker in self.rankers:
            takes_users = user_ids is not None and "user_ids" in inspect.signature(ranker.rank).parameters
            extra = {"user_ids": user_ids} if takes_users else {}
            ranking = ranker.rank(histories, top_k=max(top_k, self.depth), mask=mask, **extra)
            lists.append(ranking.items.cpu().numpy())
        items, scores = _fused(lists, self.weights, top_k=top_k, offset=self.offset)
        return Ranking(torch.from_numpy(items), torch.from_numpy(scores))


class ReciprocalRankScorer:
    """Scores items by the sum of their reciprocal ranks under several scorers, all weighed alike; a `Scorer`.

    Equal scores of a part share the mean of their ranks, so they stay equal. Ranks are those among all items: a mask
    that a ranker applies later does not move them.

    Args:
        scorers: the parts, fitted on one catalog.
        depth: items of a part beyond this rank count nothing.
        offset: added to every rank.
    """

    def __init__(self, scorers: Sequence[Scorer], *, depth: int = SCORER_DEPTH, offset: int = OFFSET):
        self.scorers, self.depth, self.offset = list(scorers), depth, offset

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """Return summed reciprocal ranks, float64 `[B, N]`, 0 for items beyond the depth of all parts."""
        parts = (reciprocal_ranks(scorer.scores(histories), self.depth, self.offset) for scorer in self.scorers)
        return reduce(np.add, parts).round(DIGITS)


def reciprocal_ranks(scores: np.ndarray, depth: int, offset: int) -> np.ndarray:
    """Return `1 / (offset + rank)` of the `depth` best scores of every row, float64 `[B, N]`, 0 for the others.

    Equal scores share the mean of their ranks; those that equal the last one are all in.
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


def _fused(
    lists: Sequence[np.ndarray], weights: Sequence[float] | np.ndarray, *, top_k: int, offset: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the fused items, int64 `[M, top_k]`, -1 behind the last, and their scores, -inf there."""
    _check_weights(weights, len(lists))
    if len({len(part) for part in lists}) > 1:
        raise ValueError(f"lists must be about the same cases, got {[len(part) for part in lists]!r}; rank all of them")
    weights = np.asarray(weights, dtype=np.float64)
    items, shares = _candidates(lists, weights, offset)
    scores = _weighted(shares, weights[weights > 0])
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    items, scores = np.take_along_axis(items, order, axis=1), np.take_along_axis(scores, order, axis=1)
    missing = ((0, 0), (0, top_k - items.shape[1]))
    scores = np.where(items >= 0, scores, -np.inf)
    return np.pad(items, missing, constant_values=-1), np.pad(scores, missing, constant_values=-np.inf)


def _candidates(lists: Sequence[np.ndarray], weights: np.ndarray, offset: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the items of the lists with a weight, first of equals first, and their reciprocal rank in each.

    Returns:
        Catalog rows, int64 `[M, U]`, -1 behind the last one, and float64 `[M, U, S]`, 0 where a list lacks the item; S
        counts the lists in use.
    """
    used = [np.asarray(part, dtype=np.int64) for part, weight in zip(lists, weights, strict=True) if weight > 0]
    widths = [part.shape[1] for part in used]
    listed = np.concatenate(used, axis=1)  # [M, W]
    order = np.argsort(listed, axis=1, kind="stable")
    ordered = np.take_along_axis(listed, order, axis=1)
    is_new = np.ones(ordered.shape, dtype=bool)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    places = is_new.cumsum(axis=1) - 1  # equal items share a place
    rows, columns = np.nonzero(ordered >= 0)
    places, taken = places[rows, columns], order[rows, columns]
    items = np.full((len(listed), int(places.max(initial=0)) + 1), -1, dtype=np.int64)
    items[rows, places] = ordered[rows, columns]
    shares = np.zeros((*items.shape, len(used)))
    reciprocals = np.concatenate([1.0 / (offset + np.arange(1, width + 1)) for width in widths])
    shares[rows, places, np.repeat(np.arange(len(used)), widths)[taken]] = reciprocals[taken]
    first_to_last = np.lexsort((items, shares.argmax(axis=2), -shares.max(axis=2)))  # empty places come last
    items = np.take_along_axis(items, first_to_last, axis=1)
    return items, np.take_along_axis(shares, first_to_last[:, :, None], axis=1)


def _weighted(shares: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the fused scores of the candidates, float64 `[M, U]`."""
    return (shares * weights).sum(axis=2).round(DIGITS)


def _places(items: np.ndarray, scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the 1-based place of every target among the candidates, float64 `[M]`, nan where it is not listed."""
    is_target = items == np.asarray(targets)[:, None]
    columns = is_target.argmax(axis=1)[:, None]
    own = np.take_along_axis(scores, columns, axis=1)
    is_before = (scores > own) | ((scores == own) & (np.arange(items.shape[1]) < columns))
    return np.where(is_target.any(axis=1), 1.0 + (is_before & (items >= 0)).sum(axis=1), np.nan)


def _simplex(size: int, total: int) -> Iterator[tuple[int, ...]]:
    """Yield all ways to share `total` out to `size` lists, more for the first ones first."""
    if size == 1:
        yield (total,)
        return
    for own in range(total, -1, -1):
        for others in _simplex(size - 1, total - own):
            yield (own, *others)


def _check_weights(weights: Sequence[float] | np.ndarray, count: int) -> None:
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != (count,) or not (np.isfinite(given).all() and (given >= 0.0).all() and (given > 0.0).any()):
        raise ValueError(
            f"weights must be one number per list, {count!r}, at least 0 and not all 0, got {given.tolist()!r}"
        )


def ensemble_members(candidates: Mapping[str, tuple[str, float]]) -> list[str] | None:
    """Return the rows that an ensemble of a comparison is made of; None where there is nothing to combine.

    These are the first generative row, the dense row that is best on validation, and the texts of the last item.

    Args:
        candidates: family and validation score by row, in the order of the table.
    """
    generative = [name for name, (family, _) in candidates.items() if family == "generative"]
    dense = [name for name, (family, _) in candidates.items() if family == "dense"]
    if not generative or not dense:
        return None
    best = max(dense, key=lambda name: candidates[name][1])
    return [generative[0], best, *(name for name in candidates if name == "text_last")]
