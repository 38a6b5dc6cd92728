"""The clicks that a run knows: those of its training, kept with it, and those that every update brought.

A run keeps its click log as training saw it (checked, ordered and filtered), with the part of the split that each click
was in, so that an update needs no other export. An update keeps what it added. A click that comes again is recognised
by user, item, time and event. Without times a user's sequence is recognised where it begins with the whole known one,
and so is the log of an update that comes a second time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cost_hf.data.errors import DataError
from cost_hf.data.events import GUEST, IS_TARGET, WEIGHT, event_types
from cost_hf.data.options import DataOptions
from cost_hf.data.row_lists import RowLists
from cost_hf.data.schema import Tables
from cost_hf.data.splits import Split, Targets, fold_of, part_numbers, targets_of, user_starts
from cost_hf.files import DamagedFileError, atomic_path, readable_load_errors

CLICKS = "clicks.parquet"  # in the run directory; it names users, and is never published
TRAIN = 0  # parts of the split that the run was trained on
VALIDATION = 1
TEST = 2
LATER = 3  # of clicks that an update brought
PART = "part"
HELD_OUT = "held_out"  # clicks of an update that it was judged by, which the next one learns
EVENT = "event"
KINDS = {
    "user_id": str,
    "item_id": str,
    "timestamp": "Int64",
    EVENT: str,
    WEIGHT: "int64",
    IS_TARGET: bool,
    PART: "int8",
    HELD_OUT: bool,
}
PURPOSE = "held out clicks"  # of the folds of users
FOLDS = 1000


def training_clicks(tables: Tables, options: DataOptions) -> pd.DataFrame:
    """Return the click log of a run with the part of every click, as a run keeps it."""
    clicks = tables.interactions
    kept = [name for name in ("user_id", "item_id", "timestamp", WEIGHT, IS_TARGET) if name in clicks]
    log = clicks[kept].copy()
    if options.event_column is not None:
        log[EVENT] = event_types(clicks, options.event_column)
    log[PART] = part_numbers(clicks, options, {}).astype(np.int8)
    return log.reset_index(drop=True)


def save_clicks(clicks: pd.DataFrame, path: str | Path) -> None:
    """Write a click log; equal logs have equal bytes."""
    with atomic_path(path, durable=True) as temporary:
        clicks.to_parquet(temporary, index=False)


def load_clicks(path: str | Path) -> pd.DataFrame:
    """Read what `save_clicks` wrote.

    Raises:
        OSError: where there is no such file.
        DamagedFileError: for another table.
    """
    with readable_load_errors("the click log", Path(path).parent):
        clicks = pd.read_parquet(path)
    known = set(clicks.columns)
    if not {"user_id", "item_id", PART} <= known or not known <= set(KINDS):
        raise DamagedFileError(
            f"{path} has the columns {sorted(known)}, expected user_id, item_id and {PART} among {', '.join(KINDS)}; "
            "copy the run directory again"
        )
    kinds: dict[Any, Any] = {name: kind for name, kind in KINDS.items() if name in known}
    return clicks.astype(kinds)


@dataclass(frozen=True, eq=False)
class KnownClicks:
    """The clicks that a run knows on one day.

    Attributes:
        trained: log of the training, users together, oldest first.
        updates: logs of the updates since, in their order.
    """

    trained: pd.DataFrame
    updates: Sequence[pd.DataFrame] = ()

    @classmethod
    def load(cls, trained: Path, updates: Sequence[Path]) -> "KnownClicks":
        """Read the logs of a run and of its updates."""
        return cls(load_clicks(trained), [load_clicks(path) for path in updates])

    def unknown(self, clicks: pd.DataFrame, options: DataOptions, *, number: int) -> pd.DataFrame:
        """Return the clicks of a log that are not known yet, in its order, as an update keeps them.

        Args:
            clicks: on items that are known, as `read_interactions` returns them under the same options.
            options: data section of the run. Clicks before the latest `max_user_interactions` of a user, which the
                training has cut off, are not new.
            number: of the update; sessions of guests that are numbered in every export get it in their names.

        Raises:
            DataError: where only one of the logs has times.
        """
        log = clicks[[name for name in ("user_id", "item_id", "timestamp", WEIGHT, IS_TARGET) if name in clicks]].copy()
        if options.event_column is not None:
            log[EVENT] = event_types(clicks, options.event_column)
        log[PART] = np.int8(LATER)
        log[HELD_OUT] = False
        known = pd.concat([self.trained, *self.updates], ignore_index=True)
        if _has_times(known) != _has_times(log):
            lacking = "the new clicks have" if _has_times(known) else "those of the run have"
            raise DataError(
                f"interactions.timestamp: {lacking} no times, or not all of them, so what is new and what came first "
                "can't be told; give times with all clicks, or train again"
            )
        if _has_times(log):
            is_new = ~_keys(log, options).isin(_keys(known, options))
            is_new &= ~_cut_off(log, self.trained, options.max_user_interactions)
        else:
            is_new = _beyond_known(log, known, is_cut=options.max_user_interactions is not None)
            if any(_holds_again(log, is_new, update) for update in self.updates):
                is_new[:] = False
        log = log.loc[is_new].reset_index(drop=True)
        if options.session_gap is not None:
            is_guest = log["user_id"].str.startswith(GUEST)
            log["user_id"] = log["user_id"].where(~is_guest, log["user_id"] + f"@{number}")
        return log

    def guard_cases(self, item_rows: pd.Series, options: DataOptions) -> Targets:
        """Return the validation cases of the training: targets that no update ever learns.

        Args:
            item_rows: catalog rows by item id.
            options: data section of the run.
        """
        clicks = self.trained.loc[self.trained[PART] != TEST]
        clicks = clicks.assign(item_row=item_rows.loc[clicks["item_id"]].to_numpy())
        is_target = clicks[IS_TARGET].to_numpy() if IS_TARGET in clicks else np.ones(len(clicks), dtype=bool)
        return targets_of(clicks, (clicks[PART] == VALIDATION).to_numpy() & is_target, options.min_history)

    def today(self, new: pd.DataFrame) -> "Today":
        """Return all clicks in the order in which users made them, with those of an update."""
        logs = [self.trained, *self.updates, new]
        clicks = pd.concat(logs, ignore_index=True)
        clicks["day"] = np.repeat(np.arange(len(logs)), [len(log) for log in logs])
        users = pd.factorize(clicks["user_id"], sort=True)[0]
        order = [np.arange(len(clicks)), users]
        if _has_times(clicks):
            times = clicks["timestamp"].to_numpy(dtype=np.int64)
            trained = self.trained
            is_ordered = _is_in_time_order(trained["user_id"].to_numpy(), trained["timestamp"].to_numpy(np.int64))
            if is_ordered:  # else what came first was a position, and later clicks follow
                order.insert(1, times)
        return Today(clicks.iloc[np.lexsort(order)].reset_index(drop=True), num_updates=len(self.updates))


@dataclass(frozen=True, eq=False)
class Today:
    """All clicks of users, with those of an update; users together, oldest first.

    Attributes:
        clicks: columns of the logs, and `day`: 0 for the training, 1 for the first update that is known, and so on.
        num_updates: how many updates are known; the new one is the next.
    """

    clicks: pd.DataFrame
    num_updates: int

    @property
    def is_new(self) -> np.ndarray:
        """Which clicks the update brings, bool `[clicks]`."""
        return (self.clicks["day"] == self.num_updates + 1).to_numpy()

    def brought(self, held_out: np.ndarray) -> pd.DataFrame:
        """Return the clicks of the update as a run keeps them, with those that were held out; empty columns go."""
        clicks = self.clicks.assign(**{HELD_OUT: held_out}).loc[self.is_new].drop(columns="day")
        return clicks.dropna(axis="columns", how="all").reset_index(drop=True)

    @cached_property
    def is_withheld(self) -> np.ndarray:
        """Which clicks no update learns, bool `[clicks]`.

        These are the validation targets of the training, and what its log holds of the same users and items afterwards:
        who learns that an article was bought knows that it was viewed before.
        """
        is_target = (self.clicks[PART] == VALIDATION).to_numpy() & self._targets
        pairs = pd.MultiIndex.from_frame(self.clicks[["user_id", "item_id"]])
        return pairs.isin(pairs[is_target]) & self.clicks[PART].isin([VALIDATION, TEST]).to_numpy()

    @property
    def is_unlearned(self) -> np.ndarray:
        """Which clicks the present model has not learned, of those that may be learned, bool `[clicks]`."""
        if self.num_updates == 0:
            found = (self.clicks[PART] != TRAIN).to_numpy()
        else:
            was_held_out = (self.clicks["day"] == self.num_updates).to_numpy() & self._flags(HELD_OUT, default=False)
            found = was_held_out | self.is_new
        return found & ~self.is_withheld

    @property
    def _targets(self) -> np.ndarray:
        return self._flags(IS_TARGET, default=True)

    def _flags(self, name: str, *, default: bool) -> np.ndarray:
        if name not in self.clicks:
            return np.full(len(self.clicks), default)
        values = self.clicks[name]
        flags = np.full(len(values), default)
        flags[values.notna()] = values.dropna().astype(bool)
        return flags

    def last_clicks(self, share: float, *, seed: int) -> np.ndarray:
        """Return which new clicks to hold out, bool `[clicks]`.

        With times these are the latest ones, else the last ones of some users.

        Args:
            share: of the new clicks; without times, of the users who have some.
            seed: of the choice of users.
        """
        is_new = self.is_new
        held = np.zeros(len(is_new), dtype=bool)
        count = int(is_new.sum() * share)
        if count == 0:
            return held
        if _has_times(self.clicks):
            new = np.flatnonzero(is_new)
            times = self.clicks["timestamp"].to_numpy(dtype=np.int64)[new]
            held[new[np.argsort(times, kind="stable")[len(new) - count :]]] = True
            return held
        users = self.clicks["user_id"].to_numpy(dtype=object)
        is_last = np.append(users[1:] != users[:-1], True) & is_new
        for place in np.flatnonzero(is_last).tolist():
            held[place] = fold_of(users[place], FOLDS, seed=seed, purpose=PURPOSE) < share * FOLDS
        return held

    def cases(self, held_out: np.ndarray, item_rows: pd.Series, options: DataOptions) -> Targets:
        """Return the held-out clicks as evaluation cases, each with all earlier clicks of its user.

        Args:
            held_out: bool `[clicks]`.
            item_rows: catalog rows by item id.
            options: data section of the run.
        """
        clicks = self.clicks.assign(item_row=item_rows.loc[self.clicks["item_id"]].to_numpy())
        return targets_of(clicks, held_out & self._targets, options.min_history)

    def training_split(self, held_out: np.ndarray, item_rows: pd.Series, *, replay: float, seed: int) -> Split:
        """Return the training sequences of today, and which of their clicks are learned.

        Clicks that the model has not learned are labels, and so are all clicks of a seeded sample of users, which
        together are the share `replay` of all labels where there are so many. Clicks that are withheld stay in the
        histories of later clicks and count 0, as events that are read and not learned do.

        Args:
            held_out: clicks that are left out, bool `[clicks]`.
            item_rows: catalog rows by item id.
            replay: share of old clicks among the labels, from 0 to below 1.
            seed: of the sample.
        """
        is_kept = ~held_out
        clicks = self.clicks.loc[is_kept]
        is_withheld = self.is_withheld[is_kept]
        starts = user_starts(clicks)
        labels = self.is_unlearned[is_kept]
        lengths = np.diff(np.append(starts, len(clicks)))
        wanted = int(labels.sum() * replay / (1 - replay))
        old = np.add.reduceat(~labels & ~is_withheld, starts)
        order = np.random.default_rng(seed).permutation(len(starts))
        chosen = np.zeros(len(starts), dtype=bool)
        chosen[order] = np.cumsum(old[order]) - old[order] < wanted
        labels = (labels | np.repeat(chosen, lengths)) & ~is_withheld
        weights = clicks[WEIGHT].to_numpy(dtype=np.int64) if WEIGHT in clicks else np.ones(len(clicks), dtype=np.int64)
        return Split(
            train_user_ids=clicks["user_id"].iloc[starts].to_numpy(dtype=object),
            train=RowLists(item_rows.loc[clicks["item_id"]].to_numpy(dtype=np.int64), starts, lengths),
            validation=Targets.none(),
            test=Targets.none(),
            counts={},
            digest="",
            train_times=clicks["timestamp"].to_numpy(dtype=np.int64) if _has_times(clicks) else None,
            train_weights=np.where(is_withheld, 0, weights),
            train_labels=labels,
        )


def _has_times(clicks: pd.DataFrame) -> bool:
    """Return whether all clicks have a time."""
    return "timestamp" in clicks and not clicks["timestamp"].isna().any()


def _is_in_time_order(users: np.ndarray, times: np.ndarray) -> bool:
    """Return whether no click of a user is earlier than the one before it."""
    return not ((np.diff(times) < 0) & (users[1:] == users[:-1])).any()


def _keys(clicks: pd.DataFrame, options: DataOptions) -> pd.MultiIndex:
    """Return what a click is recognised by; guests whose sessions are numbered anew have the name of all of them."""
    users = clicks["user_id"]
    if options.session_gap is not None:
        users = users.where(~users.str.startswith(GUEST), users.str.replace(r"#\d+(@\d+)?$", "", regex=True))
    parts = [users, clicks["item_id"], clicks["timestamp"].astype("int64")]
    if options.event_column is not None:
        parts.append(clicks[EVENT])
    return pd.MultiIndex.from_arrays(parts)


def _cut_off(clicks: pd.DataFrame, trained: pd.DataFrame, most: int | None) -> np.ndarray:
    """Return which clicks are earlier than the latest `most` of their user, which the training kept, bool `[n]`."""
    if most is None:
        return np.zeros(len(clicks), dtype=bool)
    kept = trained.groupby("user_id", sort=False)["timestamp"].agg(["size", "min"])
    first = clicks["user_id"].map(kept.loc[kept["size"] >= most, "min"])
    return (clicks["timestamp"] < first).fillna(False).to_numpy(dtype=bool)


def _holds_again(clicks: pd.DataFrame, is_new: np.ndarray, update: pd.DataFrame) -> bool:
    """Return whether a log without times holds what an update brought, and nothing else that may be new."""
    brought = update.groupby("user_id", sort=False)["item_id"].agg(list)
    rest = clicks.loc[is_new].groupby("user_id", sort=False)["item_id"].agg(list)
    is_whole = bool(brought.index.isin(clicks["user_id"]).all())
    return is_whole and all(brought.get(user) == items for user, items in rest.items())


def _beyond_known(new: pd.DataFrame, known: pd.DataFrame, *, is_cut: bool) -> np.ndarray:
    """Return which clicks of a log without times follow the known ones of their users, bool `[clicks]`.

    Args:
        is_cut: whether clicks before the known ones were cut off.
    """
    sequences = known.groupby("user_id", sort=False)["item_id"].agg(list)
    is_new = np.ones(len(new), dtype=bool)
    for user, places in new.groupby("user_id", sort=False).indices.items():
        before = sequences.get(user, [])
        items = new["item_id"].iloc[places].tolist()
        starts = range(len(items) - len(before) + 1) if is_cut else range(1)
        start = next((start for start in starts if items[start : start + len(before)] == before), None)
        if before and start is not None:
            is_new[places[: start + len(before)]] = False
    return is_new
