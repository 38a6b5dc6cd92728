"""Order in time: by user, then by time, with ties decided by a published rule that no file order can change."""

import hashlib

import numpy as np
import pandas as pd


def time_order(clicks: pd.DataFrame, seed: int) -> tuple[np.ndarray, int]:
    """Return the indices that sort clicks by user and time, int64, and how many clicks share both with another.

    Args:
        clicks: `user_id`, `item_id` (text), `timestamp` (whole numbers, none null).
        seed: decides ties: they follow the blake2b hash of user, item and seed.
    """
    tied = clicks.duplicated(["user_id", "timestamp"], keep=False).to_numpy()
    ranks = np.zeros(len(clicks), dtype=np.uint64)
    pairs = zip(clicks.loc[tied, "user_id"], clicks.loc[tied, "item_id"], strict=True)
    ranks[tied] = [_tie_rank(user, item, seed) for user, item in pairs]
    users = pd.factorize(clicks["user_id"], sort=True)[0]
    return np.lexsort((ranks, clicks["timestamp"].to_numpy(dtype=np.int64), users)), int(tied.sum())


def _tie_rank(user_id: str, item_id: str, seed: int) -> int:
    """Return a number that depends on nothing but the click and the seed."""
    key = "\0".join((user_id, item_id, str(seed))).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
