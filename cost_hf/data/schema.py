"""Tables: a catalog and a click log that have passed the checks every later stage relies on.

All checks are in this module: each error names table, column, row (0-based, as read), value and remedy. What later code
may assume is in the docstring of `Tables`. A `Notice` reports what may be wrong without being an error, with the option
that fixes it; training logs the notices, `cost-hf check` lists them. Their thresholds are rules of thumb and change
nothing that is computed.

Dimension letters of this package: B batch, T history length, L levels, K codes per level, D latent, E text width,
N items, R beams or results, M evaluation cases. An item's row in `Tables.items` is its number everywhere.
"""

import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Decimal
from functools import cached_property
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd

from cost_hf.data.cell_digests import digest_cells
from cost_hf.data.cells import (
    CONTROL,
    EXACT_WHOLE,
    count_twins,
    has_control,
    holds_words,
    is_empty,
    plain_value,
)
from cost_hf.data.errors import DataError
from cost_hf.data.item_texts import count_markup, is_text_column, item_titles
from cost_hf.data.options import TIME_UNITS
from cost_hf.files import content_digest

# Epoch seconds stay below this until the year 5138; epoch milliseconds have been above it since 1973.
MAX_EPOCH_SECONDS = 10**11
NANOSECONDS = 10**9
MAX_FLOAT = 10**300
PLAIN_FRACTION = re.compile(r"-?\d+\.\d+")
# of an ISO 8601 date with a time
OFFSET = re.compile(r"[T ]\d.*?(Z|[+-]\d{2}(:?\d{2})?)\s*$", re.IGNORECASE)


@dataclass(frozen=True)
class Notice:
    """What may be wrong in a source without being an error.

    Attributes:
        message: the finding, one sentence.
        remedy: the option or action that fixes it.
        fields: recipe fields that certainly fix it, by dotted name; `cost-hf check` reads the data with them.
    """

    message: str
    remedy: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Tables:
    """A checked catalog and its click log.

    Attributes:
        items: index 0..N-1 is the catalog row; column `item_id` (text, unique), then any others.
        interactions: `user_id`, `item_id` (text), `item_row` (int64), `position` (int64, 0 is a user's oldest, no
            gaps), `timestamp` (Int64 epoch seconds, where the source has them), `event_weight` (int64) and `is_target`
            (bool; both where events have types), then any others; sorted by (user_id, position).
        counts: numbers of what was found and dropped while reading, by name.
        notices: what may be wrong in the source without being an error, each with a remedy.
        source_digest: sha256 over both source tables as they were read, before anything is dropped, sorted or cut; the
            same content has the same digest in any file format and under any option of the data section.
    """

    items: pd.DataFrame
    interactions: pd.DataFrame
    counts: dict[str, int]
    source_digest: str
    notices: tuple[Notice, ...] = ()

    def __repr__(self) -> str:
        """Summarise the size of the tables."""
        users = self.interactions["user_id"].nunique()
        return f"Tables({len(self.items)} items, {len(self.interactions)} clicks of {users} users)"

    @property
    def num_items(self) -> int:
        """Number N of catalog rows."""
        return len(self.items)

    @cached_property
    def digest(self) -> str:
        """Sha256 over every cell of both tables; equal content gives an equal digest in any file format."""
        return content_digest(*digest_cells(self.items), *digest_cells(self.interactions))


def require_columns(frame: pd.DataFrame, table: str, names: Sequence[str]) -> None:
    """Raise `DataError` for the first of `names` that `frame` lacks."""
    for name in names:
        if name not in frame.columns:
            raise DataError(
                f"{table} has no column {name!r}, only {list(map(str, frame.columns))}; "
                f"rename it in the source or map it with data.columns: {{{name}: <name in the source>}}"
            )


def clean_ids(frame: pd.DataFrame, table: str, column: str) -> pd.Series:
    """Return an id column as strings (whole numbers become their digits); `DataError` for anything else."""
    values = frame[column]
    _forbid(values.isna(), frame, table, column, "an id in every row", "fill it or remove the row")
    kind = "a string or a whole number as id"
    if pd.api.types.is_float_dtype(values):
        numbers = np.asarray(values, dtype=np.float64)
        is_whole = np.isfinite(numbers) & (numbers == np.floor(numbers))
        _forbid(~is_whole, frame, table, column, kind, "store ids as text")
        _forbid(np.abs(numbers) >= _exact_below(values.dtype), frame, table, column, *ROUNDED)
        texts = values.astype("int64").astype(str)
    elif isinstance(values.dtype, pd.StringDtype) or pd.api.types.is_integer_dtype(values):
        texts = values.astype(str)
    else:
        found = [_id_text(value) for value in values.astype(object)]
        _forbid(np.array([text == INEXACT for text in found]), frame, table, column, *ROUNDED)
        _forbid(np.array([text is None for text in found]), frame, table, column, kind, "store ids as text")
        texts = pd.Series(found, index=values.index, dtype=str)
    _forbid(texts.str.strip() == "", frame, table, column, "an id that is not blank", "fill it or remove the row")
    return texts


def _exact_below(dtype: Any) -> int:
    """Return the number from which whole numbers are not exact in this float type."""
    return 2 ** (int(np.finfo(getattr(dtype, "numpy_dtype", dtype)).nmant) + 1)


ROUNDED = (
    "a number that is exact",
    "floats cannot represent large whole numbers exactly (from 2^53 on): store ids as text or int64 at their source",
)
INEXACT = 0  # marks an id that was rounded


def _id_text(value: Any) -> str | int | None:
    """Return an id as a string, `INEXACT` if it was rounded, None if it is not an id."""
    if isinstance(value, (bool, np.bool_)):
        return None
    if isinstance(value, (str, int, np.integer, UUID)):
        return str(value)
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return INEXACT if abs(float(value)) >= EXACT_WHOLE else str(int(value))
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        return str(int(value))
    return None


def clean_positions(frame: pd.DataFrame) -> pd.Series:
    """Return `position` as int64; nulls, fractions and times are errors."""
    values = frame["position"]
    if holds_dates(values):
        raise DataError(
            f"interactions.position contains times ({values.dtype}), expected whole numbers; map the column as a time: "
            "data.columns: {timestamp: <its name in the source>}"
        )
    numbers = as_numbers(values)
    remedy = "fill it, or order by time with data.order: timestamp"
    _forbid(numbers.isna() | (numbers % 1 != 0), frame, "interactions", "position", "a whole number", remedy)
    most = _exact_below(numbers.dtype) if pd.api.types.is_float_dtype(numbers) else 2**63
    _forbid(numbers.abs() >= most, frame, "interactions", "position", f"a number below {most}", "renumber them")
    return numbers.astype("int64")


def clean_timestamps(
    frame: pd.DataFrame, date_format: str | None = None, timezone: str | None = None
) -> tuple[pd.Series, pd.Series]:
    """Return whole epoch seconds, Int64, and the nanoseconds beyond them, int64 (0 where the time is missing).

    Args:
        frame: click log whose `timestamp` holds numbers, dates or ISO 8601 strings (UTC if no zone is given).
        date_format: of strings, as `strptime` takes it, or the unit of numbers: s, ms, us or ns.
        timezone: of dates that carry no offset; UTC by default.
    """
    values = frame["timestamp"]
    seconds, fractions = _times(frame, values, date_format, timezone)
    unreadable = seconds.isna() & values.notna()
    if date_format is None:
        expected = "epoch seconds or an ISO 8601 date"
        remedy = "correct the value, or name the form of the dates, as in data.csv: {date_format: '%d.%m.%Y %H:%M'}"
    else:
        expected = f"a time of the form {date_format!r} (data.csv.date_format)"
        remedy = "correct the value or the form"
    remedy += ", or leave such rows out with data.on_bad_row: drop"
    _forbid(unreadable, frame, "interactions", "timestamp", expected, remedy)
    return seconds, fractions


def readable_times(frame: pd.DataFrame, date_format: str | None = None) -> np.ndarray:
    """Return which cells of `timestamp` are empty or can be read as times, bool `[rows]`."""
    values = frame["timestamp"]
    try:
        seconds, _ = _times(frame, values, date_format)
    except DataError:  # of a column that is no time at all, such as milliseconds
        return np.ones(len(frame), dtype=bool)
    return (seconds.notna() | values.isna()).to_numpy(dtype=bool)


def _times(
    frame: pd.DataFrame, values: pd.Series, date_format: str | None, timezone: str | None = None
) -> tuple[pd.Series, pd.Series]:
    if date_format in TIME_UNITS:
        return _of_units(as_numbers(values), TIME_UNITS[date_format])
    if date_format is not None and not holds_dates(values):
        return _of_dates(values.map(_date_text), date_format, timezone)
    if _holds_numbers(values):
        return _of_numbers(frame, values)
    if holds_dates(values) and not isinstance(values.dtype, pd.ArrowDtype):
        return _of_dates(values, timezone=timezone)
    return _of_cells(frame, values.astype(object), timezone)


def _date_text(value: Any) -> str | None:
    """Return a date as text: a whole number such as 20240131 is its digits."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_)):
        return str(value)
    return value if isinstance(value, str) else None


def _of_units(numbers: pd.Series, units: int) -> tuple[pd.Series, pd.Series]:
    """Read numbers of which there are `units` in a second."""
    numbers = numbers if pd.api.types.is_integer_dtype(numbers) else numbers.astype("Float64")
    is_known = (
        numbers.notna().to_numpy(dtype=bool) & (numbers.abs() < MAX_EPOCH_SECONDS * units).fillna(False).to_numpy()
    )
    known = numbers[is_known]
    whole = known // 1
    seconds = pd.Series(pd.NA, index=numbers.index, dtype="Int64")
    fractions = pd.Series(0, index=numbers.index, dtype="int64")
    seconds[is_known] = (whole // units).astype("Int64")
    beyond = (whole % units + (known - whole)) * (NANOSECONDS // units)
    fractions[is_known] = beyond.astype("int64").clip(upper=NANOSECONDS - 1)
    return seconds, fractions


def _of_cells(frame: pd.DataFrame, values: pd.Series, timezone: str | None) -> tuple[pd.Series, pd.Series]:
    """Read times of mixed types: as numbers if most are numbers, else as dates."""
    numbers = as_numbers(values)
    if 2 * numbers.notna().sum() > values.notna().sum() or values.isna().all():
        seconds, fractions = _of_numbers(frame, numbers)
        return _exact_times(values, seconds, fractions)
    # a string without a leading digit is not a date, though pandas accepts "now"
    is_date = [
        value[:1].isdigit() if isinstance(value, str) else isinstance(value, (datetime.date, np.datetime64))
        for value in values
    ]
    return _of_dates(values.where(np.array(is_date)), timezone=timezone)


def _holds_numbers(values: pd.Series) -> bool:
    """Return whether a column has a real number type."""
    kinds = pd.api.types
    return kinds.is_numeric_dtype(values) and not kinds.is_bool_dtype(values) and not kinds.is_complex_dtype(values)


def as_numbers(values: pd.Series) -> pd.Series:
    """Return a column as numbers; NaN for anything else, booleans included."""
    if _holds_numbers(values):
        return values
    plain = [_plain_number(value) for value in values.astype(object)]
    return pd.to_numeric(pd.Series(plain, index=values.index, dtype=object), errors="coerce")


def _plain_number(value: Any) -> Any:
    """Return a number or a string that may be one; None for anything else, infinity beyond the range of a float."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (str, int, float, Decimal, np.integer, np.floating)
    ):
        return None
    if isinstance(value, int) and abs(value) > MAX_FLOAT:
        return np.inf
    return value


def _exact_times(values: pd.Series, seconds: pd.Series, fractions: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return seconds and nanoseconds, those of strings and decimals in full precision: a float has fewer digits."""
    whole = seconds.copy()
    beyond = fractions.copy()
    for place, value in enumerate(values):
        is_text = isinstance(value, str) and PLAIN_FRACTION.fullmatch(value.strip())
        if is_text or (isinstance(value, Decimal) and value.is_finite()):
            moment = (Decimal(value) * NANOSECONDS).to_integral_value(ROUND_FLOOR)
            whole.iloc[place], beyond.iloc[place] = divmod(int(moment), NANOSECONDS)
    return whole, beyond


def _of_numbers(frame: pd.DataFrame, values: pd.Series) -> tuple[pd.Series, pd.Series]:
    if pd.api.types.is_float_dtype(values):
        most = _exact_below(values.dtype)
        kind = f"seconds below {most}, which are exact as {values.dtype}"
        is_rounded = (values.abs() >= most) & (most < MAX_EPOCH_SECONDS)
        _forbid(is_rounded.fillna(False), frame, "interactions", "timestamp", kind, "store times as int64 or float64")
    is_whole = pd.api.types.is_integer_dtype(values)
    numbers = values if is_whole else values.astype("Float64")
    too_large = ((numbers > MAX_EPOCH_SECONDS) | (numbers < -MAX_EPOCH_SECONDS)).fillna(False)
    remedy = "name their unit with data.csv: {date_format: ms} (or us, ns), or divide by 1000 if these are milliseconds"
    _forbid(too_large, frame, "interactions", "timestamp", "epoch seconds", remedy)
    if is_whole:
        return numbers.astype("Int64"), pd.Series(0, index=numbers.index)
    seconds = numbers // 1
    beyond = ((numbers - seconds) * NANOSECONDS).fillna(0).astype("int64").clip(upper=NANOSECONDS - 1)
    return seconds.astype("Int64"), beyond


def _of_dates(
    values: pd.Series, date_format: str = "ISO8601", timezone: str | None = None
) -> tuple[pd.Series, pd.Series]:
    dates = pd.to_datetime(values, utc=True, errors="coerce", format=None if holds_dates(values) else date_format)
    if timezone is not None:
        dates = dates.where(_have_offsets(values, date_format), _in_utc(dates, timezone))
    moments = dates.dt.tz_localize(None).to_numpy()
    units = {"s": 1, "ms": 10**3, "us": 10**6, "ns": NANOSECONDS}[np.datetime_data(moments.dtype)[0]]
    seconds, beyond = np.divmod(moments.view(np.int64), units)  # in integers: distant dates overflow nanoseconds
    is_missing = np.isnat(moments)
    fractions = np.where(is_missing, 0, beyond * (NANOSECONDS // units))
    whole = pd.array(np.where(is_missing, 0, seconds), dtype="Int64")
    whole[is_missing] = pd.NA
    return pd.Series(whole, index=values.index), pd.Series(fractions, index=values.index)


def _have_offsets(values: pd.Series, date_format: str) -> np.ndarray:
    """Return which dates say how far they are from UTC, bool `[rows]`."""
    if holds_dates(values):
        return np.full(len(values), isinstance(values.dtype, pd.DatetimeTZDtype))
    if date_format != "ISO8601":
        return np.full(len(values), "%z" in date_format or "%Z" in date_format)
    return np.array(
        [
            OFFSET.search(value) is not None if isinstance(value, str) else getattr(value, "tzinfo", None) is not None
            for value in values
        ],
        dtype=bool,
    )


def _in_utc(dates: pd.Series, timezone: str) -> pd.Series:
    """Return what clocks of a zone showed as moments; of an hour that comes twice the first one."""
    shown = dates.dt.tz_localize(None)
    there = shown.dt.tz_localize(timezone, ambiguous=np.ones(len(shown), dtype=bool), nonexistent="shift_forward")
    return there.dt.tz_convert("UTC")


def holds_dates(values: pd.Series) -> bool:
    """Return whether a column has a date type."""
    return pd.api.types.is_datetime64_any_dtype(values)


def check_item_ids(items: pd.DataFrame) -> None:
    """Raise `DataError` for an item id with control characters: ids are displayed, and no catalog accepts them."""
    wrong = np.array([has_control(text) for text in items["item_id"]], dtype=bool)
    remedy = "correct it in the source; --data.normalize_ids '[strip]' removes blanks at its ends"
    _forbid(wrong, items, "items", "item_id", "an id without control characters", remedy)


def check_unique_items(items: pd.DataFrame, *, remedy: str = "remove one of the rows") -> None:
    """Raise `DataError` if an item id is in two rows of the catalog."""
    repeated = items["item_id"].duplicated()
    _forbid(repeated, items, "items", "item_id", "each id once", remedy)


def forbid_unknown_items(interactions: pd.DataFrame, unknown: np.ndarray, reason: str) -> None:
    """Raise `DataError` for the first click on an unknown item.

    Args:
        interactions: the click log.
        unknown: which clicks are on such items, bool `[clicks]`.
        reason: why the ids of the tables may differ, a sentence; empty if unknown.
    """
    remedy = "add the item to the catalog, or drop such clicks with data.on_unknown_item: drop"
    remedy = f"{reason}; else {remedy}" if reason else remedy
    _forbid(unknown, interactions, "interactions", "item_id", "an id that is in items", remedy)


def empty_texts(items: pd.DataFrame, texts: Sequence[str], *, drops: bool) -> np.ndarray:
    """Return which items have an empty rendered text, bool `[N]`; unless `drops`, any is a `DataError`."""
    empty = np.fromiter((not text.strip() for text in texts), dtype=bool, count=len(texts))
    if empty.any() and not drops:
        row = int(empty.argmax())
        raise DataError(
            f"items, row {row} (item_id {items['item_id'].iloc[row]!r}): expected a text, got {texts[row]!r} "
            f"({_rows(int(empty.sum()))} like this); fill a field of vectors.template, name other fields there, "
            "or drop such items with data.on_empty_text: drop"
        )
    return empty


def check_positions(interactions: pd.DataFrame, users: np.ndarray) -> None:
    """Raise `DataError` if a user has two clicks at one position.

    Args:
        interactions: the click log, its positions whole numbers.
        users: number of the user of each click, `[clicks]`.
    """
    keys = pd.DataFrame({"user": users, "position": interactions["position"].to_numpy()})
    clashing = keys.duplicated().to_numpy()
    if clashing.any():
        click = interactions.loc[clashing].iloc[0]
        repeats = int(interactions.duplicated(["user_id", "item_id", "position"]).sum())
        remedy = "renumber them, or order by time with data.order: timestamp"
        if repeats:
            remedy = (
                f"{_rows(repeats)} repeat another one's user, item and position, as in a log that was joined to itself:"
                f" drop these with data.on_duplicate_click: drop; else {remedy}"
            )
        raise DataError(
            f"interactions.position, row {click.name}: expected each position once per user, got "
            f"{int(click['position'])!r} a second time for user_id {click['user_id']!r} "
            f"({_rows(int(clashing.sum()))} like this); {remedy}"
        )


def check_strict(items: pd.DataFrame, interactions: pd.DataFrame, texts: Sequence[str]) -> None:
    """Raise `DataError` for duplicate texts and repeated (user, item) pairs, which only `data.strict` forbids."""
    duplicated = pd.Series(list(texts), dtype=object).duplicated()
    if duplicated.any():
        row = int(duplicated.to_numpy().argmax())
        raise DataError(
            f"items, row {row} (item_id {items['item_id'].iloc[row]!r}): data.strict expects distinct texts, got "
            f"{texts[row]!r} a second time ({_rows(int(duplicated.sum()))} like this); "
            "add a field to vectors.template or set data.strict: false"
        )
    repeated = interactions.duplicated(["user_id", "item_id"])
    if repeated.any():
        click = interactions.loc[repeated].iloc[0]
        raise DataError(
            f"interactions.item_id: data.strict expects each item once per user, got {click['item_id']!r} again at "
            f"position {int(click['position'])} of user_id {click['user_id']!r} ({_rows(int(repeated.sum()))} like "
            "this); remove the repeats or set data.strict: false"
        )


def _forbid(
    bad: pd.Series | np.ndarray, frame: pd.DataFrame, table: str, column: str, expected: str, remedy: str
) -> None:
    """Raise `DataError` for the first row where `bad` is true."""
    flags = np.asarray(bad, dtype=bool)
    if not flags.any():
        return
    place = int(flags.argmax())
    value = plain_value(frame[column], place)
    raise DataError(
        f"{table}.{column}, row {frame.index[place]}: expected {expected}, got {value!r:.200} "
        f"({_rows(int(flags.sum()))} like this); {remedy}"
    )


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


LONG_HISTORY = 1_000  # clicks of one user; longer histories are mostly bots or shared accounts
LONG_RATIO = 20  # and at least this multiple of the 90th percentile
MIN_CAP = 100
COMPACT_DATES = (19_700_101, 20_991_231)


def id_notices(catalog: pd.DataFrame, clicks: pd.DataFrame) -> Iterator[Notice]:
    """Report users with control characters in their ids, and different ids that look the same."""
    for table, frame, column in (("items", catalog, "item_id"), ("interactions", clicks, "user_id")):
        ids = pd.Series(frame[column].unique())
        of_ids = f"of {len(ids):,} ids of {table}.{column}"
        controlled = ids[ids.str.contains(CONTROL.pattern)].tolist()  # of users: items have none
        if controlled:
            yield Notice(
                f"{len(controlled):,} {of_ids} contain control characters, like {controlled[0]!a}",
                "correct them in the source",
            )
        twins = count_twins(ids)
        if twins:
            yield Notice(
                f"{twins:,} {of_ids} differ from another one only by blanks or their Unicode form",
                "--data.normalize_ids '[strip, nfc]' merges them",
            )


def time_notices(clicks: pd.DataFrame) -> Iterator[Notice]:
    """Report times that are dates like 20240131, which were read as seconds."""
    if "timestamp" not in clicks or clicks["timestamp"].isna().all():
        return
    times = clicks["timestamp"].dropna()
    least = int(times.min())
    most = int(times.max())
    if COMPACT_DATES[0] <= least and most <= COMPACT_DATES[1]:
        dates = pd.to_datetime(times.drop_duplicates().head(1000).astype(str), format="%Y%m%d", errors="coerce")
        if dates.notna().all():
            yield Notice(
                f"the times look like dates (the first is {least}) and were read as seconds after 1970-01-01",
                "--data.csv '{date_format: \"%Y%m%d\"}'",
                {"data.csv": {"date_format": "%Y%m%d"}},
            )


def repeat_notices(num_clicks: int, repeats: int, least: int) -> Iterator[Notice]:
    """Report clicks that are in the log more than once.

    Args:
        num_clicks: size of the log with its repeats.
        repeats: number of clicks with the user, item and time of an earlier one.
        least: clicks of the pair of a user and an item that has fewest.
    """
    drop = "--data.on_duplicate_click drop"
    if repeats and least > 1:
        yield Notice(
            f"every click is in the log at least {least} times ({repeats:,} of {num_clicks:,} repeat user, item "
            "and time of another one): it was joined to itself",
            drop,
        )
    elif repeats:
        yield Notice(
            f"{repeats:,} of {num_clicks:,} clicks repeat user, item and time of another one",
            f"{drop}, if they are one click each",
        )
    elif least > 1:
        yield Notice(
            f"every user has each of their items at least {least} times: the log may have been joined to itself",
            "remove the repeats from the source",
        )


def order_notices(backwards: int, neighbours: int) -> Iterator[Notice]:
    """Report a contradiction between the two columns that can order clicks under `data.order: auto`.

    Args:
        backwards: number of clicks that are earlier than the previous one by position.
        neighbours: number of clicks that have a time, as has the previous one.
    """
    if backwards:
        yield Notice(
            f"position and timestamp disagree: {backwards:,} of {neighbours:,} clicks are earlier than the one before "
            "them by position; position is used",
            "--data.order timestamp orders by time, --data.order position keeps this order",
        )


def history_notices(lengths: np.ndarray) -> Iterator[Notice]:
    """Report users with very many clicks; `lengths` is the number of clicks of every user, `[users]`."""
    most = int(lengths.max())
    ninety = float(np.quantile(lengths, 0.9))
    if most > LONG_HISTORY and most > LONG_RATIO * ninety:
        many = int((lengths > max(LONG_HISTORY, LONG_RATIO * ninety)).sum())
        cap = max(MIN_CAP, int(LONG_RATIO * ninety))
        yield Notice(
            f"{many:,} of {len(lengths):,} users have very many clicks, up to {most:,} (nine of ten have at most "
            f"{ninety:.0f}): they slow everything down and are rarely real people",
            f"--data.max_user_interactions {cap}",
        )


def text_notices(catalog: pd.DataFrame, texts: list[str]) -> Iterator[Notice]:
    """Report HTML in texts and titles, and cells of text columns that are not strings."""
    titles = item_titles(catalog) or []
    marked = max(count_markup(texts), count_markup([title for title in titles if title is not None]))
    if marked:
        yield Notice(
            f"{marked:,} of {len(catalog):,} item texts contain HTML tags or entities, which count as words",
            "--data.clean_html true",
            {"data.clean_html": True},
        )
    for name in catalog.columns:
        values = catalog[name]
        if values.dtype == object and any(isinstance(value, bytes) for value in values):
            yield Notice(
                f"items.{name} contains bytes instead of text and is left out", "decode it if it contains words"
            )
        if values.dtype != object or name == "item_id" or not is_text_column(values):
            continue
        others = values[[not is_empty(value) and not holds_words(value) for value in values]]
        if len(others) and len(others) < values.notna().sum():
            yield Notice(
                f"{len(others):,} of {len(values):,} cells of items.{name} are not text, like {others.iloc[0]!r:.60} "
                f"in row {others.index[0]}; they are converted by str",
                "store them as text if they should be written differently",
            )
