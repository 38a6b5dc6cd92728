"""Baselines without gradient training: popularity, co-occurrence counts and text neighbours.

They see the training part only, score the whole catalog in seconds, and belong in every table: on real data the
last-item text neighbour, the Markov counts or the sum of both are often ahead of everything that was trained. Each is a
`Scorer` (`recommender/rankers.py`); histories are catalog rows `[B, T]`, oldest first, -1 pads on the right.
"""

import difflib
from collections.abc import Callable, Sequence

import numpy as np
from scipy import sparse

from cost_hf.evaluation.similarity import unit_vectors
from cost_hf.methods.fusion import ReciprocalRankScorer
from cost_hf.recommenders.rankers import Scorer

POPULARITY_WEIGHT = 1e-6  # orders items without any evidence, never outweighs one co-occurrence
ITEM_KNN_DECAY = 0.7  # weight of a history item per step of age
MARKOV_DECAY = 0.5
MAX_PAIRS = 2**24  # of items that are kept at once: 200 MB
MARKOV_GAP = 3  # a training pair counts 1 / gap up to this distance


class Popularity:
    """Scores items by their number of training clicks, the same for everybody.

    Args:
        train: catalog rows of every training user, oldest first.
        num_items: N, size of the catalog.
    """

    def __init__(self, train: Sequence[np.ndarray], num_items: int):
        self.counts = _clicks(train, num_items)  # [N]

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """Return training clicks, float64 `[B, N]`, one read-only row repeated."""
        return np.broadcast_to(self.counts, (len(histories), len(self.counts)))


class ItemKnn:
    """Scores items by cosine co-occurrence with the items of the history, weighted .7 ** age.

    The similarity of two different items is the number of users who have both over the root of the product of
    their numbers of users; an item is no neighbour of itself. Arguments as for `Popularity`.

    Pairs of items are counted once for all users but those with very many items, whose pairs alone could fill the
    memory: these are counted anew for every request.
    """

    def __init__(self, train: Sequence[np.ndarray], num_items: int):
        self.counts = _clicks(train, num_items)
        has_item = _incidence(train, num_items)
        num_users = has_item.sum(axis=0)
        is_heavy = _has_too_many_pairs(has_item)
        light = has_item[~is_heavy]
        similarity = _scaled((light.T @ light).tocsr(), num_users)
        self.similarity = similarity - sparse.diags_array(similarity.diagonal(), format="csr")  # [N, N]
        self.heavy = _scaled_columns(has_item[is_heavy], num_users)  # [users, N]

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """Return weighted similarities plus 1e-6 of the popularity, float64 `[B, N]`."""
        weights = history_weights(histories, len(self.counts), decay=ITEM_KNN_DECAY)
        scores = (weights @ self.similarity).toarray()
        if self.heavy.shape[0]:
            own = weights * sparse.csr_array((self.heavy * self.heavy).sum(axis=0)[None, :])
            scores += (weights @ self.heavy.T @ self.heavy).toarray() - own.toarray()
        return scores + POPULARITY_WEIGHT * self.counts


class Markov:
    """Scores items by how often they followed the items of the history, weighted .5 ** age.

    An ordered pair of training clicks at distance g counts 1 / g for g up to 3; the sum is divided by the root of the
    product of both items' clicks. Arguments as for `Popularity`.
    """

    def __init__(self, train: Sequence[np.ndarray], num_items: int):
        self.counts = _clicks(train, num_items)
        self.transitions = _scaled(_following(train, num_items), self.counts)  # [N, N], from row to column

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """Return weighted transition counts plus 1e-6 of the popularity, float64 `[B, N]`."""
        weights = history_weights(histories, len(self.counts), decay=MARKOV_DECAY)
        return (weights @ self.transitions).toarray() + POPULARITY_WEIGHT * self.counts


class TextLast:
    """Scores items by the cosine of their text vector to that of the last item.

    Args:
        vectors: frozen text vectors of the catalog, `[N, E]`; no click is used.
    """

    def __init__(self, vectors: np.ndarray):
        self.vectors = unit_vectors(vectors)

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """Return cosines, float64 `[B, N]`; 0 for an empty history."""
        return _queries(self.vectors, histories, only_last=True) @ self.vectors.T


class TextMean:
    """Scores items by the cosine of their text vector to the mean of the history's vectors; arguments as `TextLast`."""

    def __init__(self, vectors: np.ndarray):
        self.vectors = unit_vectors(vectors)

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """Return cosines, float64 `[B, N]`; 0 for an empty history."""
        sums = _queries(self.vectors, histories, only_last=False)  # [B, E]
        lengths = np.sqrt((sums * sums).sum(axis=1, keepdims=True))
        return (sums @ self.vectors.T) / np.where(lengths > 0, lengths, 1.0)


def markov_text(train: Sequence[np.ndarray], num_items: int, vectors: np.ndarray) -> Scorer:
    """Return the reciprocal-rank sum of `Markov` and `TextLast`, nothing trained: the bar for any trained system."""
    return ReciprocalRankScorer([Markov(train, num_items), TextLast(vectors)])


COUNTING: dict[str, Callable[[Sequence[np.ndarray], int], Scorer]] = {
    "popularity": Popularity,
    "item_knn": ItemKnn,
    "markov": Markov,
}
TEXTUAL: dict[str, Callable[[np.ndarray], Scorer]] = {"text_last": TextLast, "text_mean": TextMean}
MIXED: dict[str, Callable[[Sequence[np.ndarray], int, np.ndarray], Scorer]] = {"markov_text": markov_text}
BASELINES = (*COUNTING, *TEXTUAL, *MIXED)


def build_baseline(
    name: str, train: Sequence[np.ndarray], num_items: int, *, vectors: np.ndarray | None = None
) -> Scorer:
    """Fit a baseline by its name in results.json.

    Args:
        name: one of `BASELINES`.
        train: catalog rows of every training user, oldest first.
        num_items: N, size of the catalog.
        vectors: item text vectors `[N, E]`, for `text_last`, `text_mean` and `markov_text`.

    Raises:
        ValueError: for an unknown name, missing vectors or vectors of another catalog.
    """
    if name in COUNTING:
        return COUNTING[name](train, num_items)
    if name not in BASELINES:
        close = difflib.get_close_matches(str(name), BASELINES, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"baseline must be one of {', '.join(BASELINES)}, got {name!r}{hint}")
    if vectors is None or len(vectors) != num_items:
        found = None if vectors is None else len(vectors)
        raise ValueError(
            f"baseline {name!r} needs one text vector per item, {num_items!r}, got {found!r}; pass vectors="
        )
    return TEXTUAL[name](vectors) if name in TEXTUAL else MIXED[name](train, num_items, vectors)


def history_weights(histories: np.ndarray, num_items: int, *, decay: float) -> sparse.csr_array:
    """Return `decay ** age` of every history item as a sparse `[B, N]`; the last item has age 0, repeats add up."""
    is_item = histories >= 0
    lengths = is_item.sum(axis=1)
    rows, columns = np.nonzero(is_item)
    ages = lengths[rows] - 1 - columns
    table = sparse.coo_array((decay**ages, (rows, histories[rows, columns])), shape=(len(histories), num_items))
    return table.tocsr()


def _queries(vectors: np.ndarray, histories: np.ndarray, *, only_last: bool) -> np.ndarray:
    """Return the sum of the history's vectors, or the last one, `[B, E]`; exact, like the vectors."""
    decay = 0.0 if only_last else 1.0  # 0 ** 0 is 1
    return history_weights(histories, len(vectors), decay=decay) @ vectors


def _clicks(train: Sequence[np.ndarray], num_items: int) -> np.ndarray:
    """Return training clicks per item, float64 `[N]`."""
    rows = _joined(train)
    if len(rows) and (rows.min() < 0 or rows.max() >= num_items):
        raise ValueError(
            f"training rows must be catalog rows 0 … {num_items - 1}, got {int(rows.min())!r} … {int(rows.max())!r}; "
            "pass the num_items of the catalog that the split was made with"
        )
    return np.bincount(rows, minlength=num_items).astype(np.float64)


def _incidence(train: Sequence[np.ndarray], num_items: int) -> sparse.csr_array:
    """Return 1 where a user has an item, however often, sparse `[users, N]`."""
    users = np.repeat(np.arange(len(train)), [len(sequence) for sequence in train])
    rows = _joined(train)
    table = sparse.csr_array((np.ones(len(rows)), (users, rows)), shape=(len(train), num_items))
    table.sum_duplicates()
    table.data[:] = 1.0
    return table


def _following(train: Sequence[np.ndarray], num_items: int) -> sparse.csr_array:
    """Return the sum of 1 / gap over ordered pairs at most `MARKOV_GAP` apart in one sequence, sparse `[N, N]`."""
    users = np.repeat(np.arange(len(train)), [len(sequence) for sequence in train])
    rows = _joined(train)
    total = sparse.csr_array((num_items, num_items), dtype=np.float64)
    for gap in range(1, MARKOV_GAP + 1):
        is_pair = users[:-gap] == users[gap:]
        before, after = rows[:-gap][is_pair], rows[gap:][is_pair]
        weights = np.full(len(before), 1.0 / gap)
        total = total + sparse.coo_array((weights, (before, after)), shape=total.shape).tocsr()
    return total


def _has_too_many_pairs(has_item: sparse.csr_array) -> np.ndarray:
    """Return the users with the most items, as few as leave at most `MAX_PAIRS` pairs of items, bool `[users]`."""
    sizes = np.diff(has_item.indptr).astype(np.float64)
    if has_item.shape[1] ** 2 <= MAX_PAIRS:
        return np.zeros(len(sizes), dtype=bool)
    order = np.argsort(sizes, kind="stable")
    is_heavy = np.zeros(len(sizes), dtype=bool)
    is_heavy[order] = np.cumsum(sizes[order] ** 2) > MAX_PAIRS
    return is_heavy


def _scaled_columns(table: sparse.csr_array, clicks: np.ndarray) -> sparse.csr_array:
    """Divide the columns by the root of an item's count."""
    return (table @ sparse.diags_array(1.0 / np.sqrt(np.maximum(np.asarray(clicks).ravel(), 1.0)))).tocsr()


def _scaled(counts: sparse.csr_array, clicks: np.ndarray) -> sparse.csr_array:
    """Divide pair counts by the root of the product of both items' counts."""
    inverse = sparse.diags_array(1.0 / np.sqrt(np.maximum(np.asarray(clicks).ravel(), 1.0)))
    return (inverse @ counts @ inverse).tocsr()


def _joined(train: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype=np.int64), *train]).astype(np.int64)
