"""The interface between models and lists of items: histories in, ranked catalog rows out.

Evaluation and recommenders know only `Ranker`, so a generator, a dense model and a counting baseline are evaluated by
the same code. `ScoringRanker` makes a ranker of anything that scores the whole catalog, with one published tie rule.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from cost_hf.search.certificate import Certificate
from cost_hf.semantic_ids.catalog_mask import CatalogMask, check_batch
from cost_hf.semantic_ids.item_ids import id_ranks, item_id_list
from cost_hf.semantic_ids.options import ranked_number

TILE_SCORES = 2**24  # held at once: 128 MiB of fp64; a scorer may need a few such tables on the way


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best items of B histories, best first.

    Attributes:
        items: catalog rows, int64 `[B, R]`, -1 after the last one where fewer are legal.
        scores: their scores, float `[B, R]`, comparable within a row; -inf where `items` is -1.
        certificate: how much of the lists a beam search proved to be the best of the catalog; None for other rankers.
    """

    items: Tensor
    scores: Tensor
    certificate: Certificate | None = None

    def __repr__(self) -> str:
        """Return the shape in one line."""
        histories, places = self.items.shape
        return f"Ranking({histories} histories, {places} places)"


class Ranker(Protocol):
    """Ranks the catalog for a batch of histories.

    A ranker whose `rank` also has a keyword `user_ids` (a sequence of B raw ids) is passed them by the evaluation; all
    others see histories only.
    """

    def rank(self, histories: Tensor, *, top_k: int, mask: Tensor | CatalogMask | None = None) -> Ranking:
        """Return the best items of every history.

        Args:
            histories: catalog rows, oldest first, int64 `[B, T]`, -1 to the right of shorter ones.
            top_k: items wanted; the list may be shorter where the ranker can't make longer ones (beams).
            mask: items that may be returned, a `CatalogMask` or a bool `[N]` or `[B, N]`, where one line counts for all
                requests; None allows all.
        """
        ...


@runtime_checkable
class ProvableRanker(Protocol):
    """A ranker whose scores are defined for every item, so that a list can be proved to be the best of the catalog."""

    def exact(self) -> Ranker:
        """Return a ranker with the same scores that misses no item, as far as the `certificate` of a list goes."""


def exact_ranker(ranker: Ranker) -> Ranker:
    """Return the exact version of a ranker; raise ValueError for one that scores candidates alone."""
    if not isinstance(ranker, ProvableRanker):
        raise ValueError(
            f"exact=True needs a score of every item of the catalog, and {type(ranker).__name__} gives scores of its "
            "own to candidates alone: whether another item would be better is not known; call recommend without exact"
        )
    return ranker.exact()


def training_clicks(popularity: Any) -> np.ndarray:
    """Return training clicks `[M]` as int64; raise ValueError for what are no counts."""
    counts = np.asarray(popularity)
    is_numeric = counts.ndim == 1 and counts.dtype.kind in "iuf"
    wrong = np.ones(1, dtype=bool)
    if is_numeric:
        wrong = ~np.isfinite(counts) | (counts < 0) | (counts >= 2**63)
        wrong |= np.where(wrong, 0, counts) % 1 != 0
    if wrong.any():
        found = f"{counts[wrong][0]!r} in row {int(wrong.argmax())}" if is_numeric else f"{counts.dtype} {counts.shape}"
        raise ValueError(f"popularity must be training clicks [N], whole numbers of 0 or more, got {found}")
    return counts.astype(np.int64)


def popularity_order(popularity: np.ndarray, item_ids: Sequence[str]) -> np.ndarray:
    """Return catalog rows, most clicked first, ties by ascending item id, int64 `[N]`; `popularity` are counts."""
    return np.lexsort((id_ranks(item_ids), -training_clicks(popularity)))


def score_tiles(num_histories: int, num_items: int) -> list[range]:
    """Return B histories in parts of which each has at most `TILE_SCORES` scores of N items, or is one history."""
    step = max(1, TILE_SCORES // max(num_items, 1))
    return [range(start, min(start + step, num_histories)) for start in range(0, max(num_histories, 1), step)]


def takes_user_ids(ranker: Ranker) -> bool:
    """Tell whether a ranker needs the raw ids of the users."""
    return "user_ids" in inspect.signature(ranker.rank).parameters


class Scorer(Protocol):
    """Scores every catalog item for every history."""

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """Return scores `[B, N]`, higher is better, for histories `[B, T]` (catalog rows, -1 pads on the right)."""
        ...


class ScoringRanker:
    """Ranks the whole catalog by a scorer; a `Ranker`.

    Ties are ordered by descending training popularity, then ascending item id, on every machine and in every batch.

    Args:
        scorer: gives scores `[B, N]`.
        popularity: training clicks per catalog row, `[N]`.
        item_ids: ids of the catalog rows, N strings.
    """

    def __init__(self, scorer: Scorer, *, popularity: np.ndarray, item_ids: Sequence[str]):
        item_ids = item_id_list(item_ids) if not isinstance(item_ids, tuple) else item_ids
        popularity = training_clicks(popularity)
        if len(popularity) != len(item_ids):
            raise ValueError(
                f"popularity and item_ids must both have one entry per catalog row, got {len(popularity)!r} and "
                f"{len(item_ids)!r}; take both from the same catalog"
            )
        self.scorer = scorer
        self.item_ids = tuple(item_ids)
        order = popularity_order(popularity, self.item_ids)
        self._tie_order = torch.from_numpy(order)  # catalog rows, first of equals first
        self._tie_rank = self._tie_order.argsort()  # place of every catalog row there

    def rank(self, histories: Tensor, *, top_k: int, mask: Tensor | CatalogMask | None = None) -> Ranking:
        """Return the best `top_k` items of every history `[B, T]`; rows are `top_k` wide, -1 where fewer are legal.

        Where the scores of all histories would be too large a table, a part of the histories is ranked at a time.
        """
        own = CatalogMask.of(mask, len(self.item_ids), self.item_ids)
        tiles = score_tiles(len(histories), len(self.item_ids))
        if len(tiles) == 1:
            return self.rank_scores(self.scores(histories), top_k=top_k, mask=own)
        if own is not None and own.batch is not None:
            check_batch(len(histories), own.batch)
        parts = [
            self.rank_scores(self.scores(histories[tile]), top_k=top_k, mask=None if own is None else own.take(tile))
            for tile in tiles
        ]
        return Ranking(torch.cat([part.items for part in parts]), torch.cat([part.scores for part in parts]))

    def scores(self, histories: Tensor) -> Tensor:
        """Return the scores of the whole catalog, float `[B, N]`, for histories `[B, T]`; a table of its own."""
        scores = self._numbers(np.asarray(self.scorer.scores(histories.cpu().numpy())))
        expected = (len(histories), len(self._tie_order))
        if scores.shape != expected:
            raise ValueError(
                f"{type(self.scorer).__name__}.scores must return one score per history and catalog row, "
                f"{expected!r}, got shape {scores.shape!r}; fit the scorer on the same catalog"
            )
        return torch.from_numpy(np.array(scores))  # a copy: scorers may return views of what they keep

    def rank_scores(self, scores: Tensor, *, top_k: int, mask: Tensor | CatalogMask | None = None) -> Ranking:
        """Return the ranking of `scores`, in which items outside the mask are set to -inf."""
        top_k = ranked_number(top_k, "top_k", len(self.item_ids))
        catalog_mask = CatalogMask.of(mask, scores.shape[1], self.item_ids)
        if catalog_mask is not None:
            catalog_mask.hide(scores)
        width = min(top_k, scores.shape[1])
        best = scores.topk(min(width + 1, scores.shape[1]), dim=1)  # NaN sorts first
        if best.values.isnan().any():
            raise ValueError(f"{type(self.scorer).__name__}.scores must be numbers or -inf, got NaN; fix the scorer")
        columns = _top_columns(scores, best.values, best.indices, width, self._tie_order, self._tie_rank)
        values = scores.gather(1, columns)
        items = columns.masked_fill(values == -torch.inf, -1)
        missing = (0, top_k - width)
        pad = torch.nn.functional.pad
        return Ranking(pad(items, missing, value=-1), pad(values, missing, value=-torch.inf))

    def exact(self) -> "ScoringRanker":
        """Return itself: every item is scored."""
        return self

    def _numbers(self, scores: np.ndarray) -> np.ndarray:
        """Return scores as floats of a type that torch knows; only floats have a -inf for masked items."""
        if scores.dtype in (np.float16, np.float32, np.float64) and scores.dtype.isnative:
            return scores
        is_rounded = scores.dtype.kind in "iu" and scores.size > 0 and int(scores.max()) > 2**53
        if scores.dtype.kind not in "biufO" or is_rounded:
            raise ValueError(
                f"{type(self.scorer).__name__}.scores must be real numbers that a float64 tells apart, got "
                f"{scores.dtype}{' beyond 2^53' if is_rounded else ''}; scale or convert them"
            )
        return scores.astype(np.float64)


def _top_columns(
    scores: Tensor, values: Tensor, columns: Tensor, width: int, tie_order: Tensor, tie_rank: Tensor
) -> Tensor:
    """Return the columns of the `width` highest scores `[B, N]`, best first, equal ones in `tie_order`, int64 `[B,
    width]`; `tie_rank` is the inverse of that order.

    `topk` picks any of equal scores. That makes no difference but where the last one that has room equals the first one
    that has none: there all scores are compared with it.

    Args:
        values, columns: of the highest scores, one more than `width` where there is one.
    """
    crowded = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    if values.shape[1] > width:
        last = values[:, width - 1]
        crowded = (values[:, width] == last) & (last > -torch.inf)  # columns without a score are dropped anyway
    columns = columns[:, :width].clone()
    if crowded.any():
        columns[crowded] = _columns_in_tie_order(scores[crowded], values[crowded, width - 1, None], width, tie_order)
    columns = columns.gather(1, tie_rank[columns].argsort(dim=1))
    order = scores.gather(1, columns).argsort(dim=1, descending=True, stable=True)
    return columns.gather(1, order)


def _columns_in_tie_order(scores: Tensor, threshold: Tensor, width: int, tie_order: Tensor) -> Tensor:
    """Return the columns of the scores above the threshold `[B, 1]`, and of as many of those that equal it, the first
    in `tie_order`, as there is room for, `[B, width]`."""
    ordered = scores[:, tie_order]
    is_above = ordered > threshold
    is_level = ordered == threshold
    room = width - torch.count_nonzero(is_above, dim=1)
    is_in = is_above | (is_level & (is_level.cumsum(1, dtype=torch.int32) <= room[:, None]))
    return tie_order[is_in.nonzero()[:, 1]].view(len(scores), width)
