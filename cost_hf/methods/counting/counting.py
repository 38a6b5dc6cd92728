"""Scorers that are counted rather than trained: popularity, co-occurrence, transition counts and text neighbours.

They use the training part only and score the whole catalog in seconds. On real data the nearest texts of the last item,
the transition counts, or the sum of both are often ahead of trained systems, so they belong in every table. Each is a
`Scorer` (`recommenders/rankers.py`); histories are catalog rows `[B, T]`, oldest first, -1 pads on the right.

What a scorer has counted are its `tables`: plain arrays, which are stored and grow with a catalog (`build_scorer`).
"""

import difflib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import sparse

from cost_hf.evaluation.sequences import click_counts, joined
from cost_hf.evaluation.similarity import unit_vectors
from cost_hf.methods.counting.reciprocal_rank import ReciprocalRankScorer
from cost_hf.recommenders.rankers import Scorer

POPULARITY_WEIGHT = 1e-6  # orders items without any other evidence, never outweighs one co-occurrence
ITEM_KNN_DECAY = 0.7  # weight of a history item per step of age
MARKOV_DECAY = 0.5
MARKOV_GAP = 3  # a training pair counts 1 / gap up to this distance
MAX_PAIRS = 2**24  # item pairs that are held in memory at once: 200 MB
CSR = ("data", "indices", "indptr")


class Popularity:
    """Scores items by their number of training clicks, the same for every history.

    Args:
        counts: training clicks per catalog row, `[N]`.

    Examples:
        >>> import numpy as np
        >>> Popularity.fit([np.array([0, 1]), np.array([1])], 3).scores(np.array([[0], [2]])).tolist()
        [[1.0, 2.0, 0.0], [1.0, 2.0, 0.0]]
    """

    def __init__(self, counts: np.ndarray):
        self.counts = np.asarray(counts, dtype=np.float64)

    @classmethod
    def fit(cls, train: Sequence[np.ndarray], num_items: int) -> "Popularity":
        """Count the clicks.

        Args:
            train: catalog rows of every training user, oldest first.
            num_items: N, size of the catalog.

        Raises:
            ValueError: for rows outside the catalog.
        """
        return cls(click_counts(train, num_items=num_items))

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """Return training clicks, float64 `[B, N]`, one read-only row repeated."""
        return np.broadcast_to(self.counts, (len(histories), len(self.counts)))

    def tables(self) -> dict[str, np.ndarray]:
        """Return the arrays to store."""
        return {"counts": self.counts}


class ItemKnn:
    """Scores items by cosine co-occurrence with the items of the history, weighted .7 ** age.

    The similarity of two different items is the number of users who have both over the root of the product of their
    numbers of users; an item is no neighbour of itself (Sarwar et al. 2001, "Item-based collaborative filtering").

    Pairs of items are counted once for all users but those with very many items, whose pairs alone could fill the
    memory: these are counted at every request.

    Args:
        counts: training clicks per catalog row, `[N]`.
        similarity: similarities over all users but the heavy ones, sparse `[N, N]`.
        heavy: items of the users with very many items, columns divided by the root of an item's users, sparse `[U, N]`.

    Examples:
        >>> import numpy as np
        >>> knn = ItemKnn.fit([np.array([0, 1]), np.array([0, 1]), np.array([2, 1])], 3)
        >>> knn.scores(np.array([[0]])).round(2).tolist()
        [[0.0, 0.82, 0.0]]
    """

    def __init__(self, counts: np.ndarray, similarity: sparse.csr_array, heavy: sparse.csr_array):
        self.counts = np.asarray(counts, dtype=np.float64)
        self.similarity = similarity
        self.heavy = heavy

    @classmethod
    def fit(cls, train: Sequence[np.ndarray], num_items: int) -> "ItemKnn":
        """Count the pairs; arguments and errors as for `Popularity.fit`."""
        counts = click_counts(train, num_items=num_items)
        has_item = _incidence(train, num_items)
        num_users = has_item.sum(axis=0)
        is_heavy = _has_too_many_pairs(has_item)
        light = has_item[~is_heavy]
        similarity = _scaled((light.T @ light).tocsr(), num_users)
        similarity = similarity - sparse.diags_array(similarity.diagonal(), format="csr")
        return cls(counts, similarity, _scaled_columns(has_item[is_heavy], num_users))

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """Return weighted similarities plus 1e-6 of the popularity, float64 `[B, N]`."""
        weights = history_weights(histories, len(self.counts), decay=ITEM_KNN_DECAY)
        scores = (weights @ self.similarity).toarray()
        if self.heavy.shape[0]:
            own = weights * sparse.csr_array((self.heavy * self.heavy).sum(axis=0)[None, :])
            scores += (weights @ self.heavy.T @ self.heavy).toarray() - own.toarray()
        return scores + POPULARITY_WEIGHT * self.counts

    def tables(self) -> dict[str, np.ndarray]:
        """Return the arrays to store."""
        return {"counts": self.counts, **_csr_arrays("similarity", self.similarity), **_csr_arrays("heavy", self.heavy)}


class Markov:
    """Scores items by how often they followed the items of the history, weighted .5 ** age.

    An ordered pair of training clicks at distance g counts 1 / g for g up to 3; the sum is divided by the root of the
    product of both items' clicks.

    Args:
        counts: training clicks per catalog row, `[N]`.
        transitions: normalised pair counts from row to column, sparse `[N, N]`.

    Examples:
        >>> import numpy as np
        >>> markov = Markov.fit([np.array([0, 1, 2])], 3)
        >>> markov.scores(np.array([[0]])).round(2).tolist()
        [[0.0, 1.0, 0.5]]
    """

    def __init__(self, counts: np.ndarray, transitions: sparse.csr_array):
        self.counts = np.asarray(counts, dtype=np.float64)
        self.transitions = transitions

    @classmethod
    def fit(cls, train: Sequence[np.ndarray], num_items: int) -> "Markov":
        """Count the transitions; arguments and errors as for `Popularity.fit`."""
        counts = click_counts(train, num_items=num_items)
        return cls(counts, _scaled(_following(train, num_items), counts))

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """Return weighted transition counts plus 1e-6 of the popularity, float64 `[B, N]`."""
        weights = history_weights(histories, len(self.counts), decay=MARKOV_DECAY)
        return (weights @ self.transitions).toarray() + POPULARITY_WEIGHT * self.counts

    def tables(self) -> dict[str, np.ndarray]:
        """Return the arrays to store."""
        return {"counts": self.counts, **_csr_arrays("transitions", self.transitions)}


class TextLast:
    """Scores items by the cosine of their text vector to that of the last item of the history.

    Args:
        vectors: frozen text vectors of the catalog, `[N, E]`; no click is used.

    Examples:
        >>> import numpy as np
        >>> TextLast(np.array([[1.0, 0.0], [0.0, 2.0]])).scores(np.array([[0, 1]])).tolist()
        [[0.0, 1.0]]
    """

    def __init__(self, vectors: np.ndarray):
        self.vectors = unit_vectors(vectors)

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """Return cosines, float64 `[B, N]`; 0 for an empty history."""
        return _queries(self.vectors, histories, only_last=True) @ self.vectors.T


class TextMean:
    """Scores items by the cosine of their text vector to the mean vector of the history.

    Args:
        vectors: frozen text vectors of the catalog, `[N, E]`; no click is used.

    Examples:
        >>> import numpy as np
        >>> TextMean(np.array([[1.0, 0.0], [0.0, 2.0]])).scores(np.array([[0, 1]])).round(2).tolist()
        [[0.71, 0.71]]
    """

    def __init__(self, vectors: np.ndarray):
        self.vectors = unit_vectors(vectors)

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """Return cosines, float64 `[B, N]`; 0 for an empty history."""
        sums = _queries(self.vectors, histories, only_last=False)  # [B, E]
        lengths = np.sqrt((sums * sums).sum(axis=1, keepdims=True))
        return (sums @ self.vectors.T) / np.where(lengths > 0, lengths, 1.0)


COUNTED: dict[str, Callable[[Sequence[np.ndarray], int], Popularity | ItemKnn | Markov]] = {
    "popularity": Popularity.fit,
    "item_knn": ItemKnn.fit,
    "markov": Markov.fit,
    "markov_text": Markov.fit,
}
TEXTUAL = ("text_last", "text_mean", "markov_text")  # scorers that read text vectors
BASELINES = ("popularity", "item_knn", "markov", "text_last", "text_mean", "markov_text")


def fit_tables(name: str, train: Sequence[np.ndarray], num_items: int) -> dict[str, np.ndarray]:
    """Return what a baseline counts in the training part, by name; nothing for those that read texts alone.

    Args:
        name: one of `BASELINES`.
        train: catalog rows of every training user, oldest first.
        num_items: N, size of the catalog.
    """
    return COUNTED[name](train, num_items).tables() if name in COUNTED else {}


def build_scorer(
    name: str, tables: Mapping[str, np.ndarray], num_items: int, *, vectors: np.ndarray | None = None
) -> Scorer:
    """Return the scorer of a catalog from the tables of `fit_tables`; rows that were added after them have no counts.

    Args:
        name: one of `BASELINES`.
        tables: counts of the first rows of the catalog.
        num_items: N, size of the catalog.
        vectors: item text vectors `[N, E]`, for the names in `TEXTUAL`.

    Raises:
        ValueError: for an unknown name, tables that are damaged or larger than the catalog, missing vectors or vectors
            of another catalog.
    """
    if name not in BASELINES:
        close = difflib.get_close_matches(str(name), BASELINES, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"baseline must be one of {', '.join(BASELINES)}, got {name!r}{hint}")
    if name not in TEXTUAL:
        return _counted_scorer(name, tables, num_items)
    if vectors is None or len(vectors) != num_items:
        found = None if vectors is None else len(vectors)
        raise ValueError(
            f"baseline {name!r} needs one text vector per item, {num_items!r}, got {found!r}; pass vectors="
        )
    if name == "markov_text":  # nothing is trained, and few trained systems are ahead of it
        return ReciprocalRankScorer([_counted_scorer("markov", tables, num_items), TextLast(vectors)])
    return TextLast(vectors) if name == "text_last" else TextMean(vectors)


def build_baseline(
    name: str, train: Sequence[np.ndarray], num_items: int, *, vectors: np.ndarray | None = None
) -> Scorer:
    """Fit a baseline by its name; arguments and errors are those of `fit_tables` and `build_scorer`."""
    return build_scorer(name, fit_tables(name, train, num_items), num_items, vectors=vectors)


def _counted_scorer(name: str, tables: Mapping[str, np.ndarray], num_items: int) -> Popularity | ItemKnn | Markov:
    names = {
        "popularity": (),
        "item_knn": ("similarity", "heavy"),
        "markov": ("transitions",),
    }[name]
    expected = {"counts", *(f"{table}.{part}" for table in names for part in CSR)}
    if set(tables) != expected:
        raise ValueError(f"expected the tables {', '.join(sorted(expected))} of {name!r}, got {sorted(tables)!r}")
    fitted = tables["counts"]
    if fitted.ndim != 1 or len(fitted) > num_items or not np.isfinite(fitted).all() or fitted.min(initial=0) < 0:
        raise ValueError(
            f"counts must be one number of 0 or more for each of at most {num_items} items, got shape {fitted.shape!r}"
        )
    counts = np.zeros(num_items)
    counts[: len(fitted)] = fitted
    if name == "popularity":
        return Popularity(counts)
    if name == "markov":
        return Markov(counts, _csr_table("transitions", tables, len(fitted), num_items))
    return ItemKnn(
        counts,
        _csr_table("similarity", tables, len(fitted), num_items),
        _csr_table("heavy", tables, len(fitted), num_items, is_square=False),
    )


def _csr_arrays(name: str, table: sparse.csr_array) -> dict[str, np.ndarray]:
    return {f"{name}.{part}": getattr(table, part) for part in CSR}


def _csr_table(
    name: str, tables: Mapping[str, np.ndarray], fitted: int, num_items: int, *, is_square: bool = True
) -> sparse.csr_array:
    """Return a stored table over `fitted` items as one over `num_items`; raise ValueError where it is damaged."""
    data, indices, indptr = (tables[f"{name}.{part}"] for part in CSR)
    rows = len(indptr) - 1
    if rows < 0 or (is_square and rows != fitted) or not np.isfinite(data).all():
        raise ValueError(f"table {name} must have finite numbers in {fitted} rows, got {rows} rows; fit it again")
    table = sparse.csr_array((data, indices, indptr), shape=(rows, fitted))
    table.check_format(full_check=True)
    if fitted < num_items:
        table = table.copy()  # resizing is in place
        table.resize((num_items if is_square else rows, num_items))
    return table


def history_weights(histories: np.ndarray, num_items: int, *, decay: float) -> sparse.csr_array:
    """Return `decay ** age` of every history item as a sparse `[B, N]`; the last item has age 0, repeats add up.

    Examples:
        >>> import numpy as np
        >>> history_weights(np.array([[2, 0, 2]]), 3, decay=0.5).toarray().tolist()
        [[0.5, 0.0, 1.25]]
    """
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


def _incidence(train: Sequence[np.ndarray], num_items: int) -> sparse.csr_array:
    """Return 1 where a user has an item, however often, sparse `[users, N]`."""
    rows, users = joined(train)
    table = sparse.csr_array((np.ones(len(rows)), (users, rows)), shape=(len(train), num_items))
    table.sum_duplicates()
    table.data[:] = 1.0
    return table


def _following(train: Sequence[np.ndarray], num_items: int) -> sparse.csr_array:
    """Return the sum of 1 / gap over ordered pairs at most `MARKOV_GAP` apart in one sequence, sparse `[N, N]`."""
    rows, users = joined(train)
    total = sparse.csr_array((num_items, num_items), dtype=np.float64)
    for gap in range(1, MARKOV_GAP + 1):
        is_pair = users[:-gap] == users[gap:]
        before = rows[:-gap][is_pair]
        after = rows[gap:][is_pair]
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
