"""Facts of a checked click log: sizes, lengths, repeats, popularity, time, and what each split would test."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cost_hf.data.errors import DataError
from cost_hf.data.options import DataOptions
from cost_hf.data.schema import Tables
from cost_hf.data.splits import Split, split_interactions, user_starts


@dataclass(frozen=True)
class Lengths:
    """Clicks of a user."""

    least: int
    median: float
    mean: float
    ninety: float
    most: int


@dataclass(frozen=True)
class TimeFacts:
    """What the timestamps say.

    Attributes:
        first, last: ISO dates of the first and last click; None without timestamps.
        null_share: share of clicks without a time; 1.0 where only the order is known.
        tied_share: share of clicks whose order is arbitrary: it is taken from the times, and another item's click of
            the user has the same.
        later_share: for the average last click of a user, the share of all other clicks that came later.
    """

    first: str | None
    last: str | None
    null_share: float
    tied_share: float
    later_share: float | None


@dataclass(frozen=True)
class SplitFacts:
    """What one rule of `data.split` would test.

    Attributes:
        cases, users: test cases and users among them.
        unseen: share of test targets that training never clicked.
        repeated: share of test targets that stand in their own history.
        failure: why the rule can't be used, None where it can.
    """

    name: str
    cases: int
    users: int
    unseen: float
    repeated: float
    failure: str | None = None


@dataclass(frozen=True)
class ClickFacts:
    """The click log in numbers; `short_users` have fewer than three clicks, so leave-one-out can't test them."""

    users: int
    items: int
    interactions: int
    density: float
    lengths: Lengths
    short_users: int
    unclicked_items: int
    repeated_pairs: int
    top_share: float
    time: TimeFacts
    splits: tuple[SplitFacts, ...]


def click_facts(tables: Tables, options: DataOptions) -> ClickFacts:
    """Count what is in the tables and try every split that they allow; `options` gives the splits' settings."""
    clicks = tables.interactions
    lengths = np.diff(np.append(user_starts(clicks), len(clicks)))
    by_item = np.bincount(clicks["item_row"], minlength=tables.num_items)
    return ClickFacts(
        users=len(lengths),
        items=tables.num_items,
        interactions=len(clicks),
        density=len(clicks) / (len(lengths) * tables.num_items),
        lengths=Lengths(
            int(lengths.min()),
            float(np.median(lengths)),
            float(lengths.mean()),
            float(np.quantile(lengths, 0.9)),
            int(lengths.max()),
        ),
        short_users=int((lengths < 3).sum()),
        unclicked_items=int((by_item == 0).sum()),
        repeated_pairs=tables.counts["repeated_pairs"],
        top_share=top_share(by_item),
        time=_time_facts(clicks, tables.counts),
        splits=split_facts(tables, options),
    )


def top_share(clicks_of_items: np.ndarray, share: float = 0.1) -> float:
    """Return the share of clicks on the most clicked `share` of the catalog (at least one item)."""
    most = np.sort(clicks_of_items)[::-1][: max(1, round(share * len(clicks_of_items)))]
    return float(most.sum() / clicks_of_items.sum())


def split_facts(tables: Tables, options: DataOptions) -> tuple[SplitFacts, ...]:
    """Try the rules whose columns are there; keep those that work, and in any case the one that the options name."""
    clicks = tables.interactions
    is_possible = {
        "leave_one_out": True,
        "time": "timestamp" in clicks and bool(clicks["timestamp"].notna().all()),
        "source": options.split_column in clicks,
    }
    tried = [_one_split(tables, options, name) for name, can in is_possible.items() if can or name == options.split]
    return tuple(facts for facts in tried if facts.failure is None or facts.name == options.split)


def try_split(tables: Tables, options: DataOptions, name: str) -> Split | DataError:
    """Return the split by this rule, or the error that says why there is none."""
    try:
        return split_interactions(tables, dataclasses.replace(options, split=name))
    except DataError as error:
        return error


def _one_split(tables: Tables, options: DataOptions, name: str) -> SplitFacts:
    split = try_split(tables, options, name)
    if isinstance(split, DataError):
        return SplitFacts(name, 0, 0, 0.0, 0.0, failure=str(split))
    is_trained = np.zeros(tables.num_items, dtype=bool)
    is_trained[split.train.concatenated()] = True
    targets = split.test
    return SplitFacts(
        name,
        cases=len(targets),
        users=len(set(targets.user_ids)),
        unseen=float((~is_trained[targets.items]).mean()),
        repeated=float(targets.repeated().mean()),
    )


def _time_facts(clicks: pd.DataFrame, counts: dict[str, int]) -> TimeFacts:
    if "timestamp" not in clicks or clicks["timestamp"].isna().all():
        return TimeFacts(None, None, 1.0, 0.0, None)
    is_known = clicks["timestamp"].notna()
    known = clicks if is_known.all() else clicks.loc[is_known]
    times = known["timestamp"].to_numpy(dtype=np.int64)
    first, last = (pd.Timestamp(int(bound), unit="s").date().isoformat() for bound in (times.min(), times.max()))
    num_sorted = len(clicks) + counts["dropped_core_interactions"] + counts["dropped_old_interactions"]
    is_last = np.zeros(len(known), dtype=bool)
    is_last[np.append(user_starts(known)[1:], len(known)) - 1] = True
    others = np.sort(times[~is_last])
    later = 1 - np.searchsorted(others, times[is_last], side="right") / len(others) if len(others) else None
    return TimeFacts(
        first,
        last,
        null_share=1 - len(known) / len(clicks),
        tied_share=counts["tied_timestamps"] / num_sorted,
        later_share=None if later is None else float(later.mean()),
    )
