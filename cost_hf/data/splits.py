"""Splits: which clicks train, which are predicted, and what is known at each prediction.

An evaluation case is one target with all earlier clicks of its user as history, under every rule. Popularity and all
else that is learned comes from the training part alone (`Split.popularity`), so nothing of the test part reaches it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file

from cost_hf.data.options import DataOptions
from cost_hf.data.schema import DataError, Tables, require_columns
from cost_hf.files import atomic_path, content_digest, read_json, write_json

PARTS = ("train", "validation", "test")
UNUSED = -1
SOURCE_NAMES = {
    **dict.fromkeys(("history", "train"), 0),
    **dict.fromkeys(("valid", "validation", "val", "dev"), 1),
    "test": 2,
}


@dataclass(frozen=True, eq=False)
class Targets:
    """M evaluation cases of one part.

    Attributes:
        user_ids: whose case it is, text objects `[M]`; a user may have several cases.
        histories: M arrays of catalog rows, oldest first.
        items: catalog rows to be predicted, int64 `[M]`.
    """

    user_ids: np.ndarray
    histories: list[np.ndarray]
    items: np.ndarray

    def __len__(self) -> int:
        return len(self.items)

    def histories_matrix(self, indices: np.ndarray | None = None) -> np.ndarray:
        """Return histories as int64 `[M, T]`, starting at column 0, -1 to the right of shorter ones.

        Args:
            indices: the cases wanted, all by default; T is the longest history among them.
        """
        chosen = self.histories if indices is None else [self.histories[index] for index in np.asarray(indices)]
        lengths = np.fromiter(map(len, chosen), dtype=np.int64, count=len(chosen))
        matrix = np.full((len(chosen), int(lengths.max(initial=0))), -1, dtype=np.int64)
        if len(chosen):
            matrix[np.arange(matrix.shape[1]) < lengths[:, None]] = np.concatenate(chosen)
        return matrix

    def sample(self, size: int | None, *, seed: int) -> "Targets":
        """Return a seeded sample of at most `size` cases in their order; all of them for None."""
        if size is None or size >= len(self):
            return self
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self))[:size])
        return Targets(self.user_ids[chosen], [self.histories[case] for case in chosen], self.items[chosen])


@dataclass(frozen=True, eq=False)
class Split:
    """Training sequences and the cases of both evaluation parts.

    Attributes:
        train_user_ids: users with training clicks, text objects, one for each array of `train`.
        train: catalog rows, oldest first.
        validation: cases that choices are made on.
        test: cases that are reported.
        counts: sizes of the parts, and what was left out.
        digest: sha256 of all of the above but the counts.
    """

    train_user_ids: np.ndarray
    train: list[np.ndarray]
    validation: Targets
    test: Targets
    counts: dict[str, int | float]
    digest: str

    def popularity(self, num_items: int) -> np.ndarray:
        """Return training clicks per catalog row, int64 `[N]`."""
        return np.bincount(np.concatenate(self.train), minlength=num_items).astype(np.int64)

    def shares(self) -> dict[str, float]:
        """Return which share of targets repeats an item of its history, and which was never seen in training."""
        trained = np.unique(np.concatenate(self.train))
        shares = {}
        for prefix, targets in (("", self.test), ("validation_", self.validation)):
            repeated = (targets.histories_matrix() == targets.items[:, None]).any(axis=1)
            shares[f"{prefix}repeated_target"] = float(repeated.mean())
            shares[f"{prefix}unseen_target"] = float((~np.isin(targets.items, trained)).mean())
        return shares

    def save(self, directory: str | Path) -> None:
        """Write `split.safetensors`, `split.parquet` (user ids) and, last, `split.json`; equal splits, equal bytes."""
        directory = Path(directory)
        sequences = {"train": self.train, "validation": self.validation.histories, "test": self.test.histories}
        users = dict(zip(PARTS, (self.train_user_ids, self.validation.user_ids, self.test.user_ids), strict=True))
        tensors = {"validation_items": self.validation.items, "test_items": self.test.items}
        for part, arrays in sequences.items():
            tensors[f"{part}_rows"] = np.concatenate([np.empty(0, np.int64), *arrays])
            tensors[f"{part}_lengths"] = np.fromiter(map(len, arrays), dtype=np.int64, count=len(arrays))
        with atomic_path(directory / "split.safetensors") as temporary:
            save_file(tensors, temporary)
        parts = np.repeat(PARTS, [len(users[part]) for part in PARTS])
        frame = pd.DataFrame({"part": parts, "user_id": np.concatenate([users[part] for part in PARTS])})
        with atomic_path(directory / "split.parquet") as temporary:
            frame.to_parquet(temporary, index=False)
        write_json(directory / "split.json", {"counts": self.counts, "digest": self.digest})

    @classmethod
    def load(cls, directory: str | Path) -> "Split":
        """Read what `save` wrote; a `DataError` where the files do not belong together."""
        header = read_json(Path(directory) / "split.json")
        tensors = load_file(Path(directory) / "split.safetensors")
        frame = pd.read_parquet(Path(directory) / "split.parquet")
        users, sequences = {}, {}
        for part in PARTS:
            users[part] = frame.loc[frame["part"] == part, "user_id"].to_numpy(dtype=object)
            bounds = np.cumsum(tensors[f"{part}_lengths"])[:-1]
            sequences[part] = np.split(tensors[f"{part}_rows"], bounds) if len(users[part]) else []
        validation, test = (Targets(users[part], sequences[part], tensors[f"{part}_items"]) for part in PARTS[1:])
        split = _build(users["train"], sequences["train"], validation, test, header["counts"])
        if split.digest != header["digest"]:
            raise DataError(
                f"split in {str(directory)!r} has digest {split.digest!r}, expected {header['digest']!r} as in its "
                "split.json; the files come from different runs: delete the directory and split again"
            )
        return split


def split_interactions(tables: Tables, options: DataOptions) -> Split:
    """Split a click log by `options.split`.

    * `leave_one_out`: a user's last click is the test target, the one before it the validation target, the rest
      train; users with fewer than three clicks only train.
    * `source`: a column says `history` (or `train`), `valid` or `test` for every click.
    * `time`: clicks before the first cutoff train, those before the second are validation targets, later ones test.

    Args:
        tables: a checked catalog and click log.
        options: the data section.
    """
    options.validate()
    clicks = tables.interactions
    counts: dict[str, int | float] = {}
    if options.split == "leave_one_out":
        parts = _parts_by_position(clicks, counts)
    elif options.split == "source":
        parts = _parts_by_source(clicks, options.split_column, counts)
    else:
        parts = _parts_by_time(clicks, options, counts)
    train_user_ids, train = _sequences(clicks.loc[parts == 0])
    validation, test = (_targets(clicks, parts == number, options.min_history) for number in (1, 2))
    counts |= {"users": int(clicks["user_id"].nunique()), "train_users": len(train)}
    counts |= {"train_interactions": int((parts == 0).sum()), "validation": len(validation), "test": len(test)}
    counts["dropped_short_history_validation"] = int((parts == 1).sum()) - len(validation)
    counts["dropped_short_history_test"] = int((parts == 2).sum()) - len(test)
    for part, size in zip(PARTS, (len(train), len(validation), len(test)), strict=True):
        if size == 0:
            raise DataError(
                f"split {options.split!r} leaves 0 {part} cases, expected at least 1 (counts: {counts}); "
                "give longer histories, another data.split or a smaller data.min_history"
            )
    return _build(train_user_ids, train, validation, test, counts)


def _sequences(clicks: pd.DataFrame) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the users of these clicks and the catalog rows of each, oldest first."""
    users = clicks["user_id"].to_numpy(dtype=object)
    starts = np.flatnonzero(np.diff(pd.factorize(users)[0], prepend=-1))
    rows = clicks["item_row"].to_numpy(dtype=np.int64)
    return users[starts], np.split(rows, starts[1:]) if len(starts) else []


def _targets(clicks: pd.DataFrame, chosen: np.ndarray, least: int) -> Targets:
    """Make cases of the chosen clicks: a user's clicks stand together, so a history is the slice before the click."""
    rows = clicks["item_row"].to_numpy(dtype=np.int64)
    lengths = clicks["position"].to_numpy(dtype=np.int64)
    cases = np.flatnonzero(chosen & (lengths >= least))
    histories = [rows[case - lengths[case] : case] for case in cases]
    return Targets(clicks["user_id"].to_numpy(dtype=object)[cases], histories, rows[cases])


def _parts_by_position(clicks: pd.DataFrame, counts: dict[str, int | float]) -> np.ndarray:
    by_user = clicks.groupby("user_id", sort=False)["position"]
    length = by_user.transform("size").to_numpy()
    from_end = length - 1 - clicks["position"].to_numpy()
    counts["short_users"] = int((by_user.size() < 3).sum())
    return np.where(length < 3, 0, np.where(from_end == 0, 2, np.where(from_end == 1, 1, 0)))


def _parts_by_source(clicks: pd.DataFrame, column: str, counts: dict[str, int | float]) -> np.ndarray:
    require_columns(clicks, "interactions", [column])
    parts = clicks[column].astype(object).map(lambda value: SOURCE_NAMES.get(str(value).lower()))
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
    return np.where(is_late, UNUSED, numbers)


def _parts_by_time(clicks: pd.DataFrame, options: DataOptions, counts: dict[str, int | float]) -> np.ndarray:
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


def _build(
    train_user_ids: np.ndarray,
    train: list[np.ndarray],
    validation: Targets,
    test: Targets,
    counts: dict[str, int | float],
) -> Split:
    parts: list[object] = [list(train_user_ids), list(map(len, train)), np.concatenate(train)]
    for targets in (validation, test):
        parts += [list(targets.user_ids), list(map(len, targets.histories)), targets.items]
        parts.append(np.concatenate([np.empty(0, np.int64), *targets.histories]))
    return Split(train_user_ids, train, validation, test, counts, content_digest(*parts))
