"""Tables reader: the one door through which items and interactions come in.

The order of the steps is fixed, because each changes what the next one sees: ids, catalog, unknown items, texts, order,
k-core, history cap. Positions are renumbered last, so a dropped click leaves no gap.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from cost_hf.data import schema
from cost_hf.data.amazon import read_amazon
from cost_hf.data.item_texts import render_texts
from cost_hf.data.mind import read_mind
from cost_hf.data.movielens import read_movielens
from cost_hf.data.options import DataOptions
from cost_hf.data.ordering import time_order
from cost_hf.data.raw_files import RawTables
from cost_hf.data.schema import DataError, Tables
from cost_hf.data.source_digest import source_digest
from cost_hf.data.sources import Source, load_catalog, load_frames
from cost_hf.data.synthetic import make_news


def _read_synthetic(options: DataOptions) -> RawTables:
    news = make_news(seed=options.seed, num_users=options.synthetic_users, num_items=options.synthetic_items)
    return RawTables(news.items, news.interactions)


# `tables`, the other choice of data.reader, takes both tables as they are
READERS: dict[str, Callable[[DataOptions], RawTables]] = {
    "synthetic": _read_synthetic,
    "mind": read_mind,
    "amazon": read_amazon,
    "movielens": read_movielens,
}


def read_tables(
    options: DataOptions,
    *,
    items: Source = None,
    interactions: Source = None,
    template: str | None = None,
    seed: int | None = None,
) -> Tables:
    """Read, check, order and filter a catalog and its click log.

    Args:
        options: the data section; a source passed in wins over its paths.
        items: DataFrame, `datasets.Dataset` or file path of the catalog.
        interactions: the same for the click log.
        template: text template of the vectors section, for the check on empty texts.
        seed: takes the place of `options.seed`, which decides ties in time.

    Raises:
        DataError: a check fails; the message names table, column, row, value and remedy.
    """
    options = options if seed is None else replace(options, seed=seed)
    options.validate()
    counts: dict[str, int] = {}
    if options.reader in READERS and (items is None) != (interactions is None):
        given = "interactions" if items is None else "items"
        raise DataError(
            f"data.reader {options.reader} makes both tables, got a source of {given} alone; pass both or neither, or "
            "set data.reader: tables"
        )
    if options.reader in READERS and items is None:
        raw = READERS[options.reader](options)
        items, interactions, counts = raw.items, raw.interactions, dict(raw.counts)
    catalog, clicks = load_frames(options, items=items, interactions=interactions)
    catalog = _clean_items(catalog)
    clicks, order = _clean_interactions(clicks, options.order)
    digest = source_digest(catalog, clicks)
    clicks = _drop_unknown(clicks, catalog, options, counts)
    catalog, clicks = _drop_textless(catalog, clicks, options, template, counts)
    clicks = _sort(clicks, order, options.seed, counts)
    catalog, clicks = _keep_core_and_latest(catalog, clicks, options, counts)
    return _finish(catalog, clicks, options, template, counts, digest)


def read_items(path: str | Path, *, columns: dict[str, str] | None = None) -> pd.DataFrame:
    """Read a catalog alone, as for items that come after training; the checks are those of `read_tables`.

    Args:
        path: parquet, csv, tsv or jsonl file.
        columns: our column -> name in the file.
    """
    return _clean_items(load_catalog(path, columns or {}))


def _clean_items(frame: pd.DataFrame) -> pd.DataFrame:
    schema.require_columns(frame, "items", ["item_id"])
    frame["item_id"] = schema.clean_ids(frame, "items", "item_id")
    schema.check_unique_items(frame)
    return frame


def _clean_interactions(frame: pd.DataFrame, order: str) -> tuple[pd.DataFrame, str]:
    """Check ids, times and positions; the second result is the column that orders the clicks."""
    schema.require_columns(frame, "interactions", ["user_id", "item_id"])
    if frame.empty:
        raise DataError("interactions has 0 rows, expected at least 1; check that the source holds clicks")
    for column in ("user_id", "item_id"):
        frame[column] = schema.clean_ids(frame, "interactions", column)
    if "timestamp" in frame.columns:
        frame["timestamp"] = schema.clean_timestamps(frame)
    column = _order_column(frame, order)
    if column == "position":
        frame["position"] = schema.clean_positions(frame)
        schema.check_positions(frame)
    return frame, column


def _order_column(frame: pd.DataFrame, order: str) -> str:
    """Return the column to order by; all-null columns count as absent under `auto`."""
    if order != "auto":
        schema.require_columns(frame, "interactions", [order])
        return order
    for column in ("position", "timestamp"):
        if column in frame.columns and frame[column].notna().any():
            return column
    raise DataError(
        f"interactions has neither position nor timestamp with values, only {list(map(str, frame.columns))}; "
        "add one of them or map it with data.columns: {timestamp: <name in the source>}"
    )


def _drop_unknown(
    clicks: pd.DataFrame, catalog: pd.DataFrame, options: DataOptions, counts: dict[str, int]
) -> pd.DataFrame:
    unknown = schema.unknown_items(clicks, catalog, drops=options.on_unknown_item == "drop")
    counts["dropped_unknown_item_interactions"] = int(unknown.sum())
    return clicks.loc[~unknown]


def _drop_textless(
    catalog: pd.DataFrame, clicks: pd.DataFrame, options: DataOptions, template: str | None, counts: dict[str, int]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    empty = schema.empty_texts(catalog, render_texts(catalog, template), drops=options.on_empty_text == "drop")
    catalog = catalog.loc[~empty]
    kept = clicks["item_id"].isin(catalog["item_id"])
    counts["dropped_empty_text_items"] = int(empty.sum())
    counts["dropped_empty_text_interactions"] = int((~kept).sum())
    return catalog, clicks.loc[kept]


def _sort(clicks: pd.DataFrame, order: str, seed: int, counts: dict[str, int]) -> pd.DataFrame:
    """Sort by user, then by position, or by time with ties by a hash; positions stay to be renumbered."""
    if order == "position":
        counts.setdefault("tied_timestamps", 0)  # a reader that made the positions from times has counted its ties
        users = pd.factorize(clicks["user_id"], sort=True)[0]
        return clicks.iloc[np.lexsort((clicks["position"].to_numpy(), users))]
    missing = clicks["timestamp"].isna()
    if missing.any():
        raise DataError(
            f"interactions.timestamp: expected a value in every row to order by time, got {int(missing.sum())} null of "
            f"{len(clicks)} (first: user_id {clicks.loc[missing, 'user_id'].iloc[0]!r}); fill them or give position"
        )
    indices, counts["tied_timestamps"] = time_order(clicks, seed)
    return clicks.iloc[indices]


def _keep_core_and_latest(
    catalog: pd.DataFrame, clicks: pd.DataFrame, options: DataOptions, counts: dict[str, int]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Drop users and items below their least counts, then a user's oldest clicks; such items leave the catalog too.

    Least counts look at whole histories. The cap can leave items with too few clicks, so the core is taken again, with
    a bound for users that the cap does not undercut.
    """
    least_user, least_item, most = (
        options.min_user_interactions,
        options.min_item_interactions,
        options.max_user_interactions,
    )
    core = whole = _core(clicks, least_user, least_item)
    counts["dropped_old_interactions"] = 0
    if most is not None:
        latest = whole.groupby("user_id", sort=False).tail(most)
        counts["dropped_old_interactions"] = len(whole) - len(latest)
        core = _core(latest, min(least_user, most), least_item)
    kept = catalog if least_item == 0 else catalog.loc[catalog["item_id"].isin(core["item_id"])]
    counts["dropped_core_users"] = clicks["user_id"].nunique() - core["user_id"].nunique()
    counts["dropped_core_items"] = len(catalog) - len(kept)
    counts["dropped_core_interactions"] = len(clicks) - len(core) - counts["dropped_old_interactions"]
    return kept, core


def _core(clicks: pd.DataFrame, least_user: int, least_item: int) -> pd.DataFrame:
    """Drop clicks of users and items below their least counts until none is left."""
    while True:
        by_user = clicks["user_id"].map(clicks["user_id"].value_counts())
        by_item = clicks["item_id"].map(clicks["item_id"].value_counts())
        kept = (by_user >= least_user) & (by_item >= least_item)
        if kept.all():
            return clicks
        clicks = clicks.loc[kept]


def _finish(
    catalog: pd.DataFrame,
    clicks: pd.DataFrame,
    options: DataOptions,
    template: str | None,
    counts: dict[str, int],
    digest: str,
) -> Tables:
    if clicks.empty:
        dropped = {name: count for name, count in counts.items() if count}
        raise DataError(
            f"no interactions are left, expected at least 1 (dropped so far: {dropped}); "
            "loosen data.min_user_interactions, data.min_item_interactions or check that both tables use the same ids"
        )
    catalog = catalog.reset_index(drop=True)
    clicks = clicks.reset_index(drop=True)
    clicks["item_row"] = pd.Index(catalog["item_id"]).get_indexer(clicks["item_id"]).astype(np.int64)
    clicks["position"] = clicks.groupby("user_id", sort=False).cumcount().astype(np.int64)
    first = [name for name in ("user_id", "item_id", "item_row", "position", "timestamp") if name in clicks.columns]
    clicks = clicks[first + [name for name in clicks.columns if name not in first]]
    texts = render_texts(catalog, template)
    if options.strict:
        schema.check_strict(catalog, clicks, texts)
    counts["items"] = len(catalog)
    counts["users"] = int(clicks["user_id"].nunique())
    counts["interactions"] = len(clicks)
    counts["duplicate_texts"] = len(texts) - len(set(texts))
    counts["repeated_pairs"] = int(clicks.duplicated(["user_id", "item_id"]).sum())
    return Tables(items=catalog, interactions=clicks, counts=counts, source_digest=digest)
