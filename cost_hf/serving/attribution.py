"""Joins clicks to the lists that were shown to the same user before them.

**Clicks on what was shown.** A click counts for the list shown last to its user before it that holds the item, if that
was within the window. A click counts once; several clicks on one shown item are one clicked impression.

**Next clicks.** What a user clicked next after a list, within the window, whatever was shown: the targets of metrics
that are computed on the lists as they were.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cost_hf.evaluation.ranking import target_ranks
from cost_hf.serving.log_reading import ShownLists

MICROSECONDS = 10**6  # in a second


@dataclass(frozen=True, eq=False)
class Clicks:
    """C clicks, those of a user together, in order of time.

    Attributes:
        users: user id, `[C]`.
        items: item id, `[C]`.
        times: microseconds since 1970, UTC, int64 `[C]`.
        events: type of event, "" without types, `[C]`.
        is_target: whether the click is one that the recommender should predict, bool `[C]`.
    """

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray
    events: np.ndarray
    is_target: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    def taken(self, rows: np.ndarray) -> "Clicks":
        """Return the clicks in `rows`, indices or a bool mask."""
        return Clicks(*(values[rows] for values in (self.users, self.items, self.times, self.events, self.is_target)))


@dataclass(frozen=True, eq=False)
class Impressions:
    """The I items of L lists and the clicks on them.

    Attributes:
        list_of: number of the list, int64 `[I]`.
        rank: place in it, from 1, int64 `[I]`.
        is_clicked: bool `[I]`.
        click_of: number of the impression that each click counts for, -1 for none, int64 `[C]`.
    """

    list_of: np.ndarray
    rank: np.ndarray
    is_clicked: np.ndarray
    click_of: np.ndarray


@dataclass(frozen=True, eq=False)
class NextClicks:
    """M pairs of a list and a later click of its user.

    Attributes:
        list_of: number of the list, int64 `[M]`.
        rank: place of the clicked item in that list, from 1, nan where it is not there, float64 `[M]`.
    """

    list_of: np.ndarray
    rank: np.ndarray

    def __len__(self) -> int:
        return len(self.list_of)


def join_clicks(lists: ShownLists, clicks: Clicks, *, window_seconds: float) -> Impressions:
    """Return which items of the lists were clicked.

    Args:
        lists: with users.
        clicks: of these users and others.
        window_seconds: longest time from a list to a click that counts for it.
    """
    lengths = lists.lengths
    list_of = np.repeat(np.arange(len(lists)), lengths)
    rank = np.arange(len(list_of)) - np.repeat(lists.starts[:-1], lengths) + 1
    users = _numbers(lists.users[list_of], clicks.users)
    items = _numbers(lists.items, clicks.items)
    shown = pd.DataFrame(
        {"user": users[0], "item": items[0], "time": lists.times[list_of], "impression": np.arange(len(list_of))}
    )
    clicked = pd.DataFrame(
        {"user": users[1], "item": items[1], "time": clicks.times, "click": np.arange(len(clicks))}
    ).sort_values("time", kind="stable")
    # lists are in order of time; of several at one time the last one counts
    found = pd.merge_asof(
        clicked,
        shown,
        on="time",
        by=["user", "item"],
        direction="backward",
        tolerance=round(window_seconds * MICROSECONDS),
    )
    click_of = np.full(len(clicks), -1, dtype=np.int64)
    click_of[found["click"].to_numpy()] = found["impression"].fillna(-1).astype(np.int64)
    is_clicked = np.zeros(len(list_of), dtype=bool)
    is_clicked[click_of[click_of >= 0]] = True
    return Impressions(list_of, rank, is_clicked, click_of)


def join_next_clicks(lists: ShownLists, clicks: Clicks, *, window_seconds: float, most: int = 1) -> NextClicks:
    """Return the clicks of each list's user after it.

    Args:
        lists: with users.
        clicks: those that may be targets, those of a user together, in order of time.
        window_seconds: longest time from a list to a click.
        most: clicks after each list.
    """
    shown_users, click_users = _numbers(lists.users, clicks.users)
    order = np.lexsort((clicks.times, click_users))
    shown = pd.DataFrame({"user": shown_users, "time": lists.times, "list": np.arange(len(lists))})
    clicked = pd.DataFrame({"user": click_users[order], "time": clicks.times[order], "place": np.arange(len(order))})
    # of several clicks at one time the first one is the next
    clicked = clicked.drop_duplicates(["user", "time"]).sort_values("time", kind="stable")
    found = pd.merge_asof(shown, clicked, on="time", by="user", direction="forward").dropna(subset="place")
    first = found["place"].to_numpy(dtype=np.int64)
    lists_found = found["list"].to_numpy(dtype=np.int64)
    places = first[:, None] + np.arange(most)  # [lists, most]
    inside = np.minimum(places, len(order) - 1)
    target = order[inside]
    is_next = (
        (places < len(order))
        & (click_users[target] == shown_users[lists_found][:, None])
        & (clicks.times[target] <= lists.times[lists_found][:, None] + round(window_seconds * MICROSECONDS))
    )
    rows = np.repeat(lists_found, most).reshape(places.shape)[is_next]
    return NextClicks(rows, _ranks(lists, rows, clicks.items[target[is_next]]))


def _ranks(lists: ShownLists, rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the first place of `wanted[m]` in list `rows[m]`, from 1, nan where it is not there."""
    shown_items, wanted_items = _numbers(lists.items, wanted)
    width = int(lists.lengths.max(initial=0))
    table = np.full((len(lists), width), -1, dtype=np.int64)  # [L, R]
    list_of = np.repeat(np.arange(len(lists)), lists.lengths)
    table[list_of, np.arange(len(list_of)) - np.repeat(lists.starts[:-1], lists.lengths)] = shown_items
    return target_ranks(table[rows], wanted_items)


def _numbers(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers for the texts of two columns, equal for equal texts, int64."""
    found, _ = pd.factorize(np.concatenate([first, second]))
    return found[: len(first)].astype(np.int64), found[len(first) :].astype(np.int64)
