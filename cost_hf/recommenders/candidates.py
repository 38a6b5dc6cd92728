"""Candidates of a hybrid: the items that its parts list for a request, with every part's rank and score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Candidates:
    """The union of the lists of P parts for B requests; C is the largest number of candidates of a request.

    Candidates are ordered by their best rank in a list, then by the order of the parts.

    Attributes:
        items: catalog rows, int64 `[B, C]`, -1 after the last one.
        ranks: 1-based rank in every part's list, float64 `[B, C, P]`, nan where the part does not list the item; items
            of equal scores may share the mean of their ranks.
        scores: score of every part, float64 `[B, C, P]`, nan where the part gives none.
    """

    items: np.ndarray
    ranks: np.ndarray
    scores: np.ndarray

    def __repr__(self) -> str:
        """Return the shape in one line."""
        requests, width, parts = self.ranks.shape
        return f"Candidates({requests} requests, at most {width} items of {parts} parts)"

    def __len__(self) -> int:
        return len(self.items)

    def columns_of(self, wanted: np.ndarray) -> np.ndarray:
        """Return the columns of R items a request `[B, R]`, int64 `[B, R]`, -1 for an item that is no candidate."""
        is_wanted = (self.items[:, None, :] == wanted[:, :, None]) & (wanted[:, :, None] >= 0)  # [B, R, C]
        if not self.items.size:
            return np.full(wanted.shape, -1, dtype=np.int64)
        return np.where(is_wanted.any(axis=2), is_wanted.argmax(axis=2), -1)

    def standardised(self) -> np.ndarray:
        """Return every part's scores less their mean over the candidates of the request, over their standard deviation.

        Equal scores are all 0. An item without a score has the lowest standardised one of the request and part.

        Returns:
            float64 `[B, C, P]`, 0 for padding.
        """
        is_known = ~np.isnan(self.scores)
        known = np.where(is_known, self.scores, 0.0)
        counts = np.maximum(is_known.sum(axis=1, keepdims=True), 1)
        first = np.take_along_axis(known, is_known.argmax(axis=1)[:, None], axis=1) if known.size else 0.0
        # the mean of equal scores may differ from them by rounding, and that is no deviation
        differ = (is_known & (known != first)).any(axis=1, keepdims=True)
        centered = np.where(is_known & differ, known - known.sum(axis=1, keepdims=True) / counts, 0.0)
        deviations = np.sqrt((centered**2).sum(axis=1, keepdims=True) / counts)
        scaled = centered / np.where(deviations > 0, deviations, 1.0)
        filled = np.where(is_known, scaled, scaled.min(axis=1, keepdims=True, initial=0.0))
        return np.where(self.items[:, :, None] >= 0, filled, 0.0)

    def ranked(self, scores: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the best items, int64 `[B, top_k]`, and their scores, float64, -1 and -inf where there are fewer.

        Equal scores keep the order of the candidates.

        Args:
            scores: of the candidates, `[B, C]`.
            top_k: length of the lists.
        """
        scores = np.where(self.items >= 0, scores, -np.inf)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
        requests = np.arange(len(scores))[:, None]
        items = np.full((len(scores), top_k), -1, dtype=np.int64)
        best = np.full(items.shape, -np.inf)
        items[:, : order.shape[1]] = self.items[requests, order]
        best[:, : order.shape[1]] = scores[requests, order]
        return items, best


def merge_lists(lists: Sequence[np.ndarray], scores: Sequence[np.ndarray]) -> Candidates:
    """Return the union of ranked lists; the score of an item that a part does not list is nan.

    Args:
        lists: one table `[B, R]` a part (R may differ), catalog rows, best first, -1 as padding, no item twice.
        scores: of the same shapes.

    Raises:
        ValueError: for lists of different requests.

    Examples:
        >>> import numpy as np
        >>> lists = [np.array([[1, 2]]), np.array([[4, 1]])]
        >>> found = merge_lists(lists, [np.array([[9.0, 8.0]]), np.array([[3.0, 2.0]])])
        >>> found.items.tolist(), found.ranks[0].tolist()
        ([[1, 4, 2]], [[1.0, 2.0], [nan, 1.0], [2.0, nan]])
    """
    if len({len(part) for part in lists}) > 1:
        raise ValueError(f"lists must be of the same requests, got {[len(part) for part in lists]!r}; rank all of them")
    num_requests = len(lists[0])
    num_parts = len(lists)
    longest = max(part.shape[1] for part in lists)
    listed = np.full((num_requests, longest, num_parts), -1, dtype=np.int64)
    known = np.full(listed.shape, np.nan)
    for part, (own, own_scores) in enumerate(zip(lists, scores, strict=True)):
        listed[:, : own.shape[1], part] = own
        known[:, : own.shape[1], part] = own_scores
    requests, places, parts = np.nonzero(listed >= 0)  # by request, then by rank, then by part
    entries = listed[requests, places, parts]
    keys = requests * (entries.max(initial=0) + 1) + entries
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    # candidates stand in the order in which their first entries do
    counts = np.bincount(requests[first], minlength=num_requests)
    columns = np.empty(len(first), dtype=np.int64)
    columns[np.argsort(first)] = np.arange(len(first)) - np.repeat(counts.cumsum() - counts, counts)
    columns = columns[group]
    shape = (num_requests, int(counts.max(initial=0)), num_parts)
    items = np.full(shape[:2], -1, dtype=np.int64)
    items[requests, columns] = entries
    ranks = np.full(shape, np.nan)
    ranks[requests, columns, parts] = places + 1
    found = np.full(shape, np.nan)
    found[requests, columns, parts] = known[requests, places, parts]
    return Candidates(items, ranks, found)
