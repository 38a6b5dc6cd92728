"""Events of a click log: what a click of each type counts, which are targets, and sessions of users without an id.

Views, carts and purchases are evidence of different strength. `data.event_weights` is what a click of a type counts in
everything that is fitted, `data.target_events` are the types that are predicted and evaluated. A click of another type
is part of histories. Without weights, targets count 1 and all other clicks 0: they are read, not learned.

Clicks without a user are those of guests. They are left out, or each of their sessions becomes a user.
"""

import difflib

import numpy as np
import pandas as pd

from cost_hf.data.cells import cell_text, is_missing, plain_value
from cost_hf.data.errors import DataError
from cost_hf.data.options import DataOptions
from cost_hf.data.schema import Notice, clean_ids, require_columns

WEIGHT = "event_weight"  # columns of the click log of `Tables`, where data.event_column is set
IS_TARGET = "is_target"
GUEST = "session:"  # what the user ids of sessions begin with
SHOWN = 8  # types of events in messages
SECONDS = 60


def clean_users(clicks: pd.DataFrame, options: DataOptions) -> pd.Series:
    """Return `user_id` as strings, missing where a guest clicked and `data.on_missing_user` allows it."""
    guests = is_missing(clicks["user_id"])
    if not guests.any():
        return clean_ids(clicks, "interactions", "user_id")
    if options.on_missing_user == "error":
        row = int(guests.argmax())
        raise DataError(
            f"interactions.user_id, row {clicks.index[row]}: expected an id in every row, got "
            f"{plain_value(clicks['user_id'], row)!r} ({int(guests.sum())} of {len(clicks)} rows); leave them "
            "out with data.on_missing_user: drop, or make their sessions users with data.on_missing_user: "
            "session and data.session_column or data.session_gap"
        )
    return clean_ids(clicks.loc[~guests], "interactions", "user_id").reindex(clicks.index)


def resolve_guests(
    clicks: pd.DataFrame, fractions: pd.Series, options: DataOptions, counts: dict[str, int], notices: list[Notice]
) -> pd.DataFrame:
    """Drop the clicks of guests or give each of their sessions a user id, as `data.on_missing_user` demands.

    Args:
        clicks: log with our column names; `user_id` is missing for guests.
        fractions: nanoseconds beyond the whole seconds of `timestamp`.
        options: the data section.
        counts, notices: what was found is added to them.

    Raises:
        DataError: if there is no column of sessions or no time to part them by, or a user id looks like a session's.
    """
    guests = clicks["user_id"].isna().to_numpy()
    if not guests.any():
        return clicks
    if options.on_missing_user == "drop":
        counts["dropped_guest_clicks"] = int(guests.sum())
        return clicks.loc[~guests]
    sessions = _sessions(clicks.loc[guests], fractions.loc[guests], options, notices)
    taken = clicks["user_id"].isin(sessions.dropna())
    if taken.any():
        raise DataError(
            f"interactions.user_id has {clicks.loc[taken, 'user_id'].iloc[0]!r}, which is also the name of a session "
            f"of guests; rename such users, or set data.on_missing_user: drop"
        )
    clicks = clicks.assign(user_id=clicks["user_id"].where(~guests, sessions.reindex(clicks.index)))
    nobody = clicks["user_id"].isna()
    counts["dropped_guest_clicks"] = int(nobody.sum())
    counts["guest_sessions"] = int(sessions.nunique())
    return clicks.loc[~nobody]


def _sessions(clicks: pd.DataFrame, fractions: pd.Series, options: DataOptions, notices: list[Notice]) -> pd.Series:
    """Return the user id of the session of each click, missing where the column of sessions is empty."""
    if options.session_column is not None:
        require_columns(clicks, "interactions", [options.session_column])
        names = clicks[options.session_column].map(cell_text)
    else:
        names = pd.Series("", index=clicks.index, dtype=object)
        notices.append(
            Notice(
                f"{len(clicks):,} clicks of guests have no column of sessions and are parted by "
                f"{options.session_gap:g} minutes without a click: guests who came at one time are taken for one",
                "--data.session_column, where the log has the session or a cookie",
            )
        )
    ids = GUEST + names
    if options.session_gap is None:
        return ids
    if "timestamp" not in clicks or clicks["timestamp"].isna().any():
        raise DataError(
            "data.session_gap parts the clicks of guests by their times, and interactions.timestamp has none in some "
            "rows; fill them, or name a column with data.session_column"
        )
    keys = pd.DataFrame({"name": names, "time": clicks["timestamp"].astype("int64"), "fraction": fractions})
    ordered = keys.sort_values(["name", "time", "fraction"], kind="stable")
    is_first = ordered["name"] != ordered["name"].shift()
    is_new = is_first | (ordered["time"].diff() > options.session_gap * SECONDS)
    numbers = is_new.groupby(ordered["name"], dropna=False).cumsum().reindex(clicks.index)
    return ids + "#" + numbers.astype(str)


def select_events(clicks: pd.DataFrame, options: DataOptions, counts: dict[str, int]) -> pd.DataFrame:
    """Return the click log with `event_weight` (int64) and `is_target` (bool), without types of events to ignore.

    Nothing changes without `data.event_column`.

    Args:
        clicks: log with our column names.
        options: the data section.
        counts: numbers of clicks by type, and of those ignored, are added.

    Raises:
        DataError: for types that are not known, or a log that has these columns already.

    Examples:
        >>> import pandas as pd
        >>> log = pd.DataFrame({"user_id": ["u", "u"], "item_id": ["a", "a"], "kind": ["view", "purchase"]})
        >>> options = DataOptions(event_column="kind", event_weights={"view": 1, "purchase": 5})
        >>> select_events(log, options, {})["event_weight"].tolist()
        [1, 5]
    """
    if options.event_column is None:
        return clicks
    require_columns(clicks, "interactions", [options.event_column])
    taken = [name for name in (WEIGHT, IS_TARGET) if name in clicks.columns]
    if taken:
        raise DataError(
            f"interactions has a column {taken[0]!r}, which data.event_column makes; rename it in the source"
        )
    types = event_types(clicks, options.event_column)
    found = types.value_counts()
    clicks, types = _without_unknown(clicks, types, found, options, counts)
    is_target = types.isin(options.target_events) if options.target_events else pd.Series(True, index=types.index)
    weights = types.map(options.event_weights) if options.event_weights else is_target
    counts |= {f"events.{name}": int(count) for name, count in types.value_counts().sort_index().items()}
    columns: dict[str, pd.Series] = {WEIGHT: weights.astype(np.int64), IS_TARGET: is_target.astype(bool)}
    return clicks.assign(**columns)


def target_text(options: DataOptions) -> str:
    """Return what is predicted and evaluated, for the protocol of a run.

    Examples:
        >>> target_text(DataOptions())
        'every click'
        >>> target_text(DataOptions(event_column="kind", target_events=["cart", "purchase"]))
        'cart, purchase (kind); other events are in histories alone'
    """
    if not options.target_events:
        return "every click"
    return f"{', '.join(options.target_events)} ({options.event_column}); other events are in histories alone"


def weights_text(options: DataOptions) -> str:
    """Return what clicks count in everything that is fitted, for the protocol of a run.

    Examples:
        >>> weights_text(DataOptions(event_column="kind", event_weights={"view": 1, "purchase": 5}))
        'view 1, purchase 5'
    """
    if options.event_weights:
        return ", ".join(f"{name} {weight}" for name, weight in options.event_weights.items())
    return f"{', '.join(options.target_events)} 1, other events 0" if options.target_events else "1 each"


def event_types(clicks: pd.DataFrame, column: str) -> pd.Series:
    """Return the type of every event as text, "" for an empty cell."""
    numbers, distinct = pd.factorize(clicks[column])
    texts = np.array([*(cell_text(value) or "" for value in distinct), ""], dtype=object)
    return pd.Series(texts[numbers], index=clicks.index, dtype=object)  # -1, an empty cell, is the last


def check_targets(clicks: pd.DataFrame, options: DataOptions) -> None:
    """Raise `DataError` for one of `data.target_events` that is no type of any click."""
    if not options.target_events or options.event_column is None:
        return
    found = event_types(clicks, options.event_column).value_counts()
    missing = [name for name in options.target_events if name not in found.index]
    if missing:
        raise DataError(
            f"data.target_events has {missing[0]!r}, and no click in interactions.{options.event_column} is one: it "
            f"has {_listed(found)}; correct the name"
        )


def _without_unknown(
    clicks: pd.DataFrame, types: pd.Series, found: pd.Series, options: DataOptions, counts: dict[str, int]
) -> tuple[pd.DataFrame, pd.Series]:
    """Return the log and its types without those that `data.event_weights` does not name."""
    known = set(options.event_weights) if options.event_weights else set(found.index) - {""}
    unknown = found[[name not in known for name in found.index]]
    if unknown.empty:
        return clicks, types
    if options.on_unknown_event == "error":
        near = difflib.get_close_matches(str(unknown.index[0]), known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise DataError(
            f"interactions.{options.event_column} has types of events that data.event_weights does not name: "
            f"{_listed(unknown)}{hint}; add them there (0 keeps them in histories alone), or leave such clicks out "
            "with data.on_unknown_event: ignore"
        )
    is_known = types.isin(known)
    counts["dropped_unknown_events"] = int((~is_known).sum())
    if not is_known.any():
        raise DataError(
            f"no click in interactions.{options.event_column} has a type that data.event_weights names: it has "
            f"{_listed(found)}; correct the names"
        )
    return clicks.loc[is_known], types.loc[is_known]


def _listed(found: pd.Series) -> str:
    """Return types of events with their numbers of clicks, for messages."""
    shown = ", ".join(f"{name or 'an empty cell'!r} ({count:,})" for name, count in found.head(SHOWN).items())
    return shown + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
