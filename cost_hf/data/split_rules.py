"""Which part every click belongs to, and which items the cold-start protocol hides.

Parts are numbers: 0 trains, 1 is a validation target, 2 a test target, -1 is in no part (it can still stand in
histories of later targets).
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from cost_hf.data.options import DataOptions
from cost_hf.data.schema import DataError, require_columns

UNUSED = -1
SOURCE_NAMES = {
    **dict.fromkeys(("history", "train"), 0),
    **dict.fromkeys(("valid", "validation", "val", "dev"), 1),
    "test": 2,
}


def part_numbers(clicks: pd.DataFrame, options: DataOptions, counts: dict[str, int | float]) -> np.ndarray:
    """Return the part of every click by `options.split`, int64 `[clicks]`; what was found on the way joins `counts`."""
    if options.split == "leave_one_out":
        return _by_position(clicks, counts)
    if options.split == "source":
        return _by_source(clicks, options.split_column, counts)
    return _by_time(clicks, options, counts)


def choose_cold_items(item_ids: Sequence[str], candidates: np.ndarray, *, share: float, seed: int) -> np.ndarray:
    """Return the rows of a seeded share of the distinct candidates, at least one for a share above 0, int64, sorted.

    Candidates are ordered by a hash of item id and seed, and the first ones are taken: neither row order nor number of
    other items decides about one, and a larger share holds every smaller one.

    Args:
        item_ids: ids of the catalog, `[N]`.
        candidates: catalog rows, repeats allowed.
        share: of the distinct candidates, 0 … 1, rounded to whole items.
        seed: part of the hash.
    """
    rows = np.unique(candidates)
    size = max(1, round(share * len(rows))) if share > 0 else 0
    ranks = [hashlib.blake2b(f"cold\0{item_ids[row]}\0{seed}".encode(), digest_size=8).digest() for row in rows]
    chosen = sorted(range(len(rows)), key=ranks.__getitem__)[:size]
    return np.sort(rows[chosen]).astype(np.int64)


def _by_position(clicks: pd.DataFrame, counts: dict[str, int | float]) -> np.ndarray:
    by_user = clicks.groupby("user_id", sort=False)["position"]
    length = by_user.transform("size").to_numpy()
    from_end = length - 1 - clicks["position"].to_numpy()
    counts["short_users"] = int((by_user.size() < 3).sum())
    return np.where(length < 3, 0, np.where(from_end == 0, 2, np.where(from_end == 1, 1, 0)))


def source_parts(values: pd.Series) -> pd.Series:
    """Return the part that each cell of a split column names, null where it names none."""
    return values.astype(object).map(lambda value: SOURCE_NAMES.get(str(value).strip().lower()))


def _by_source(clicks: pd.DataFrame, column: str, counts: dict[str, int | float]) -> np.ndarray:
    require_columns(clicks, "interactions", [column])
    parts = source_parts(clicks[column])
    if parts.isna().any():
        click = clicks.loc[parts.isna()].iloc[0]
        raise DataError(
            f"interactions.{column}: expected one of {sorted(SOURCE_NAMES)}, got {click[column]!r} at position "
            f"{int(click['position'])} of user_id {click['user_id']!r} ({int(parts.isna().sum())} like this); "
            "correct the values or choose another data.split"
        )
    numbers = parts.to_numpy(dtype=np.int64)
    # what a user clicked behind a target of theirs must not train: it would tell the future
    seen_target = pd.Series(numbers > 0).groupby(clicks["user_id"].to_numpy(), sort=False).cummax().to_numpy()
    is_late = (numbers == 0) & seen_target
    counts["dropped_history_behind_target"] = int(is_late.sum())
    seen_test = pd.Series(numbers == 2).groupby(clicks["user_id"].to_numpy(), sort=False).cummax().to_numpy()
    counts["validation_behind_test"] = int(((numbers == 1) & seen_test).sum())
    return np.where(is_late, UNUSED, numbers)


def _by_time(clicks: pd.DataFrame, options: DataOptions, counts: dict[str, int | float]) -> np.ndarray:
    require_columns(clicks, "interactions", ["timestamp"])
    missing = int(clicks["timestamp"].isna().sum())
    if missing:
        raise DataError(
            f"interactions.timestamp: split 'time' expects a value in every row, got {missing} null of {len(clicks)}; "
            "fill them, or set data.split: leave_one_out, which needs only the order"
        )
    times = clicks["timestamp"].to_numpy(dtype=np.int64)
    backwards = (np.diff(times, prepend=times[:1]) < 0) & (clicks["position"].to_numpy() > 0)
    if backwards.any():
        click = clicks.loc[backwards].iloc[0]
        raise DataError(
            f"interactions.timestamp: split 'time' expects times that do not fall along position, got "
            f"{int(click['timestamp'])} at position {int(click['position'])} of user_id {click['user_id']!r} after a "
            f"later time ({int(backwards.sum())} like this); set data.order: timestamp"
        )
    cutoffs = options.time_cutoffs or _cutoffs(times, options.time_shares)
    counts |= {"validation_from": int(cutoffs[0]), "test_from": int(cutoffs[1])}
    return np.searchsorted(np.asarray(cutoffs), times, side="right")


def _cutoffs(times: np.ndarray, shares: list[float]) -> list[int]:
    """Return the times at which the first share, and the first two shares, of all clicks are over."""
    ordered = np.sort(times)
    bounds = np.minimum((np.cumsum(shares)[:2] * len(ordered)).astype(np.int64), len(ordered) - 1)
    return ordered[bounds].tolist()
