"""Features of a candidate: what its lists, its popularity, the history, the texts and the catalog say of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from cost_hf.data.errors import DataError
from cost_hf.data.splits import Split
from cost_hf.recommenders.candidates import Candidates

RECENT_SHARE = 0.25  # of the training clicks, the latest ones, whose share of an item's clicks is its trend
PREFIX_ITEMS = 5  # last items of the history that semantic IDs are compared with
MAX_CATEGORIES = 10_000  # of a column; LightGBM sorts them at every split


@dataclass(frozen=True)
class ItemTable:
    """What features know of an item beside the parts; items added later have none of it.

    Attributes:
        columns: value of every training item by feature name, float64 `[n]`, nan where unknown.
        categories: names among them whose values are numbers of categories.
    """

    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    categories: tuple[str, ...] = ()

    @classmethod
    def of(cls, items: pd.DataFrame, split: Split, names: Sequence[str]) -> "ItemTable":
        """Return the trend of the training clicks, where they have times, and columns of a catalog.

        Args:
            items: the catalog, one row an item.
            split: of its clicks.
            names: of the columns.

        Raises:
            DataError: for a column that the catalog does not have, or with too many categories.
        """
        columns: dict[str, np.ndarray] = {}
        categories = []
        if split.train_times is not None:
            columns["trend"] = click_trend(np.concatenate(split.train), split.train_times, len(items))
        for name in names:
            if name not in items:
                raise DataError(
                    f"ranker.columns names {name!r}, the catalog has {', '.join(items.columns)}; take one of these"
                )
            values = items[name]
            if pd.api.types.is_numeric_dtype(values):
                columns[f"column_{name}"] = values.to_numpy(dtype=np.float64, na_value=np.nan)
                continue
            codes, found = pd.factorize(values.astype("string"), sort=True)
            if len(found) > MAX_CATEGORIES:
                raise DataError(
                    f"column {name!r} has {len(found)} different values, a feature at most {MAX_CATEGORIES}; leave it "
                    "out of ranker.columns"
                )
            columns[f"column_{name}"] = np.where(codes < 0, np.nan, codes.astype(np.float64))
            categories.append(f"column_{name}")
        return cls(columns, tuple(categories))


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
        vectors: item text vectors of unit length, float32 `[N, E]`; None where no part reads texts.
        codes: semantic IDs by part that has them, `[n, L]`, n at most N.
        table: of the training items.
    """

    clicks: np.ndarray
    vectors: np.ndarray | None
    codes: Mapping[str, np.ndarray]
    table: ItemTable

    @classmethod
    def of(cls, catalog: Any, clicks: np.ndarray, table: ItemTable) -> "ItemFacts":
        """Return those of a `HybridCatalog` with its training clicks `[N]`."""
        vectors = None
        if catalog.vectors is not None:
            lengths = np.linalg.norm(catalog.vectors, axis=1, keepdims=True)
            vectors = (catalog.vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
        codes = {name: part.codes for name, part in catalog.parts.items() if hasattr(part, "codes")}
        return cls(clicks, vectors, codes, table)


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
    """Return the features of all candidates, float32 `[B * C, F]`; rows of padding hold no meaning.

    Args:
        histories: catalog rows, int64 `[B, T]`, oldest first, -1 pads on the right, none empty.
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
    columns.append(np.where(is_listed, candidates.ranks, np.inf).min(axis=2))
    columns.append(np.log1p(facts.clicks[items]))
    columns += _history_features(histories, items)
    for codes in facts.codes.values():
        columns += _prefix_features(histories, items, codes)
    if facts.vectors is not None:
        columns += _cosines(histories, items, facts.vectors)
    columns += [_looked_up(values, items) for values in facts.table.columns.values()]
    for name in facts.table.categories:
        own = _looked_up(facts.table.columns[name], items)
        past = np.where(histories >= 0, _looked_up(facts.table.columns[name], np.maximum(histories, 0)), np.nan)
        columns.append((own[:, :, None] == past[:, None, :]).sum(axis=2) / (histories >= 0).sum(axis=1)[:, None])
    return np.stack([column.astype(np.float32).ravel() for column in columns], axis=1)


def _history_features(histories: np.ndarray, items: np.ndarray) -> list[np.ndarray]:
    """Return how often an item is in the history, steps since the last time (0 is the last item), and the length."""
    lengths = (histories >= 0).sum(axis=1)
    is_same = items[:, :, None] == histories[:, None, :]  # [B, C, T]
    times = is_same.sum(axis=2)
    last = np.where(is_same, np.arange(histories.shape[1]), -1).max(axis=2, initial=-1)
    steps = np.where(last >= 0, lengths[:, None] - 1 - last, np.nan)
    return [times, steps, np.broadcast_to(lengths[:, None], items.shape)]


def _prefix_features(histories: np.ndarray, items: np.ndarray, codes: np.ndarray) -> list[np.ndarray]:
    """Return the codes that an item's SID has in common with the last item's, and at most with the last few ones."""
    lengths = (histories >= 0).sum(axis=1)
    places = lengths[:, None] - 1 - np.arange(min(PREFIX_ITEMS, histories.shape[1]))  # [B, R], last first
    recent = np.where(places >= 0, np.take_along_axis(histories, np.maximum(places, 0), axis=1), -1)
    shared = np.zeros((*items.shape, recent.shape[1]), dtype=np.int64)
    is_known = (items < len(codes))[:, :, None] & ((recent >= 0) & (recent < len(codes)))[:, None, :]
    same = is_known
    own = codes[np.minimum(items, len(codes) - 1)]
    past = codes[np.clip(recent, 0, len(codes) - 1)]
    for level in range(codes.shape[1]):
        same = same & (own[:, :, None, level] == past[:, None, :, level])
        shared += same
    return [shared[:, :, 0], shared.max(axis=2)]


def _cosines(histories: np.ndarray, items: np.ndarray, vectors: np.ndarray) -> list[np.ndarray]:
    """Return the cosines of an item's text to that of the last item, and to the mean of the history."""
    is_item = histories >= 0
    lengths = is_item.sum(axis=1)
    last = vectors[histories[np.arange(len(histories)), lengths - 1]]  # [B, E]
    means = np.stack([vectors[own[mask]].mean(axis=0) for own, mask in zip(histories, is_item, strict=True)])
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    means = means / np.where(norms > 0, norms, 1.0)
    own = vectors[items]  # [B, C, E]
    return [np.einsum("bce,be->bc", own, query, optimize=True) for query in (last, means)]


def _looked_up(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the values of rows, nan for rows that came later."""
    return np.where(rows < len(values), values[np.minimum(rows, len(values) - 1)], np.nan)
