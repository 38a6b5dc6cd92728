"""Candidates of a hybrid: the items that its parts list for a request, with every part's rank and score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Candidates:
    """The union of the lists of P parts for B requests; C is the largest number of candidates of a request.

    Candidates are ordered by their best rank in a list, then by the order of the parts, then by catalog row.

    Attributes:
        items: catalog rows, int64 `[B, C]`, -1 after the last one.
        ranks: 1-based rank in every part's list, float64 `[B, C, P]`, nan where the part does not list the item.
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
        """Return the column of one item a request `[B]` among the candidates, int64 `[B]`, -1 where it is none."""
        is_wanted = self.items == np.asarray(wanted)[:, None]
        return np.where(is_wanted.any(axis=1), is_wanted.argmax(axis=1), -1)

    def standardised(self) -> np.ndarray:
        """Return every part's scores less their mean over the candidates of the request, over their standard deviation.

        An item without a score has the lowest standardised one of the request and part; float64 `[B, C, P]`.
        """
        is_known = ~np.isnan(self.scores)
        counts = np.maximum(is_known.sum(axis=1, keepdims=True), 1)
        means = np.where(is_known, self.scores, 0.0).sum(axis=1, keepdims=True) / counts
        centered = np.where(is_known, self.scores - means, 0.0)
        deviations = np.sqrt((centered**2).sum(axis=1, keepdims=True) / counts)
        scaled = centered / np.where(deviations > 0, deviations, 1.0)
        return np.where(is_known, scaled, scaled.min(axis=1, keepdims=True, initial=0.0))

    def ranked(self, scores: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the best items, int64 `[B, top_k]`, and their scores, float64, -1 and -inf where there are fewer.

        Equal scores keep the order of the candidates.

        Args:
            scores: of the candidates, `[B, C]`.
            top_k: length of the lists.
        """
        scores = np.where(self.items >= 0, scores, -np.inf)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
        items = np.take_along_axis(self.items, order, axis=1)
        best = np.take_along_axis(scores, order, axis=1)
        missing = ((0, 0), (0, top_k - items.shape[1]))
        return np.pad(items, missing, constant_values=-1), np.pad(best, missing, constant_values=-np.inf)


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
    widths = [part.shape[1] for part in lists]
    listed = np.concatenate([np.asarray(part, dtype=np.int64) for part in lists], axis=1)  # [B, W]
    values = np.concatenate([np.asarray(part, dtype=np.float64) for part in scores], axis=1)
    order = np.argsort(listed, axis=1, kind="stable")
    ordered = np.take_along_axis(listed, order, axis=1)
    is_new = np.ones(ordered.shape, dtype=bool)
    is_new[:, 1:] = (ordered[:, 1:] != ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    is_new[:, :1] = ordered[:, :1] >= 0
    slots = is_new.cumsum(axis=1) - 1  # equal items share a slot
    rows, columns = np.nonzero(ordered >= 0)
    slots = slots[rows, columns]
    taken = order[rows, columns]
    items = np.full((len(listed), int(slots.max(initial=-1)) + 1), -1, dtype=np.int64)
    items[rows, slots] = ordered[rows, columns]
    parts = np.repeat(np.arange(len(lists)), widths)[taken]
    own_ranks = np.concatenate([np.arange(1, width + 1) for width in widths])[taken]
    ranks = np.full((*items.shape, len(lists)), np.nan)
    ranks[rows, slots, parts] = own_ranks
    known = np.full(ranks.shape, np.nan)
    known[rows, slots, parts] = values[rows, taken]
    finite = np.where(np.isnan(ranks), np.inf, ranks)
    first_to_last = np.lexsort((items, finite.argmin(axis=2), finite.min(axis=2, initial=np.inf)))  # empty slots last
    return Candidates(
        np.take_along_axis(items, first_to_last, axis=1),
        np.take_along_axis(ranks, first_to_last[:, :, None], axis=1),
        np.take_along_axis(known, first_to_last[:, :, None], axis=1),
    )
