"""A click log whose users and items are numbers beside it, so that nothing is found, counted or sorted by strings."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd


@dataclass(frozen=True, eq=False)
class CodedClicks:
    """A click log with the number of the user and item of every click.

    Attributes:
        frame: with our column names; its index tells the row as read.
        users: place of the user's id in `user_ids`, int32 `[clicks]`.
        items: place of the item's id in `item_ids`, int32 `[clicks]`.
        user_ids: ids in their order; those that were dropped stay.
        item_ids: likewise, in any order.
        fractions: nanoseconds beyond the seconds of `timestamp`, int64 `[clicks]`.
    """

    frame: pd.DataFrame
    users: np.ndarray
    items: np.ndarray
    user_ids: pd.Index
    item_ids: pd.Index
    fractions: np.ndarray

    @classmethod
    def of(cls, frame: pd.DataFrame, fractions: pd.Series | None = None) -> "CodedClicks":
        """Return a log with its ids numbered.

        Args:
            frame: log with `user_id` and `item_id`, none of them missing.
            fractions: nanoseconds of its rows and others; 0 by default.
        """
        users, user_ids = pd.factorize(frame["user_id"], sort=True)
        items, item_ids = pd.factorize(frame["item_id"])
        if fractions is None:
            beyond = np.zeros(len(frame), dtype=np.int64)
        else:
            beyond = (fractions if len(fractions) == len(frame) else fractions.loc[frame.index]).to_numpy()
        return cls(
            frame, users.astype(np.int32), items.astype(np.int32), pd.Index(user_ids), pd.Index(item_ids), beyond
        )

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def pairs(self) -> np.ndarray:
        """A number of the user and item together, int64 `[clicks]`."""
        return self.users * np.int64(len(self.item_ids)) + self.items

    @property
    def num_users(self) -> int:
        """Users with a click."""
        return int((self.clicks_of_users > 0).sum())

    @property
    def clicks_of_users(self) -> np.ndarray:
        """Clicks of each of `user_ids`, int64."""
        return np.bincount(self.users, minlength=len(self.user_ids))

    @property
    def clicks_of_items(self) -> np.ndarray:
        """Clicks of each of `item_ids`, int64."""
        return np.bincount(self.items, minlength=len(self.item_ids))

    def assign(self, **columns: pd.Series | np.ndarray) -> "CodedClicks":
        """Return the log with other columns."""
        return replace(self, frame=self.frame.assign(**columns))

    def where(self, is_kept: np.ndarray) -> "CodedClicks":
        """Return the clicks that are kept, by bool `[clicks]`; all of them are not copied."""
        return self if is_kept.all() else self.take(np.flatnonzero(is_kept))

    def take(self, places: np.ndarray) -> "CodedClicks":
        """Return the clicks in these places, in this order."""
        return replace(
            self,
            frame=self.frame.iloc[places],
            users=self.users[places],
            items=self.items[places],
            fractions=self.fractions[places],
        )


def stable_order(*keys: np.ndarray) -> np.ndarray:
    """Return the places that sort by the last key, then by those before it, int64; equal places stay in order.

    As `np.lexsort`, but keys that tell nothing apart take no time.

    Examples:
        >>> import numpy as np
        >>> stable_order(np.array([0, 0, 0]), np.array([2, 1, 2])).tolist()
        [1, 0, 2]
    """
    telling = [key for key in keys if len(key) and (key != key[0]).any()]
    return np.lexsort(telling) if telling else np.arange(len(keys[0]))


def run_lengths(ordered: np.ndarray) -> np.ndarray:
    """Return how often each value is in a sorted array, in its order, int64."""
    if not len(ordered):
        return np.empty(0, dtype=np.int64)
    return np.diff(np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1], [True]])))
