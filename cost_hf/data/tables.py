"""Tables reader: reads, checks, orders and filters items and interactions (`read_tables`).

The order of the steps is fixed, because each changes the input of the next: ids and times, guests, types of events,
forms of ids and texts, repeated clicks, unknown items, items without text, order, k-core, history cap. Positions are
renumbered last, so a dropped click leaves no gap.

The source digest is computed before anything but unreadable rows is dropped, sorted or cut, so that no option of
the data section changes it. Equal content gives an equal digest in any file format and column order: whole numbers
count as their digits, lists and objects as JSON, and a column without any value as absent. Rows of the click log may
come in any order; the order of the catalog counts, since it numbers the items.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from cost_hf.data import schema
from cost_hf.data.amazon import read_amazon
from cost_hf.data.cells import cell_text, find_mismatch, is_missing, map_texts, normalized
from cost_hf.data.coded_clicks import CodedClicks, run_lengths, stable_order
from cost_hf.data.errors import DataError
from cost_hf.data.events import (
    IS_TARGET,
    WEIGHT,
    check_targets,
    clean_users,
    event_types,
    resolve_guests,
    select_events,
)
from cost_hf.data.item_texts import is_text_column, plain_text, render_texts
from cost_hf.data.mind import read_mind
from cost_hf.data.movielens import read_movielens
from cost_hf.data.options import DataOptions, csv_option
from cost_hf.data.schema import Notice, Tables, as_numbers
from cost_hf.data.sources import RawTables, Source, load_catalog, load_frames, load_interactions
from cost_hf.data.splits import source_parts, time_order
from cost_hf.data.toy_worlds import make_toy

NO_TIME = np.iinfo(np.int64).min
MIN_MISMATCHED = 0.01  # share of the unknown ids: fewer matches in another form are coincidence


def _read_synthetic(options: DataOptions) -> RawTables:
    toy = make_toy(options)
    return RawTables(toy.items, toy.interactions)


# `tables`, the other choice of data.reader, reads both tables as they are
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
        options: the data section; sources passed as arguments override its paths.
        items: DataFrame, `datasets.Dataset` or file path of the catalog, with `item_id` and any other columns.
        interactions: the same for the click log, with `user_id`, `item_id` and `timestamp` or `position`.
        template: text template of the vectors section, for the check for empty texts.
        seed: overrides `options.seed`, which decides ties in time.

    Raises:
        DataError: a check fails; the message names table, column, row, value and remedy.
        OSError: a file can't be read.

    Examples:
        >>> import pandas as pd
        >>> items = pd.DataFrame({"item_id": ["a", "b"], "title": ["Lamp", "Chair"]})
        >>> clicks = pd.DataFrame({"user_id": ["u", "u"], "item_id": ["b", "a"], "timestamp": [20, 10]})
        >>> tables = read_tables(DataOptions(), items=items, interactions=clicks)
        >>> tables
        Tables(2 items, 2 clicks of 1 users)
        >>> tables.interactions["item_row"].tolist()
        [0, 1]
    """
    options = options if seed is None else replace(options, seed=seed)
    options.validate()
    counts: dict[str, int] = {}
    if options.reader in READERS and (items is None) != (interactions is None):
        given = "interactions" if items is None else "items"
        raise DataError(
            f"data.reader {options.reader} provides both tables, got a source of {given} alone; pass both or neither, "
            "or set data.reader: tables"
        )
    raw = None
    if options.reader in READERS and items is None:
        raw = READERS[options.reader](options)
        items = raw.items
        interactions = raw.interactions
        counts = dict(raw.counts)
    catalog, clicks = load_frames(options, items=items, interactions=interactions, counts=counts)
    id_types = tuple(_id_type(frame) for frame in (catalog, clicks))
    catalog = _clean_items(catalog, options, counts)
    clicks, fractions = _clean_interactions(clicks, options, counts)
    order = _order_column(clicks, options.order)
    digest = source_digest(catalog, clicks if raw is None else _as_published(clicks), fractions)
    catalog = _drop_repeated_items(catalog, options, counts)
    notices: list[Notice] = []
    clicks = select_events(resolve_guests(clicks, fractions, options, counts, notices), options, counts)
    check_targets(clicks, options)
    catalog = _normalize_items(catalog, options)
    if options.normalize_ids:
        users = clicks["user_id"].nunique()
        clicks = _normalize_clicks(clicks, options)
        counts["merged_users"] = users - clicks["user_id"].nunique()
    notices += [*schema.id_notices(catalog, clicks), *schema.time_notices(clicks)]
    log = CodedClicks.of(clicks, fractions)
    del clicks, fractions  # which would be held beside what is left of them
    log = _drop_repeats(log, options, counts, notices)
    if order == "position":
        log = _with_positions(log)
    log = _drop_unknown(log, catalog, options, counts, notices, id_types)
    catalog, log = _drop_textless(catalog, log, options, template, counts)
    log = _sort(log, order, options, counts, notices)
    catalog, log = _keep_core_and_latest(catalog, log, options, counts)
    return _finish(catalog, log, options, template, counts, notices, digest)


def read_items(
    source: Source, *, columns: dict[str, str] | None = None, options: DataOptions | None = None
) -> pd.DataFrame:
    """Read a catalog alone, for example new items after training; with the checks of `read_tables`.

    Args:
        source: DataFrame, `datasets.Dataset`, or file or pattern of files, of the kinds that `read_tables` takes.
        columns: our column -> name in the source; those of `options` by default.
        options: data section of the training, whose rules for files, rows and ids apply to this catalog as well.

    Raises:
        DataError: a check fails.
    """
    own = _for_one_source(options or DataOptions(), columns)
    catalog = _drop_repeated_items(_clean_items(load_catalog(source, own), own, {}), own, {})
    return _normalize_items(catalog, own)


def read_interactions(
    source: Source,
    *,
    columns: dict[str, str] | None = None,
    seed: int | None = None,
    options: DataOptions | None = None,
    with_nanoseconds: bool = False,
    timezone: str | None = None,
    counts: dict[str, int] | None = None,
) -> pd.DataFrame:
    """Read a click log alone, for example clicks after training; with the checks and the order of `read_tables`.

    Args:
        source: DataFrame, `datasets.Dataset`, or path of a parquet, csv, tsv or jsonl file, with `user_id`, `item_id`
            and `position` or `timestamp`, and any other columns.
        columns: our column -> name in the source; those of `options` by default.
        seed: decides ties in time; `data.seed` by default.
        options: data section of the training, whose rules for files, rows, events, guests and ids apply to these clicks
            as well.
        with_nanoseconds: add a column `nanoseconds`, int64: what each time has beyond the whole seconds of `timestamp`.
        timezone: of dates that carry no offset, such as `Europe/Berlin`; UTC by default. Numbers are seconds of UTC.
        counts: numbers of what was found and dropped are added, by name.

    Returns:
        The clicks, those of a user together, oldest first, with positions that count from 0.

    Raises:
        DataError: a check fails.
        OSError: a file can't be read.

    Examples:
        >>> import pandas as pd
        >>> log = pd.DataFrame({"user_id": ["u", "v", "u"], "item_id": ["b", "c", "a"], "timestamp": [20, 5, 10]})
        >>> read_interactions(log)["item_id"].tolist()
        ['a', 'b', 'c']
    """
    own = replace(_for_one_source(options or DataOptions(), columns), split="leave_one_out")
    own = own if seed is None else replace(own, seed=seed)
    counts = {} if counts is None else counts
    clicks, fractions = _clean_interactions(load_interactions(source, own), own, counts, timezone)
    order = _order_column(clicks, own.order)
    clicks = _normalize_clicks(select_events(resolve_guests(clicks, fractions, own, counts, []), own, counts), own)
    log = CodedClicks.of(clicks, fractions)
    if own.on_duplicate_click == "drop":
        log = _drop_repeats(log, own, counts, [])
    if order == "position":
        log = _with_positions(log)
    log = _sort(log, order, own, counts, [])
    if with_nanoseconds:
        log = log.assign(nanoseconds=log.fractions)
    return log.frame.reset_index(drop=True).assign(position=_positions(log))


def _id_type(frame: pd.DataFrame) -> str:
    """Return the type of `item_id` as read, for messages; "" if there is no such column."""
    values = frame.get("item_id")
    if values is None:
        return ""
    kind = pd.api.types.infer_dtype(values.head(1000), skipna=True)
    return {"string": "text", "integer": "whole numbers", "floating": "floats"}.get(kind, kind)


def _for_one_source(options: DataOptions, columns: dict[str, str] | None) -> DataOptions:
    """Return the options with which one table is read, wherever the tables of the training were."""
    return replace(
        options,
        reader="tables",
        path=None,
        items=None,
        interactions=None,
        columns=dict(options.columns if columns is None else columns),
    )


def _as_published(clicks: pd.DataFrame) -> pd.DataFrame:
    """Return the log of a reader without positions derived from times, which depend on the seed of ties."""
    if "position" not in clicks or "timestamp" not in clicks:
        return clicks
    return clicks.assign(position=clicks["position"].where(clicks["timestamp"].isna()))


def _clean_items(frame: pd.DataFrame, options: DataOptions, counts: dict[str, int]) -> pd.DataFrame:
    """Return the catalog with ids as text, without rows that have none where `data.on_bad_row` allows it."""
    schema.require_columns(frame, "items", ["item_id"])
    if options.on_bad_row == "drop":
        frame = _drop_bad_rows(frame, ~is_missing(frame["item_id"]), "items", counts)
    if frame.empty:
        raise DataError("items has 0 rows, expected at least 1; check that the source has items")
    return frame.assign(item_id=schema.clean_ids(frame, "items", "item_id"))


def _drop_repeated_items(catalog: pd.DataFrame, options: DataOptions, counts: dict[str, int]) -> pd.DataFrame:
    """Return the catalog with every item once, as `data.on_duplicate_item` demands."""
    if options.on_duplicate_item == "error":
        remedy = "remove one of the rows, or choose one with data.on_duplicate_item: first (or last)"
        schema.check_unique_items(catalog, remedy=remedy)
        return catalog
    is_repeat = catalog["item_id"].duplicated(keep="first" if options.on_duplicate_item == "first" else "last")
    counts["dropped_duplicate_items"] = int(is_repeat.sum())
    return catalog.loc[~is_repeat]


def _clean_interactions(
    frame: pd.DataFrame, options: DataOptions, counts: dict[str, int], timezone: str | None = None
) -> tuple[pd.DataFrame, pd.Series]:
    """Check ids and times; return the log and the nanoseconds beyond the whole seconds of `timestamp`.

    `user_id` is missing in clicks of guests, where `data.on_missing_user` allows them.
    """
    schema.require_columns(frame, "interactions", ["user_id", "item_id"])
    date_format = csv_option(options.csv, "interactions", "date_format")
    if options.on_bad_row == "drop":
        frame = _drop_bad_rows(frame, ~is_missing(frame["item_id"]), "interactions", counts)
        if "timestamp" in frame.columns:
            is_known = schema.readable_times(frame, date_format)
            if _order_column(frame, options.order) == "timestamp":
                is_known = is_known & frame["timestamp"].notna().to_numpy(dtype=bool)
            frame = _drop_bad_rows(frame, is_known, "interactions", counts)
    if frame.empty:
        raise DataError("interactions has 0 rows, expected at least 1; check that the source has clicks")
    frame = frame.assign(
        user_id=clean_users(frame, options), item_id=schema.clean_ids(frame, "interactions", "item_id")
    )
    fractions = pd.Series(0, index=frame.index)
    if "timestamp" in frame.columns:
        times, fractions = schema.clean_timestamps(frame, date_format, timezone)
        frame = frame.assign(timestamp=times)
    return frame, fractions


def _drop_bad_rows(frame: pd.DataFrame, is_good: np.ndarray, table: str, counts: dict[str, int]) -> pd.DataFrame:
    """Return the good rows; the others are counted."""
    bad = int((~is_good).sum())
    if not bad:
        return frame
    name = f"dropped_unreadable_rows_of_{table}"
    counts[name] = counts.get(name, 0) + bad
    return frame.loc[is_good]


def _normalize_items(catalog: pd.DataFrame, options: DataOptions) -> pd.DataFrame:
    """Normalise ids by `data.normalize_ids` and remove HTML from texts, as the options demand."""
    if forms := options.normalize_ids:
        catalog = catalog.assign(item_id=normalized(catalog["item_id"], forms))
        schema.check_unique_items(catalog, remedy="remove one of the rows, or a form from data.normalize_ids")
    schema.check_item_ids(catalog)
    if options.clean_html:
        catalog = catalog.assign(
            **{str(name): _without_html(cells) for name, cells in catalog.items() if name != "item_id"}
        )
    return catalog


def _normalize_clicks(clicks: pd.DataFrame, options: DataOptions) -> pd.DataFrame:
    if not options.normalize_ids:
        return clicks
    return clicks.assign(**{name: normalized(clicks[name], options.normalize_ids) for name in ("user_id", "item_id")})


def _without_html(values: pd.Series) -> pd.Series:
    return map_texts(values, plain_text) if is_text_column(values) else values


def _drop_repeats(log: CodedClicks, options: DataOptions, counts: dict[str, int], notices: list[Notice]) -> CodedClicks:
    """Find clicks with the user, item, time and event of another one; without times, those with its position."""
    clicks = log.frame
    keys = {"pair": log.pairs}
    if log.fractions.any():
        keys["fraction"] = log.fractions
    if options.event_column is not None:  # a view and a purchase at one time are two clicks
        keys["event"] = event_types(clicks, options.event_column).to_numpy()
    times = clicks["timestamp"] if "timestamp" in clicks else pd.Series(pd.NA, index=clicks.index, dtype="Int64")
    has_time = times.notna().to_numpy(dtype=bool)
    keys["time"] = times.to_numpy(dtype=np.int64, na_value=NO_TIME)
    if "position" in clicks:
        keys["position"] = clicks["position"].where(~has_time).to_numpy()
    # of a click that is in two parts the one in the earlier part is kept: the other would be its own history
    places = stable_order(_part_ranks(clicks, options))
    if "position" not in clicks:
        places = places[has_time[places]]
    is_repeat = np.zeros(len(log), dtype=bool)
    is_repeat[places] = pd.DataFrame({name: values[places] for name, values in keys.items()}).duplicated().to_numpy()
    repeats = int(is_repeat.sum())
    counts["dropped_duplicate_clicks"] = 0
    if options.on_duplicate_click == "drop":
        counts["dropped_duplicate_clicks"] = repeats
        repeats = 0
        log = log.where(~is_repeat)
    counts["duplicate_clicks"] = repeats
    if len(log):
        notices += schema.repeat_notices(len(log), repeats, int(run_lengths(np.sort(log.pairs)).min()))
    return log


def _with_positions(log: CodedClicks) -> CodedClicks:
    """Return the log with its positions as whole numbers, each once per user."""
    positions = schema.clean_positions(log.frame)
    schema.check_positions(log.frame.assign(position=positions), log.users)
    return log.assign(position=positions)


def _part_ranks(clicks: pd.DataFrame, options: DataOptions) -> np.ndarray:
    """Return the part of each click under `split: source`, int64 `[clicks]`; else zeros."""
    if options.split != "source" or options.split_column not in clicks:
        return np.zeros(len(clicks), dtype=np.int64)
    return source_parts(clicks[options.split_column]).fillna(0).to_numpy(dtype=np.int64)


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
    log: CodedClicks,
    catalog: pd.DataFrame,
    options: DataOptions,
    counts: dict[str, int],
    notices: list[Notice],
    id_types: tuple[str, ...],
) -> CodedClicks:
    unknown = ~log.item_ids.isin(catalog["item_id"])[log.items]
    counts["dropped_unknown_item_interactions"] = int(unknown.sum())
    if not unknown.any():
        return log
    mismatch = find_mismatch(log.frame.loc[unknown, "item_id"], catalog["item_id"])
    differ = f"item_id was read as {id_types[0]} in items and as {id_types[1]} in interactions"
    reasons = [] if mismatch is None else [mismatch.text]
    reasons += [differ] if id_types[0] != id_types[1] else []
    if mismatch is not None and mismatch.found >= MIN_MISMATCHED * mismatch.tried:
        fields = {"data.normalize_ids": list(mismatch.forms)} if mismatch.forms else {}
        notices.append(Notice("; ".join(reasons), mismatch.remedy, fields))
    if mismatch is not None:
        reasons.append(f"fix it with {mismatch.remedy}" if mismatch.forms else mismatch.remedy)
    if options.on_unknown_item == "error":
        schema.forbid_unknown_items(log.frame, unknown, "; ".join(reasons))
    return log.where(~unknown)


def _drop_textless(
    catalog: pd.DataFrame, log: CodedClicks, options: DataOptions, template: str | None, counts: dict[str, int]
) -> tuple[pd.DataFrame, CodedClicks]:
    empty = schema.empty_texts(catalog, render_texts(catalog, template), drops=options.on_empty_text == "drop")
    catalog = catalog.loc[~empty]
    kept = log.item_ids.isin(catalog["item_id"])[log.items]
    counts["dropped_empty_text_items"] = int(empty.sum())
    counts["dropped_empty_text_interactions"] = int((~kept).sum())
    return catalog, log.where(kept)


def _sort(
    log: CodedClicks, order: str, options: DataOptions, counts: dict[str, int], notices: list[Notice]
) -> CodedClicks:
    """Sort by user, then by position, or by time with ties by part and hash; positions are renumbered later."""
    clicks = log.frame
    if order == "position":
        counts.setdefault("tied_timestamps", 0)  # a reader that derived positions from times has counted its ties
        log = log.take(stable_order(clicks["position"].to_numpy(), log.users))
        if options.order == "auto" and "timestamp" in clicks:
            notices += schema.order_notices(*_backwards(log))
        return log
    missing = clicks["timestamp"].isna()
    if missing.any():
        raise DataError(
            f"interactions.timestamp: expected a value in every row to order by time, got {int(missing.sum())} null of "
            f"{len(clicks)} (first: user_id {clicks.loc[missing, 'user_id'].iloc[0]!r}); fill them or give position"
        )
    places, counts["tied_timestamps"] = time_order(log, options.seed, parts=_part_ranks(clicks, options))
    return log.take(places)


def _backwards(log: CodedClicks) -> tuple[int, int]:
    """Return how many clicks are earlier than the previous one of their user, and how many could be compared."""
    is_known = log.frame["timestamp"].notna().to_numpy()
    users = log.users[is_known]
    times = log.frame["timestamp"].to_numpy(dtype=np.int64, na_value=0)[is_known]
    beyond = log.fractions[is_known]
    is_next = np.diff(users) == 0
    passed = np.diff(times)
    rest = np.diff(beyond)
    return int((((passed < 0) | ((passed == 0) & (rest < 0))) & is_next).sum()), int(is_next.sum())


def _positions(log: CodedClicks) -> np.ndarray:
    """Return the number of every click among those of its user, int64 `[clicks]`; users are together."""
    lengths = run_lengths(log.users)
    return np.arange(len(log)) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _keep_core_and_latest(
    catalog: pd.DataFrame, log: CodedClicks, options: DataOptions, counts: dict[str, int]
) -> tuple[pd.DataFrame, CodedClicks]:
    """Drop users and items below their minimum counts, then a user's oldest clicks; also drop items from the catalog.

    Minimum counts refer to whole histories. The cap can leave items with too few clicks, so the k-core is computed
    again, with a minimum for users that is at most the cap.
    """
    least_user = options.min_user_interactions
    least_item = options.min_item_interactions
    most = options.max_user_interactions
    core = whole = _core(log, least_user, least_item)
    counts["dropped_old_interactions"] = 0
    if most is not None:
        latest = whole.where(whole.clicks_of_users[whole.users] - _positions(whole) <= most)
        counts["dropped_old_interactions"] = len(whole) - len(latest)
        core = _core(latest, min(least_user, most), least_item)
    kept = catalog
    if least_item > 0:
        kept = catalog.loc[catalog["item_id"].isin(core.item_ids[core.clicks_of_items > 0])]
    counts["dropped_core_users"] = log.num_users - core.num_users
    counts["dropped_core_items"] = len(catalog) - len(kept)
    counts["dropped_core_interactions"] = len(log) - len(core) - counts["dropped_old_interactions"]
    return kept, core


def _core(log: CodedClicks, least_user: int, least_item: int) -> CodedClicks:
    """Drop clicks of users and items below their minimum counts until there are none."""
    while True:
        kept = (log.clicks_of_users >= least_user)[log.users] & (log.clicks_of_items >= least_item)[log.items]
        if kept.all():
            return log
        log = log.where(kept)


def _finish(
    catalog: pd.DataFrame,
    log: CodedClicks,
    options: DataOptions,
    template: str | None,
    counts: dict[str, int],
    notices: list[Notice],
    digest: str,
) -> Tables:
    if not len(log):
        dropped = {name: count for name, count in counts.items() if count}
        raise DataError(
            f"no interactions are left, expected at least 1 (dropped so far: {dropped}); "
            "loosen data.min_user_interactions, data.min_item_interactions or check that both tables use the same ids"
            + "".join(f"; {each.message}: {each.remedy}" for each in notices)
        )
    catalog = catalog.reset_index(drop=True)
    rows = pd.Index(catalog["item_id"]).get_indexer(log.item_ids).astype(np.int64)
    clicks = log.frame.reset_index(drop=True).assign(item_row=rows[log.items], position=_positions(log))
    named = ("user_id", "item_id", "item_row", "position", "timestamp", WEIGHT, IS_TARGET)
    first = [name for name in named if name in clicks.columns]
    clicks = clicks[first + [name for name in clicks.columns if name not in first]]
    texts = render_texts(catalog, template)
    if options.strict:
        schema.check_strict(catalog, clicks, texts)
    counts["items"] = len(catalog)
    counts["users"] = log.num_users
    counts["interactions"] = len(clicks)
    counts["duplicate_texts"] = len(texts) - len(set(texts))
    counts["repeated_pairs"] = len(log) - len(run_lengths(np.sort(log.pairs)))
    notices += schema.text_notices(catalog, texts)
    notices += schema.history_notices(run_lengths(log.users))
    return Tables(catalog, clicks, counts, source_digest=digest, notices=tuple(notices))


NUMBERS = ("position", "timestamp")  # checked to be numbers, and often all different: hashing them as strings is slow
NOTHING = np.uint64(0x9E3779B97F4A7C15)  # hash of an empty cell
FACTOR = np.uint64(0xBF58476D1CE4E5B9)


def source_digest(items: pd.DataFrame, interactions: pd.DataFrame, fractions: pd.Series) -> str:
    """Return the sha256 hex digest of a catalog and a click log.

    Args:
        items: catalog with our column names and checked ids.
        interactions: click log, likewise, times in whole seconds.
        fractions: nanoseconds beyond the seconds, int64 `[clicks]`.
    """
    state = hashlib.sha256()
    for table, frame, keeps_order in (("items", items, True), ("interactions", interactions, False)):
        names = []
        rows = np.zeros(len(frame), dtype=np.uint64)
        for name, hashes in _column_hashes(frame, fractions if table == "interactions" else None):
            names.append(name)
            rows = (rows ^ hashes) * FACTOR
            rows ^= rows >> np.uint64(29)
        state.update(f"{table}:{len(frame)}:{len(names)}:".encode())
        for name in names:
            state.update(f"{len(name)}:{name}:".encode("utf-8", "surrogatepass"))
        state.update((rows if keeps_order else np.sort(rows)).astype("<u8", copy=False).data)
    return state.hexdigest()


def _column_hashes(frame: pd.DataFrame, fractions: pd.Series | None) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and 64-bit hashes of every cell, uint64 `[rows]`, of columns by name; empty columns are left out."""
    for name in sorted(frame.columns):
        found = _number_hashes(frame[name]) if name in NUMBERS else None
        if found is None:
            found = _text_hashes(frame[name])
        if (found != NOTHING).any():
            yield name, found
    if fractions is not None and fractions.any():
        yield "", pd.util.hash_array(fractions.to_numpy())  # no column has this name


def _number_hashes(values: pd.Series) -> np.ndarray | None:
    """Hash whole numbers by value, whatever their type; None if some are not whole."""
    is_missing = values.isna().to_numpy()
    known = as_numbers(values[~is_missing])
    if not pd.api.types.is_integer_dtype(known) and not (known % 1 == 0).all():
        return None
    hashes = np.full(len(values), NOTHING)
    hashes[~is_missing] = pd.util.hash_array(known.to_numpy(dtype=np.int64))
    return hashes


def _text_hashes(values: pd.Series) -> np.ndarray:
    """Hash cells by their text; equal texts are hashed once."""
    if isinstance(values.dtype, pd.StringDtype):
        numbers, distinct = pd.factorize(values)
        known = np.append(pd.util.hash_array(distinct.to_numpy(dtype=object), categorize=False), NOTHING)
        known[np.flatnonzero(np.asarray(distinct == ""))] = NOTHING
        return known[numbers]  # -1, a missing value, is the last
    cells = values
    if values.dtype == object:  # mixed numbers, lists and objects, which can't be compared or hashed
        cells = pd.Series([cell_text(value) for value in values], dtype=object)
    numbers, distinct = pd.factorize(cells)
    texts = [cell_text(value) for value in distinct]
    encoded = np.array([None if text is None else text.encode("utf-8", "surrogatepass") for text in texts] + [None])
    known = pd.util.hash_array(encoded, categorize=False)
    known[[number for number, text in enumerate(encoded) if text is None]] = NOTHING
    return known[numbers]  # -1, a missing value, is the last
