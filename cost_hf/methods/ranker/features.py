"""Features of a candidate: what its lists, its popularity, the history, the texts and the catalog say of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cost_hf.data.errors import DataError
from cost_hf.data.splits import Split
from cost_hf.methods.ranker.options import check_kept
from cost_hf.recommenders.candidates import Candidates
from cost_hf.semantic_ids.catalog_table import num_equal_levels
from cost_hf.semantic_ids.item_columns import LISTS, VALUES, ItemColumns, kind_of

TREND = "trend"  # the feature of the training clicks
COLUMN = "column_"  # what the names of features of columns begin with
RECENT_SHARE = 0.25  # of the training clicks, the latest ones, whose share of an item's clicks is its trend
PREFIX_ITEMS = 5  # last items of the history that semantic IDs are compared with
MAX_CATEGORIES = 10_000  # of a column; LightGBM sorts them at every split


@dataclass(frozen=True)
class ItemTable:
    """What features know of an item beside the parts.

    Attributes:
        columns: value of every item by feature name, float64 `[n]`, nan where unknown; `trend` of the training items,
            `column_<name>` of a column of the catalog.
        categories: names among them whose values are numbers of categories.
        values: texts that the categories are the numbers of, by feature name.
    """

    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    categories: tuple[str, ...] = ()
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, items: ItemColumns, split: Split, names: Sequence[str], *, num_items: int) -> "ItemTable":
        """Return the trend of the training clicks, where they have times, and columns of a catalog.

        Columns of numbers, times, and texts that all are numbers become numbers; other columns become categories.

        Args:
            items: columns of the catalog.
            split: of its clicks.
            names: of the columns.
            num_items: of the catalog.

        Raises:
            DataError: for a column that the catalog does not have, or with too many categories.
        """
        columns: dict[str, np.ndarray] = {}
        values: dict[str, tuple[str, ...]] = {}
        if split.train_times is not None:
            columns[TREND] = click_trend(np.concatenate(split.train), split.train_times, num_items)
        check_kept(names, items.names)
        for name in names:
            feature = f"{COLUMN}{name}"
            column = _series(items.arrays[name], name)
            numbers = _as_numbers(column)
            if numbers is None:
                numbers, values[feature] = _as_categories(column)
            columns[feature] = numbers
        return cls(columns, tuple(values), values)

    def at(self, items: ItemColumns, num_items: int) -> "ItemTable":
        """Return the table of another state of the catalog; values that training has not seen are unknown.

        Args:
            items: columns of that state; those that it does not have are unknown.
            num_items: of that state.
        """
        columns = dict(self.columns)
        for feature in columns:
            if feature == TREND:
                continue
            name = feature.removeprefix(COLUMN)
            array = items.arrays.get(name)
            if array is None or kind_of(array.type) in (LISTS, VALUES):
                columns[feature] = np.full(num_items, np.nan)
            elif feature in self.values:
                columns[feature] = _numbers_of(_series(array, name), self.values[feature])
            else:
                numbers = _as_numbers(_series(array, name), coerces=True)
                columns[feature] = np.full(num_items, np.nan) if numbers is None else numbers
        return replace(self, columns=columns)

    def with_copies(self, rows: np.ndarray, originals: np.ndarray) -> "ItemTable":
        """Return the table with later rows that have the columns of training items and no trend.

        Args:
            rows: the later rows, int64 `[m]`, those from `n` on in any order.
            originals: rows of the training items, int64 `[m]`.
        """
        columns = dict(self.columns)
        for feature, values in self.columns.items():
            if feature != TREND:
                longer = np.append(values, np.full(len(rows), np.nan))
                longer[rows] = values[originals]
                columns[feature] = longer
        return replace(self, columns=columns)


def _series(array: pa.Array, name: str) -> pd.Series:
    """Return a column of a catalog as pandas has it; truth as numbers and days as times, which keep missing ones."""
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8())
    if pa.types.is_date(array.type):
        array = array.cast(pa.timestamp("ms"))
    return array.to_pandas().rename(name)


def _as_numbers(values: pd.Series, *, coerces: bool = False) -> np.ndarray | None:
    """Return a column as float64, nan where it is empty or no finite number; None where a text of it is no number.

    Args:
        coerces: take such a text for a missing number.
    """
    if pd.api.types.is_datetime64_any_dtype(values):
        values = (values.dt.tz_localize(None) - pd.Timestamp(0)) / pd.Timedelta(seconds=1)
    if not pd.api.types.is_numeric_dtype(values):
        texts = _texts(values) if values.map(pd.api.types.is_scalar).all() else values
        found = pd.to_numeric(texts, errors="coerce")
        if not coerces and ((found.isna() & texts.notna()).any() or not found.notna().any()):
            return None
        values = found
    numbers = values.astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.abs(numbers) <= np.finfo(np.float32).max, numbers, np.nan)


def _as_categories(values: pd.Series) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the numbers of the values of a column in alphabetical order, as `_numbers_of` does, and these values."""
    if not values.map(pd.api.types.is_scalar).all():
        raise DataError(
            f"ranker.columns names {values.name!r}, which holds lists or mappings, expected a number or text an item; "
            "make a column of it, such as the first entry"
        )
    found = sorted(_texts(values).dropna().unique())
    if len(found) > MAX_CATEGORIES:
        raise DataError(
            f"column {values.name!r} has {len(found)} different values, a feature at most {MAX_CATEGORIES}; leave it "
            "out of ranker.columns"
        )
    return _numbers_of(values, found), tuple(found)


def _numbers_of(values: pd.Series, categories: Sequence[str]) -> np.ndarray:
    """Return the numbers of the values of a column among categories, float64 `[n]`, nan where it has none of them."""
    codes = pd.Index(pd.Series(categories, dtype="string")).get_indexer(pd.Index(_texts(values)))
    return np.where(codes < 0, np.nan, codes.astype(np.float64))


def _texts(values: pd.Series) -> pd.Series:
    """Return scalars as texts without blanks around them, null for those that are empty."""
    texts = values.astype("string").str.strip()
    return texts.mask(texts == "")


def click_trend(rows: np.ndarray, times: np.ndarray, num_items: int) -> np.ndarray:
    """Return the share of an item's training clicks that is among the latest quarter of all, float64 `[N]`.

    Shares are smoothed by four clicks of which one is recent, so an item without clicks has .25.

    Args:
        rows: catalog row of every training click.
        times: its epoch seconds.
        num_items: N, size of the catalog.
    """
    is_recent = times >= np.quantile(times, 1.0 - RECENT_SHARE)
    recent = np.bincount(rows[is_recent], minlength=num_items)
    clicks = np.bincount(rows, minlength=num_items)
    return (recent + 1.0) / (clicks + 1.0 / RECENT_SHARE)


@dataclass(frozen=True, eq=False)
class ItemFacts:
    """What the features of a state of the catalog are made from.

    Attributes:
        clicks: training clicks, `[N]`.
        vectors: item text vectors of unit length, float32 `[n, E]`, n at most N; None where no part reads texts.
        codes: semantic IDs by part that has them, `[n, L]`, n at most N; without an appended level where levels are
            parallel.
        table: what is known of items beside the parts.
        parallel: parts whose codes have parallel levels.
    """

    clicks: np.ndarray
    vectors: np.ndarray | None
    codes: Mapping[str, np.ndarray]
    table: ItemTable
    parallel: frozenset[str] = frozenset()

    @classmethod
    def of(cls, catalog: Any, vectors: np.ndarray | None, clicks: np.ndarray, table: ItemTable) -> "ItemFacts":
        """Return those of a `HybridCatalog` with its item text vectors `[n, E]` and training clicks `[N]`."""
        if vectors is not None:
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = (vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
        with_codes = {name: part for name, part in catalog.parts.items() if hasattr(part, "codes")}
        parallel = frozenset(name for name, part in with_codes.items() if part.has_parallel_levels)
        codes = {
            name: part.codes[:, : part.model_levels] if name in parallel else part.codes
            for name, part in with_codes.items()
        }
        return cls(clicks, vectors, codes, table, parallel)


def feature_names(parts: Sequence[str], facts: ItemFacts) -> list[str]:
    """Return the names of the features, in the order of `candidate_features`."""
    names = [f"{part}_{kind}" for part in parts for kind in ("score", "standardised", "rank")]
    names += ["lists", "best_rank", "popularity"]
    names += ["times_in_history", "steps_since_last", "history_length"]
    names += [f"{part}_prefix_{which}" for part in facts.codes for which in ("last", "recent")]
    names += [] if facts.vectors is None else ["cosine_last", "cosine_mean"]
    names += list(facts.table.columns)
    return names + [f"same_{name}" for name in facts.table.categories]


def candidate_features(histories: np.ndarray, candidates: Candidates, facts: ItemFacts) -> np.ndarray:
    """Return the features of candidates, float32 `[B, C, F]`; those of padding hold no meaning.

    Args:
        histories: catalog rows, int64 `[B, T]`, oldest first, -1 pads on the right.
        candidates: of these histories.
        facts: of the catalog.
    """
    items = np.maximum(candidates.items, 0)  # [B, C]
    columns: list[np.ndarray] = []
    standardised = candidates.standardised()
    for part in range(candidates.ranks.shape[2]):
        columns += [candidates.scores[:, :, part], standardised[:, :, part], candidates.ranks[:, :, part]]
    is_listed = ~np.isnan(candidates.ranks)
    columns.append(is_listed.sum(axis=2))
    columns.append(np.where(is_listed, candidates.ranks, np.inf).min(axis=2, initial=np.inf))
    columns.append(np.log1p(facts.clicks[items]))
    lengths = (histories >= 0).sum(axis=1)[:, None]
    times, last = _occurrences(histories, items)
    columns += [times, np.where(times > 0, lengths - 1 - last, np.nan), np.broadcast_to(lengths, items.shape)]
    for name, codes in facts.codes.items():
        columns += _prefix_features(histories, items, codes, are_parallel=name in facts.parallel)
    if facts.vectors is not None:
        columns += _cosines(histories, candidates.items, facts.vectors)
    columns += [_looked_up(values, items) for values in facts.table.columns.values()]
    for name in facts.table.categories:
        own, past = (_as_codes(_looked_up(facts.table.columns[name], rows)) for rows in (items, histories))
        columns.append(_occurrences(past, own)[0] / np.maximum(lengths, 1))
    features = np.empty((*items.shape, len(columns)), dtype=np.float32)
    for number, column in enumerate(columns):
        features[:, :, number] = column
    return features


def _occurrences(past: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how often values `[B, C]` occur in rows `[B, T]`, and the last column where they do; -1 is no value.

    Args:
        past: int64 `[B, T]`.
        wanted: int64 `[B, C]`.

    Returns:
        Two int64 `[B, C]`; the second one is -1 where the first one is 0.
    """
    rows, places = np.nonzero(past >= 0)
    width = max(past.max(initial=0), wanted.max(initial=0)) + 1
    keys = rows * width + past[rows, places]
    order = np.argsort(keys, kind="stable")  # of equal values the last column comes last
    sought = np.arange(len(wanted))[:, None] * width + wanted
    ends = np.searchsorted(keys[order], sought, side="right")
    times = np.where(wanted >= 0, ends - np.searchsorted(keys[order], sought, side="left"), 0)
    last = np.append(places[order], -1)[ends - 1]
    return times, np.where(times > 0, last, -1)


def _prefix_features(
    histories: np.ndarray, items: np.ndarray, codes: np.ndarray, *, are_parallel: bool
) -> list[np.ndarray]:
    """Return the codes that an item's SID has in common with the last item's, and at most with the last few ones.

    Leading codes count, or any where levels are parallel.
    """
    lengths = (histories >= 0).sum(axis=1)
    places = lengths[:, None] - 1 - np.arange(PREFIX_ITEMS)  # [B, R], last first
    padded = np.pad(histories, ((0, 0), (0, 1)), constant_values=-1)
    recent = np.where(places >= 0, np.take_along_axis(padded, np.maximum(places, 0), axis=1), -1)
    is_known = (items < len(codes))[:, :, None] & ((recent >= 0) & (recent < len(codes)))[:, None, :]
    own = codes[np.minimum(items, len(codes) - 1)]  # [B, C, L]
    past = codes[np.clip(recent, 0, len(codes) - 1)]  # [B, R, L]
    in_common = num_equal_levels(own[:, :, None] == past[:, None], are_parallel=are_parallel)
    shared = np.where(is_known, in_common, 0)
    return [shared[:, :, 0], shared.max(axis=2)]


def _cosines(histories: np.ndarray, items: np.ndarray, vectors: np.ndarray) -> list[np.ndarray]:
    """Return the cosines of an item's text to that of the last item, and to the mean of the history.

    They are nan where the texts are not known. One request is computed after the other, so that none depends on the
    batch that it is in.
    """
    found = np.full((2, *items.shape), np.nan, dtype=np.float32)
    for number, (own, rows) in enumerate(zip(items, histories, strict=True)):
        past = rows[rows >= 0]
        known = past[past < len(vectors)]
        columns = np.flatnonzero((own >= 0) & (own < len(vectors)))
        if not len(known):
            continue
        mean = vectors[known].mean(axis=0)
        length = float(np.sqrt(mean @ mean))
        queries = np.stack([vectors[known[-1]], mean / length if length > 0 else mean])
        found[:, number, columns] = (vectors[own[columns]] @ queries.T).T
        if known[-1] != past[-1]:
            found[0, number] = np.nan
    return list(found)


def _as_codes(values: np.ndarray) -> np.ndarray:
    """Return numbers of categories as int64, -1 for nan."""
    return np.where(np.isnan(values), -1, values).astype(np.int64)


def _looked_up(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the values of rows, nan for -1 and for rows that came later."""
    is_known = (rows >= 0) & (rows < len(values))
    return np.where(is_known, values[np.where(is_known, rows, 0)], np.nan)
