"""Order in time: by user, then by time, with ties decided by published rules that no file order can change."""

import hashlib

import numpy as np
import pandas as pd


def time_order(
    clicks: pd.DataFrame, seed: int, *, fractions: np.ndarray | None = None, parts: np.ndarray | None = None
) -> tuple[np.ndarray, int]:
    """Return the indices that sort clicks by user and time, int64, and how many clicks share both with another item's.

    Args:
        clicks: `user_id`, `item_id` (text), `timestamp` (whole numbers, none null).
        seed: decides ties: they follow the blake2b hash of user, item and seed.
        fractions: time beyond `timestamp`, by which clicks of one `timestamp` are sorted first, int64 `[clicks]`.
        parts: number of the part that each click belongs to, int64 `[clicks]`; clicks of one time are sorted by it
            before the hash, so that no history holds a click of a later part.
    """
    size = len(clicks)
    fractions = np.zeros(size, dtype=np.int64) if fractions is None else fractions
    parts = np.zeros(size, dtype=np.int64) if parts is None else parts
    moments = pd.DataFrame({"user_id": clicks["user_id"], "time": clicks["timestamp"], "fraction": fractions})
    tied = moments.duplicated(keep=False).to_numpy()
    ranks = np.zeros(size, dtype=np.uint64)
    pairs = zip(clicks.loc[tied, "user_id"], clicks.loc[tied, "item_id"], strict=True)
    ranks[tied] = [_tie_rank(user, item, seed) for user, item in pairs]
    users = pd.factorize(clicks["user_id"], sort=True)[0]
    times = clicks["timestamp"].to_numpy(dtype=np.int64)
    together = moments.loc[tied]
    is_repeat = together.assign(item_id=clicks.loc[tied, "item_id"]).duplicated()
    num_tied = int(together.loc[~is_repeat].duplicated(keep=False).sum())
    return np.lexsort((ranks, parts, fractions, times, users)), num_tied


def _tie_rank(user_id: str, item_id: str, seed: int) -> int:
    """Return a number that depends on nothing but the click and the seed."""
    key = "\0".join((user_id, item_id, str(seed))).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
