"""Scorers that are counted rather than trained: popularity, co-occurrence, transition counts and text neighbours.

They use the training part only and score the whole catalog in seconds. On real data the nearest texts of the last item,
the transition counts, or the sum of both are often ahead of trained systems, so they belong in every table. Each is a
`Scorer` (`recommenders/rankers.py`); histories are catalog rows `[B, T]`, oldest first, -1 pads on the right.

What a scorer has counted are its `tables`: plain arrays of whole numbers, which are stored, grow with a catalog
(`build_scorer`) and add up exactly (`add_clicks`). Counts are divided by those of the items when scores are computed.

Where events have weights (`data.event_weights`), a click counts its weight; a user's weight of an item is that of the
strongest event, and a transition has the weight of the click that it leads to.
"""

import difflib
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from scipy import sparse

from cost_hf.data.row_lists import RowLists
from cost_hf.evaluation.sequences import click_counts, joined
from cost_hf.evaluation.similarity import unit_vectors
from cost_hf.methods.counting.reciprocal_rank import ReciprocalRankScorer
from cost_hf.recommenders.new_clicks import NewClicks
from cost_hf.recommenders.rankers import Scorer

POPULARITY_WEIGHT = 1e-6  # orders items without any other evidence, never outweighs one co-occurrence
ITEM_KNN_DECAY = 0.7  # weight of a history item per step of age
MARKOV_DECAY = 0.5
MARKOV_GAP = 3  # a training pair counts 1 / gap up to this distance
PAIR_UNIT = math.lcm(*range(1, MARKOV_GAP + 1))  # what a pair of neighbours counts in tables: 1 / gap is a whole number
MAX_PAIRS = 2**24  # item pairs that are held in memory at once: 200 MB
CSR = ("data", "indices", "indptr")
MAX_WHOLE = 2.0**53  # whole numbers below are exact in a float64


class Popularity:
    """Scores items by their number of training clicks, the same for every history.

    Args:
        counts: training clicks per catalog row, with their weights, `[N]`.

    Examples:
        >>> import numpy as np
        >>> Popularity.fit([np.array([0, 1]), np.array([1])], 3).scores(np.array([[0], [2]])).tolist()
        [[1.0, 2.0, 0.0], [1.0, 2.0, 0.0]]
    """

    def __init__(self, counts: np.ndarray):
        self.counts = np.asarray(counts, dtype=np.float64)

    @classmethod
    def fit(cls, train: Sequence[np.ndarray], num_items: int, *, weights: Sequence[np.ndarray] | None = None) -> Self:
        """Count the clicks.

        Args:
            train: catalog rows of every training user, oldest first.
            num_items: N, size of the catalog.
            weights: what each click counts, int64 arrays like `train`; 1 by default.

        Raises:
            ValueError: for rows outside the catalog.
        """
        return cls.of_tables({}, num_items).updated(NewClicks.of_new_users(train, weights))

    @classmethod
    def of_tables(cls, tables: Mapping[str, np.ndarray], num_items: int) -> Self:
        """Return the scorer of stored arrays over the first rows of a catalog, or of none, where nothing was counted.

        Args:
            tables: as `tables` returns them.
            num_items: N, size of the catalog; rows beyond those that were counted have no counts.

        Raises:
            ValueError: for tables that are damaged or larger than the catalog.
        """
        return cls(_counts(tables, num_items))

    def updated(self, new: NewClicks) -> Self:
        """Return the scorer with more clicks counted.

        Raises:
            ValueError: for rows outside the catalog, or clicks that are counted already according to `new` and can't
                be.
        """
        return type(self)(self.counts + _new_counts(new, len(self.counts)))

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """Return training clicks, float64 `[B, N]`, one read-only row repeated."""
        return np.broadcast_to(self.counts, (len(histories), len(self.counts)))

    def tables(self) -> dict[str, np.ndarray]:
        """Return the arrays to store."""
        return {"counts": self.counts}


class ItemKnn:
    """Scores items by cosine co-occurrence with the items of the history, weighted .7 ** age.

    The similarity of two different items is the number of users who have both over the root of the product of their
    numbers of users; an item is no neighbour of itself (Sarwar et al. 2001, "Item-based collaborative filtering"). With
    weights it is the cosine of the items' columns of the table of users' weights.

    Pairs of items are counted once for all users but those with very many items, whose pairs alone could fill the
    memory: these are counted at every request.

    Args:
        counts: training clicks per catalog row, `[N]`.
        users: users who have the item, `[N]`; with weights the sum of their squares.
        shared: users who have both of two different items, without the heavy users, sparse `[N, N]`; with weights the
            sum of the products.
        heavy: 1, or the weight, for every item of the users with very many items, sparse `[U, N]`.

    Examples:
        >>> import numpy as np
        >>> knn = ItemKnn.fit([np.array([0, 1]), np.array([0, 1]), np.array([2, 1])], 3)
        >>> knn.scores(np.array([[0]])).round(2).tolist()
        [[0.0, 0.82, 0.0]]
    """

    def __init__(self, counts: np.ndarray, users: np.ndarray, shared: sparse.csr_array, heavy: sparse.csr_array):
        self.counts = np.asarray(counts, dtype=np.float64)
        self.users = np.asarray(users, dtype=np.float64)
        self.shared = shared
        self.heavy = heavy
        self.inverse = _inverse_root(self.users)
        self.heavy_users = _squares(heavy)

    @classmethod
    def fit(cls, train: Sequence[np.ndarray], num_items: int, *, weights: Sequence[np.ndarray] | None = None) -> Self:
        """Count the pairs; arguments and errors as for `Popularity.fit`."""
        return cls.of_tables({}, num_items).updated(NewClicks.of_new_users(train, weights))

    @classmethod
    def of_tables(cls, tables: Mapping[str, np.ndarray], num_items: int) -> Self:
        """Return the scorer of stored arrays; arguments and errors as for `Popularity.of_tables`."""
        counts = _counts(tables, num_items, "users", matrices=("shared", "heavy"))
        users = _vector("users", tables, num_items)
        return cls(
            counts, users, _matrix("shared", tables, num_items), _matrix("heavy", tables, num_items, is_square=False)
        )

    def updated(self, new: NewClicks) -> Self:
        """Return the scorer with more clicks counted; errors as for `Popularity.updated`.

        The items of a user who was counted before are taken back and counted again together with the new ones, so a
        user may become a heavy one.
        """
        num_items = len(self.counts)
        counts = self.counts + _new_counts(new, num_items)
        before = _incidence(new.earlier, num_items, new.earlier_weights)
        whole = _incidence(new.sequences, num_items, new.weights)
        heavy, was_heavy = _without_rows(self.heavy, before)
        users = self.users + _squares(whole) - _squares(before)
        shared = self.shared - _pairs(before[~was_heavy])
        if users.min(initial=0) < 0 or shared.data.min(initial=0) < 0:
            raise ValueError(
                "expected clicks that were counted before to be in the counts, got items that no user has together; "
                "correct counted, or leave it out for users who were not counted"
            )
        shared.eliminate_zeros()
        is_heavy = _has_too_many_pairs(whole, MAX_PAIRS - shared.nnz)
        shared = shared + _pairs(whole[~is_heavy])
        return type(self)(counts, users, shared, sparse.vstack([heavy, whole[is_heavy]], format="csr"))

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """Return weighted similarities plus 1e-6 of the popularity, float64 `[B, N]`."""
        weights = history_weights(histories, len(self.counts), decay=ITEM_KNN_DECAY, scales=self.inverse)
        scores = (weights @ self.shared).toarray()
        if self.heavy.shape[0]:
            scores += (weights @ self.heavy.T @ self.heavy).toarray()
            scores -= history_weights(
                histories, len(self.counts), decay=ITEM_KNN_DECAY, scales=self.inverse * self.heavy_users
            ).toarray()
        return _with_popularity(scores, self.inverse, self.counts)

    def tables(self) -> dict[str, np.ndarray]:
        """Return the arrays to store."""
        arrays = {"counts": self.counts, "users": self.users}
        return {**arrays, **_csr_arrays("shared", self.shared), **_csr_arrays("heavy", self.heavy)}


class Markov:
    """Scores items by how often they followed the items of the history, weighted .5 ** age.

    An ordered pair of training clicks at distance g counts 1 / g for g up to 3, times the weight of the later click;
    the sum is divided by the root of the product of both items' clicks.

    Args:
        counts: training clicks per catalog row, with their weights, `[N]`.
        following: pair counts from row to column in units of 1 / `PAIR_UNIT`, sparse `[N, N]`.
        clicks: training clicks without weights, `[N]`, where they differ: what precedes a purchase counts as it is.

    Examples:
        >>> import numpy as np
        >>> markov = Markov.fit([np.array([0, 1, 2])], 3)
        >>> markov.scores(np.array([[0]])).round(2).tolist()
        [[0.0, 1.0, 0.5]]
    """

    def __init__(self, counts: np.ndarray, following: sparse.csr_array, clicks: np.ndarray | None = None):
        self.counts = np.asarray(counts, dtype=np.float64)
        self.clicks = self.counts if clicks is None else np.asarray(clicks, dtype=np.float64)
        self.following = following
        self.inverse = _inverse_root(self.counts)

    @classmethod
    def fit(cls, train: Sequence[np.ndarray], num_items: int, *, weights: Sequence[np.ndarray] | None = None) -> Self:
        """Count the transitions; arguments and errors as for `Popularity.fit`."""
        return cls.of_tables({}, num_items).updated(NewClicks.of_new_users(train, weights))

    @classmethod
    def of_tables(cls, tables: Mapping[str, np.ndarray], num_items: int) -> Self:
        """Return the scorer of stored arrays; arguments and errors as for `Popularity.of_tables`."""
        clicks = ("clicks",) if "clicks" in tables else ()
        counts = _counts(tables, num_items, *clicks, matrices=("following",))
        return cls(
            counts,
            _matrix("following", tables, num_items),
            _vector("clicks", tables, num_items) if clicks else None,
        )

    def updated(self, new: NewClicks) -> Self:
        """Return the scorer with more clicks counted; errors as for `Popularity.updated`."""
        num_items = len(self.counts)
        counts = self.counts + _new_counts(new, num_items)
        clicks = self.clicks + click_counts(new.later, num_items=num_items)
        return type(self)(counts, self.following + _following(new, num_items), clicks)

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """Return weighted transition counts plus 1e-6 of the popularity, float64 `[B, N]`."""
        scales = _inverse_root(self.clicks) / PAIR_UNIT
        weights = history_weights(histories, len(self.counts), decay=MARKOV_DECAY, scales=scales)
        return _with_popularity((weights @ self.following).toarray(), self.inverse, self.counts)

    def tables(self) -> dict[str, np.ndarray]:
        """Return the arrays to store."""
        clicks = {} if np.array_equal(self.clicks, self.counts) else {"clicks": self.clicks}
        return {"counts": self.counts, **clicks, **_csr_arrays("following", self.following)}


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
        scores = sums @ self.vectors.T
        scores /= np.where(lengths > 0, lengths, 1.0)  # in place: the table may be large
        return scores


COUNTED: dict[str, type[Popularity | ItemKnn | Markov]] = {
    "popularity": Popularity,
    "item_knn": ItemKnn,
    "markov": Markov,
    "markov_text": Markov,
}
TEXTUAL = ("text_last", "text_mean", "markov_text")  # scorers that read text vectors
BASELINES = ("popularity", "item_knn", "markov", "text_last", "text_mean", "markov_text")


def fit_tables(
    name: str, train: Sequence[np.ndarray], num_items: int, *, weights: Sequence[np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Return what a baseline counts in the training part, by name; nothing for those that read texts alone.

    Args:
        name: one of `BASELINES`.
        train: catalog rows of every training user, oldest first.
        num_items: N, size of the catalog.
        weights: what each click counts, int64 arrays like `train`; 1 by default.
    """
    return add_clicks(name, {}, NewClicks.of_new_users(train, weights), num_items)


def add_clicks(name: str, tables: Mapping[str, np.ndarray], new: NewClicks, num_items: int) -> dict[str, np.ndarray]:
    """Return the tables of a baseline with more clicks: those that `fit_tables` would count in all of them at once.

    Args:
        name: one of `BASELINES`.
        tables: counts of the first rows of the catalog; those returned are of all rows.
        new: clicks.
        num_items: N, size of the catalog.

    Raises:
        ValueError: for damaged tables, rows outside the catalog, or clicks that are counted already according to `new`
            and can't be.
    """
    return COUNTED[name].of_tables(tables, num_items).updated(new).tables() if name in COUNTED else {}


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
        return COUNTED[name].of_tables(tables, num_items)
    if vectors is None or len(vectors) != num_items:
        found = None if vectors is None else len(vectors)
        raise ValueError(
            f"baseline {name!r} needs one text vector per item, {num_items!r}, got {found!r}; pass vectors="
        )
    if name == "markov_text":  # nothing is trained, and few trained systems are ahead of it
        return ReciprocalRankScorer([Markov.of_tables(tables, num_items), TextLast(vectors)])
    return TextLast(vectors) if name == "text_last" else TextMean(vectors)


def build_baseline(
    name: str, train: Sequence[np.ndarray], num_items: int, *, vectors: np.ndarray | None = None
) -> Scorer:
    """Fit a baseline by its name; arguments and errors are those of `fit_tables` and `build_scorer`."""
    return build_scorer(name, fit_tables(name, train, num_items), num_items, vectors=vectors)


def _counts(
    tables: Mapping[str, np.ndarray], num_items: int, *vectors: str, matrices: Sequence[str] = ()
) -> np.ndarray:
    """Return the clicks of all rows of a catalog, `[N]`; raise ValueError where tables are missing or unknown."""
    expected = {"counts", *vectors, *(f"{table}.{part}" for table in matrices for part in CSR)}
    if tables and set(tables) != expected:
        raise ValueError(f"expected the tables {', '.join(sorted(expected))}, got {', '.join(sorted(tables))}")
    return _vector("counts", tables, num_items)


def _vector(name: str, tables: Mapping[str, np.ndarray], num_items: int) -> np.ndarray:
    """Return one number for every row of a catalog, `[N]`; those that were not counted have 0."""
    stored = tables.get(name, np.zeros(0))
    if stored.ndim != 1 or len(stored) > num_items or not _are_whole(stored):
        raise ValueError(
            f"table {name} must hold one whole number of 0 or more for each of at most {num_items} items, got shape "
            f"{stored.shape!r}; fit it again"
        )
    counts = np.zeros(num_items)
    counts[: len(stored)] = stored
    return counts


def _matrix(name: str, tables: Mapping[str, np.ndarray], num_items: int, *, is_square: bool = True) -> sparse.csr_array:
    """Return a stored matrix over the first rows of a catalog as one over all of them; square ones are `[N, N]`."""
    if not tables:
        return sparse.csr_array((num_items if is_square else 0, num_items), dtype=np.float64)
    stored = len(tables["counts"])
    data, indices, indptr = (tables[f"{name}.{part}"] for part in CSR)
    rows = len(indptr) - 1
    if rows < 0 or (is_square and rows != stored) or not _are_whole(data):
        raise ValueError(
            f"table {name} must hold whole numbers of 0 or more in {stored} rows, got {rows} rows; fit it again"
        )
    table = sparse.csr_array((data, indices, indptr), shape=(rows, stored))
    table.check_format(full_check=True)
    if stored < num_items:
        table = table.copy()  # resizing is in place
        table.resize((num_items if is_square else rows, num_items))
    return table


def _are_whole(values: np.ndarray) -> bool:
    return bool((np.isfinite(values) & (values >= 0) & (values < MAX_WHOLE) & (values % 1 == 0)).all())


def _csr_arrays(name: str, table: sparse.csr_array) -> dict[str, np.ndarray]:
    """Return the arrays of a matrix in one form, whatever it was computed from."""
    table.sum_duplicates()
    kinds = {"data": np.float64, "indices": np.int32, "indptr": np.int64}
    return {f"{name}.{part}": getattr(table, part).astype(kind, copy=False) for part, kind in kinds.items()}


def history_weights(
    histories: np.ndarray, num_items: int, *, decay: float, scales: np.ndarray | None = None
) -> sparse.csr_array:
    """Return `decay ** age` of every history item as a sparse `[B, N]`; the last item has age 0, repeats add up.

    Args:
        histories: catalog rows `[B, T]`, -1 pads on the right.
        num_items: N.
        decay: per step of age.
        scales: factor of every item, `[N]`; 1 by default.

    Examples:
        >>> import numpy as np
        >>> history_weights(np.array([[2, 0, 2]]), 3, decay=0.5).toarray().tolist()
        [[0.5, 0.0, 1.25]]
    """
    is_item = histories >= 0
    lengths = is_item.sum(axis=1)
    rows, columns = np.nonzero(is_item)
    items = histories[rows, columns]
    weights = decay ** (lengths[rows] - 1 - columns)
    if scales is not None:
        weights = weights * scales[items]
    starts = np.append(0, lengths.cumsum())
    # with int64 a product would convert the counts
    arrays = (weights, items.astype(np.int32), starts.astype(np.int32))
    table = sparse.csr_array(arrays, shape=(len(histories), num_items))
    table.sum_duplicates()
    return table


def _with_popularity(scores: np.ndarray, inverse: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Scale scores `[B, N]` by items and add a little of their popularity, in place: the table may be large."""
    scores *= inverse
    scores += POPULARITY_WEIGHT * counts
    return scores


def _queries(vectors: np.ndarray, histories: np.ndarray, *, only_last: bool) -> np.ndarray:
    """Return the sum of the history's vectors, or the last one, `[B, E]`; exact, like the vectors."""
    decay = 0.0 if only_last else 1.0  # 0 ** 0 is 1
    return history_weights(histories, len(vectors), decay=decay) @ vectors


def _new_counts(new: NewClicks, num_items: int) -> np.ndarray:
    """Return what the new clicks on each catalog row add up to, int64 `[N]`."""
    return click_counts(new.later, num_items=num_items, weights=new.later_weights)


def _incidence(
    train: Sequence[np.ndarray], num_items: int, weights: Sequence[np.ndarray] | None = None
) -> sparse.csr_array:
    """Return 1, or the weight of the strongest event, where a user has an item, however often, sparse `[users, N]`."""
    rows, users = joined(train)
    if weights is not None:
        values = RowLists.of(weights).concatenated()
        order = np.lexsort((values, rows, users))
        rows = rows[order]
        users = users[order]
        values = values[order]
        is_strongest = np.append((np.diff(users) != 0) | (np.diff(rows) != 0), True)[: len(rows)] & (values > 0)
        cells = (users[is_strongest], rows[is_strongest])
        strongest = values[is_strongest].astype(np.float64)
        return sparse.csr_array((strongest, cells), shape=(len(train), num_items))
    table = sparse.csr_array((np.ones(len(rows)), (users, rows)), shape=(len(train), num_items))
    table.sum_duplicates()
    table.data[:] = 1.0
    return table


def _following(new: NewClicks, num_items: int) -> sparse.csr_array:
    """Return the sum of `PAIR_UNIT` / gap over ordered pairs at most `MARKOV_GAP` apart, sparse `[N, N]`.

    Pairs are of one sequence, and their later click is a new one, whose weight they have.
    """
    rows, users = joined(new.sequences)
    counts = np.ones(len(rows)) if new.weights is None else new.weights.concatenated().astype(np.float64)
    lengths = new.sequences.lengths
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    is_new = np.arange(len(rows)) - starts >= new.counted[users]
    total = sparse.csr_array((num_items, num_items), dtype=np.float64)
    for gap in range(1, MARKOV_GAP + 1):
        is_pair = (users[:-gap] == users[gap:]) & is_new[gap:]
        before = rows[:-gap][is_pair]
        after = rows[gap:][is_pair]
        weights = PAIR_UNIT / gap * counts[gap:][is_pair]
        total = total + sparse.coo_array((weights, (before, after)), shape=total.shape).tocsr()
    total.eliminate_zeros()
    return total


def _squares(table: sparse.csr_array) -> np.ndarray:
    """Return the sum of the squares of every column, `[N]`."""
    return np.asarray(table.multiply(table).sum(axis=0))


def _pairs(has_item: sparse.csr_array) -> sparse.csr_array:
    """Return how many users have both of two different items, sparse `[N, N]`."""
    counts = (has_item.T @ has_item).tocsr()
    return counts - sparse.diags_array(counts.diagonal(), format="csr")


def _without_rows(table: sparse.csr_array, rows: sparse.csr_array) -> tuple[sparse.csr_array, np.ndarray]:
    """Return a table `[U, N]` without one row for each equal one of `rows` `[S, N]`, and which of these it had."""
    found = np.zeros(rows.shape[0], dtype=bool)
    if not table.shape[0] or not rows.nnz:
        return table, found
    held: dict[bytes, list[int]] = {}
    for number, content in enumerate(_row_contents(table)):
        held.setdefault(content, []).append(number)
    is_kept = np.ones(table.shape[0], dtype=bool)
    for number, content in enumerate(_row_contents(rows)):
        same = held.get(content)
        if content and same:
            is_kept[same.pop()] = False
            found[number] = True
    return table[is_kept], found


def _row_contents(table: sparse.csr_array) -> list[bytes]:
    """Return the items and values of every row as bytes that are equal for equal rows; none for an empty row."""
    contents = []
    for start, end in itertools.pairwise(table.indptr.tolist()):
        order = np.argsort(table.indices[start:end])
        items = table.indices[start:end][order].astype(np.int64)
        contents.append(items.tobytes() + table.data[start:end][order].astype(np.float64).tobytes())
    return contents


def _has_too_many_pairs(has_item: sparse.csr_array, room: int) -> np.ndarray:
    """Return the users with the most items, as few as leave at most `room` pairs of items, bool `[users]`."""
    sizes = np.diff(has_item.indptr).astype(np.float64)
    if has_item.shape[1] ** 2 <= MAX_PAIRS:
        return np.zeros(len(sizes), dtype=bool)
    order = np.argsort(sizes, kind="stable")
    is_heavy = np.zeros(len(sizes), dtype=bool)
    is_heavy[order] = np.cumsum(sizes[order] ** 2) > room
    return is_heavy


def _inverse_root(counts: np.ndarray) -> np.ndarray:
    """Return 1 over the root of an item's count, `[N]`; an item that was never counted has 1."""
    return 1.0 / np.sqrt(np.maximum(counts, 1.0))
