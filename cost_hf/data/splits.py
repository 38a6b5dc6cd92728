"""Splits: which clicks train, which are predicted, and what is known at each prediction.

An evaluation case is one target with all earlier clicks of its user as history, under every rule; a validation history
never contains a test click, whatever the order of the source. Popularity and everything else that is learned comes from
the training part alone (`Split.popularity`), so no information of the test part reaches it.

Cold start (`data.cold_share`) follows TIGER (arXiv 2305.05065, section 4.3), which removes every training click on 5 %
of the test items: their clicks are removed from the training sequences and, because choices are fitted too, from
validation targets and histories. Histories of test cases stay whole, as the paper removes nothing else: a deployed
system meets items in a history that it was never trained on. Whatever is fitted to items must leave them out as well
(`Split.fit_rows`).

Where events have types (`data.event_column`), only those of `data.target_events` become targets. The other clicks of an
evaluation part are in no training sequence, and in the histories of later targets.

Parts are numbers: 0 trains, 1 is of validation, 2 of the test, -1 is in no part (it can still be in histories of later
targets).
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import compute
from safetensors.numpy import save_file

from cost_hf.data.coded_clicks import CodedClicks, stable_order
from cost_hf.data.errors import DataError
from cost_hf.data.events import IS_TARGET, WEIGHT
from cost_hf.data.options import DataOptions
from cost_hf.data.row_lists import RowLists
from cost_hf.data.schema import Tables, require_columns
from cost_hf.files import JoinedRows, atomic_path, content_digest, read_json, read_tensors, write_json

PARTS = ("train", "validation", "test")
NO_ROWS = np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Targets:
    """M evaluation cases of one part.

    Attributes:
        user_ids: user of each case, str objects `[M]`; a user may have several cases.
        histories: M lists of catalog rows, oldest first; arrays are taken as well.
        items: targets, catalog rows, int64 `[M]`.
    """

    user_ids: np.ndarray
    histories: RowLists
    items: np.ndarray

    def __post_init__(self) -> None:
        """Hold the histories in one array."""
        object.__setattr__(self, "histories", RowLists.of(self.histories))

    @classmethod
    def none(cls) -> "Targets":
        """Return a part without cases."""
        return cls(np.empty(0, dtype=object), RowLists.of([]), NO_ROWS)

    def __repr__(self) -> str:
        """Summarise the number of cases."""
        return f"Targets({len(self)} cases of {len(set(self.user_ids))} users)"

    def __len__(self) -> int:
        return len(self.items)

    def histories_matrix(self, indices: np.ndarray) -> np.ndarray:
        """Return histories as int64 `[B, T]`, starting at column 0, -1 to the right of shorter ones.

        Args:
            indices: B cases; T is the longest history among them.
        """
        chosen = self.histories.take(np.asarray(indices, dtype=np.int64))
        matrix = np.full((len(chosen), int(chosen.lengths.max(initial=0))), -1, dtype=np.int64)
        matrix[np.arange(matrix.shape[1]) < chosen.lengths[:, None]] = chosen.concatenated()
        return matrix

    def blocks(self) -> Iterator["Targets"]:
        """Yield all cases in order, in blocks with at most `row_lists.BLOCK_ROWS` rows of history in total.

        Histories of a user's cases contain each other: concatenated, their size is the square of the user's clicks.
        """
        for start, end in self.histories.bounds():
            yield Targets(self.user_ids[start:end], self.histories[start:end], self.items[start:end])

    def joined(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of all histories in order and the case of each row, int64; meant for a block."""
        return self.histories.concatenated(), np.repeat(np.arange(len(self)), self.histories.lengths)

    def repeated(self) -> np.ndarray:
        """Return which targets are in their own history, bool `[M]`."""
        return self.has_in_history(lambda block, rows, cases: rows == block.items[cases])

    def has_in_history(self, is_wanted: Callable[["Targets", np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        """Return in which cases a row of the history fulfils a condition, bool `[M]`.

        Args:
            is_wanted: maps a block, the rows of its histories and their cases to bool for each row.
        """
        parts = [np.empty(0, dtype=bool)]
        for block in self.blocks():
            rows, cases = block.joined()
            found = np.zeros(len(block), dtype=bool)
            found[cases[is_wanted(block, rows, cases)]] = True
            parts.append(found)
        return np.concatenate(parts)

    def sample(self, size: int | None, *, seed: int) -> "Targets":
        """Return a seeded sample of at most `size` cases in their order; all cases for None."""
        if size is None or size >= len(self):
            return self
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self))[:size])
        return self.take(chosen)

    def take(self, cases: np.ndarray) -> "Targets":
        """Return some of the cases, by their numbers or a mask."""
        return Targets(self.user_ids[cases], self.histories.take(cases), self.items[cases])


@dataclass(frozen=True, eq=False)
class Split:
    """Training sequences and the cases of both evaluation parts.

    Attributes:
        train_user_ids: users with training clicks, str objects, one for each array of `train`.
        train: catalog rows, oldest first, one list per user; arrays are taken as well.
        validation: cases for model selection.
        test: cases that are reported.
        counts: sizes of the parts, and what was dropped.
        digest: sha256 of everything but the counts and the times.
        cold_items: sorted catalog rows that the cold-start protocol hides from everything that is fitted, int64.
        train_times: epoch seconds of the training clicks in the order of `train`, int64; None where only the order of
            clicks is known.
        train_weights: what each training click counts, by its event, in the order of `train`, int64; None where all
            count 1.
        train_labels: which training clicks the loss is of, in the order of `train`, bool; None for all. A model that
            is trained on learns new clicks and a sample of the old ones, and reads all of them.
    """

    train_user_ids: np.ndarray
    train: RowLists
    validation: Targets
    test: Targets
    counts: dict[str, int | float]
    digest: str
    cold_items: np.ndarray = field(default_factory=NO_ROWS.copy)
    train_times: np.ndarray | None = None
    train_weights: np.ndarray | None = None
    train_labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Hold the training sequences in one array."""
        object.__setattr__(self, "train", RowLists.of(self.train))

    def __repr__(self) -> str:
        """Summarise the sizes of the parts."""
        cold = f", {len(self.cold_items)} cold items" if len(self.cold_items) else ""
        return (
            f"Split({len(self.train)} training users, {len(self.validation)} validation and {len(self.test)} test "
            f"cases{cold}, digest {self.digest[:12]})"
        )

    def popularity(self, num_items: int) -> np.ndarray:
        """Return training clicks per catalog row, each with its weight, int64 `[N]`."""
        rows = self.train.concatenated()
        return np.bincount(rows, self.train_weights, minlength=num_items).astype(np.int64)

    def weights_of_users(self) -> list[np.ndarray] | None:
        """Return what the clicks of every array of `train` count, int64; None where all count 1."""
        if self.train_weights is None:
            return None
        return np.split(self.train_weights, np.cumsum(self.train.lengths)[:-1])

    def label_weights(self) -> list[np.ndarray] | None:
        """Return the weight of the loss of every training click, float32, by user; None where all are 1.

        The mean of those above 0 is 1, so that only the ratios of the weights of events matter; 0 is no label.
        """
        if self.train_weights is None and self.train_labels is None:
            return None
        lengths = self.train.lengths
        weights = np.ones(lengths.sum(), dtype=np.int64) if self.train_weights is None else self.train_weights
        if self.train_labels is not None:
            weights = np.where(self.train_labels, weights, 0)
        mean = weights[weights > 0].mean() if weights.any() else 1
        return np.split((weights / mean).astype(np.float32), np.cumsum(lengths)[:-1])

    def num_labels(self) -> int:
        """Return how many training clicks the loss is of."""
        weights = self.label_weights()
        return int(self.train.lengths.sum()) if weights is None else sum(int((own > 0).sum()) for own in weights)

    def first_items(self, num_items: int) -> "Split":
        """Return the training sequences without clicks on items from row `num_items` on, and no evaluation case."""
        rows = self.train.concatenated()
        is_kept = rows < num_items
        if is_kept.all():
            return self
        users = np.repeat(np.arange(len(self.train)), self.train.lengths)
        train = RowLists.joined(rows[is_kept], np.bincount(users[is_kept], minlength=len(self.train)))
        nobody = Targets.none()
        return replace(
            self,
            train=train,
            validation=nobody,
            test=nobody,
            train_times=None if self.train_times is None else self.train_times[is_kept],
            train_weights=None if self.train_weights is None else self.train_weights[is_kept],
            train_labels=None if self.train_labels is None else self.train_labels[is_kept],
        )

    def fit_rows(self, num_items: int) -> np.ndarray:
        """Return which catalog rows fitting may see (text vectors, quantizer), bool `[N]`: all but the cold items."""
        is_visible = np.ones(num_items, dtype=bool)
        is_visible[self.cold_items] = False
        return is_visible

    def fitting_part(self, is_kept: Callable[[str], bool]) -> "Split":
        """Return the training sequences and validation cases of some users, without a test case.

        Args:
            is_kept: of a user id.
        """
        trains = np.array([is_kept(user) for user in self.train_user_ids], dtype=bool)
        validates = np.array([is_kept(user) for user in self.validation.user_ids], dtype=bool)
        is_click_kept = np.repeat(trains, self.train.lengths)
        times = None if self.train_times is None else self.train_times[is_click_kept]
        weights = None if self.train_weights is None else self.train_weights[is_click_kept]
        train = self.train.take(trains)
        validation = self.validation.take(validates)
        test = Targets.none()
        counts: dict[str, int | float] = {"train_users": len(train), "validation": len(validation), "test": 0}
        return _build(self.train_user_ids[trains], train, validation, test, self.cold_items, counts, times, weights)

    def shares(self) -> dict[str, float]:
        """Return the shares of targets that repeat an item of their history, and that were never seen in training."""
        trained = np.unique(self.train.concatenated())
        shares = {}
        for prefix, targets in (("", self.test), ("validation_", self.validation)):
            shares[f"{prefix}repeated_target"] = float(targets.repeated().mean())
            shares[f"{prefix}unseen_target"] = float((~np.isin(targets.items, trained)).mean())
        return shares

    def save(self, directory: str | Path) -> None:
        """Write `split.safetensors`, `split.parquet` (user ids) and, last, `split.json`; equal splits, equal bytes."""
        directory = Path(directory)
        users = dict(zip(PARTS, (self.train_user_ids, self.validation.user_ids, self.test.user_ids), strict=True))
        tensors = {"validation_items": self.validation.items, "test_items": self.test.items}
        tensors["cold_items"] = self.cold_items
        if self.train_times is not None:
            tensors["train_times"] = self.train_times
        if self.train_weights is not None:
            tensors["train_weights"] = self.train_weights
        tensors["train_rows"] = np.ascontiguousarray(self.train.concatenated())
        tensors["train_lengths"] = self.train.lengths
        for part, targets in (("validation", self.validation), ("test", self.test)):
            tensors[f"{part}_rows"], tensors[f"{part}_starts"] = _pooled(targets)
            tensors[f"{part}_lengths"] = targets.histories.lengths
        with atomic_path(directory / "split.safetensors") as temporary:
            save_file(tensors, temporary)
        parts = np.repeat(PARTS, [len(users[part]) for part in PARTS])
        frame = pd.DataFrame({"part": parts, "user_id": np.concatenate([users[part] for part in PARTS])})
        with atomic_path(directory / "split.parquet") as temporary:
            frame.to_parquet(temporary, index=False)
        write_json(directory / "split.json", {"counts": self.counts, "digest": self.digest})

    @classmethod
    def load(cls, directory: str | Path) -> "Split":
        """Read what `save` wrote; a `DataError` if the files do not belong together."""
        header = read_json(Path(directory) / "split.json")
        tensors = read_tensors(Path(directory) / "split.safetensors")
        frame = pd.read_parquet(Path(directory) / "split.parquet")
        users = {}
        sequences = {}
        for part in PARTS:
            users[part] = frame.loc[frame["part"] == part, "user_id"].to_numpy(dtype=object)
            lists = RowLists.joined(tensors[f"{part}_rows"], tensors[f"{part}_lengths"])
            if f"{part}_starts" in tensors:  # only histories have any
                lists = RowLists(lists.rows, tensors[f"{part}_starts"], lists.lengths)
            if not lists.are_inside():
                raise DataError(
                    f"split in {str(directory)!r} has sequences beyond the rows of its part {part!r}; the files come "
                    "from different runs: delete the directory and split again"
                )
            sequences[part] = lists
        validation, test = (Targets(users[part], sequences[part], tensors[f"{part}_items"]) for part in PARTS[1:])
        cold_items = tensors.get("cold_items", NO_ROWS)  # splits of earlier versions have none
        of_clicks = {name: tensors.get(f"train_{name}") for name in ("times", "weights")}
        for name, values in of_clicks.items():
            if values is not None and values.shape != tensors["train_rows"].shape:
                raise DataError(
                    f"split in {str(directory)!r} has the {name} of {values.size} training clicks, expected "
                    f"{tensors['train_rows'].size}; the files are of different runs: delete the directory, split again"
                )
        split = _build(
            users["train"],
            sequences["train"],
            validation,
            test,
            cold_items,
            header["counts"],
            of_clicks["times"],
            of_clicks["weights"],
        )
        if split.digest != header["digest"]:
            raise DataError(
                f"split in {str(directory)!r} has digest {split.digest!r}, expected {header['digest']!r} as in its "
                "split.json; the files come from different runs: delete the directory and split again"
            )
        return split


def split_interactions(tables: Tables, options: DataOptions) -> Split:
    """Split a click log by `options.split`.

    * `leave_one_out`: a user's last target is the test target, the target before it the validation target, and the
      clicks before that one train; users with fewer than three clicks only train. A single target tests, if a click
      comes before it.
    * `source`: a column assigns every click to `history` (or `train`), `valid` or `test`. No validation history
      contains a test click, whatever the order.
    * `time`: clicks before the first cutoff train, targets before the second are of validation, later ones of the test.

    With `options.cold_share` a share of the test targets' items becomes cold: training and validation are those of a
    log without these items, test cases are not touched.

    Args:
        tables: a checked catalog and click log.
        options: the data section.

    Raises:
        DataError: for a part without cases, or a log that the split can't be applied to.
    """
    options.validate()
    clicks = tables.interactions
    counts: dict[str, int | float] = {}
    parts = part_numbers(clicks, options, counts)
    is_target = _target_flags(clicks)
    test = targets_of(clicks, (parts == 2) & is_target, options.min_history)
    item_ids = tables.items["item_id"].tolist()
    cold_items = choose_cold_items(item_ids, test.items, share=options.cold_share, seed=options.seed)
    is_visible = ~np.isin(clicks["item_row"].to_numpy(), cold_items)
    train_clicks = clicks.loc[(parts == 0) & is_visible]
    train_user_ids, train = _sequences(train_clicks)
    may_validate = is_visible & (parts != 2)
    validation = targets_of(clicks.loc[may_validate], ((parts == 1) & is_target)[may_validate], options.min_history)
    counts |= {"users": int(clicks["user_id"].nunique()), "train_users": len(train)}
    counts |= {"train_interactions": int(train.lengths.sum()), "validation": len(validation), "test": len(test)}
    counts["dropped_short_history_validation"] = int(((parts == 1) & is_visible & is_target).sum()) - len(validation)
    counts["dropped_short_history_test"] = int(((parts == 2) & is_target).sum()) - len(test)
    if not is_target.all():
        counts["history_clicks_of_evaluation"] = int(((parts > 0) & ~is_target).sum())
    if len(cold_items):
        counts |= _cold_counts(np.where(is_target, parts, np.minimum(parts, 0)), is_visible, test, cold_items)
    for part, size in zip(PARTS, (len(train), len(validation), len(test)), strict=True):
        if size == 0:
            raise DataError(
                f"split {options.split!r} leaves 0 {part} cases, expected at least 1 (counts: {counts}); "
                "give longer histories, another data.split, or a smaller data.min_history or data.cold_share"
            )
    weights = _weights(train_clicks)
    return _build(train_user_ids, train, validation, test, cold_items, counts, _times(train_clicks), weights)


def fold_of(user_id: str, folds: int, *, seed: int, purpose: str) -> int:
    """Return the fold of a user, the same for all of the user's clicks.

    Folds of different purposes are independent: users who share one for one purpose are spread over those of another.
    """
    digest = hashlib.blake2b(f"{purpose}\0{user_id}\0{seed}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % folds


def user_starts(clicks: pd.DataFrame) -> np.ndarray:
    """Return the place of the first click of every user, int64; a user's clicks are adjacent."""
    if clicks.empty:
        return NO_ROWS
    users = pa.array(clicks["user_id"].array)
    if isinstance(users, pa.ChunkedArray):
        users = users.combine_chunks()
    is_next = compute.not_equal(users[1:], users[:-1]).to_numpy(zero_copy_only=False)
    return np.append(0, np.flatnonzero(is_next) + 1)


def _sequences(clicks: pd.DataFrame) -> tuple[np.ndarray, RowLists]:
    """Return the users of these clicks and the catalog rows of each, oldest first."""
    starts = user_starts(clicks)
    lengths = np.diff(np.append(starts, len(clicks)))
    rows = clicks["item_row"].to_numpy(dtype=np.int64)
    return clicks["user_id"].iloc[starts].to_numpy(dtype=object), RowLists(rows, starts, lengths)


def _times(clicks: pd.DataFrame) -> np.ndarray | None:
    """Return the epoch seconds of clicks, int64; None where one of them has no time."""
    if "timestamp" not in clicks or clicks["timestamp"].isna().any():
        return None
    return clicks["timestamp"].to_numpy(dtype=np.int64)


def _weights(clicks: pd.DataFrame) -> np.ndarray | None:
    """Return what each training click counts, int64; None where all count 1."""
    if WEIGHT not in clicks or (clicks[WEIGHT] == 1).all():
        return None
    weights = clicks[WEIGHT].to_numpy(dtype=np.int64)
    if not weights.any():
        raise DataError(
            f"all {len(weights):,} training clicks are of events with weight 0, so nothing can be learned; raise one "
            "of data.event_weights, or choose a data.split that leaves target events to training"
        )
    return weights


def _target_flags(clicks: pd.DataFrame) -> np.ndarray:
    """Return which clicks may be targets, bool `[clicks]`."""
    if IS_TARGET not in clicks:
        return np.ones(len(clicks), dtype=bool)
    return clicks[IS_TARGET].to_numpy(dtype=bool)


def targets_of(clicks: pd.DataFrame, chosen: np.ndarray, least: int) -> Targets:
    """Build the cases of the chosen clicks: a user's clicks are adjacent, so a history is the slice before.

    Args:
        clicks: `user_id` and `item_row`.
        chosen: clicks that are targets where enough comes before them, bool `[clicks]`.
        least: length of the shortest history.
    """
    rows = clicks["item_row"].to_numpy(dtype=np.int64)
    starts = user_starts(clicks)
    first = np.repeat(starts, np.diff(np.append(starts, len(clicks))))
    lengths = np.arange(len(clicks)) - first  # not the positions, which have gaps where items are cold
    cases = np.flatnonzero(chosen & (lengths >= least))
    users = clicks["user_id"].iloc[cases].to_numpy(dtype=object)
    return Targets(users, RowLists(rows, first[cases], lengths[cases]), rows[cases])


def _pooled(targets: Targets) -> tuple[np.ndarray, np.ndarray]:
    """Return rows that contain every history, int64, and the start of each in them, int64 `[M]`.

    A history that is a prefix of the next one of the same user is not stored separately.
    """
    histories = targets.histories
    if not len(histories):
        return NO_ROWS, NO_ROWS
    is_prefix = np.zeros(len(targets), dtype=bool)  # of the history before it
    is_prefix[:-1] = targets.user_ids[1:] == targets.user_ids[:-1]
    is_prefix[:-1] &= histories.lengths[1:] >= histories.lengths[:-1]
    for case in np.flatnonzero(is_prefix[:-1] & (histories.starts[1:] != histories.starts[:-1])).tolist():
        is_prefix[case] = np.array_equal(histories[case], histories[case + 1][: histories.lengths[case]])
    kept = histories.take(~is_prefix)
    begins = np.cumsum(kept.lengths) - kept.lengths
    groups = np.cumsum(~is_prefix) - ~is_prefix  # the kept history that contains each
    return np.ascontiguousarray(kept.concatenated()), begins[groups]


def _cold_counts(
    parts: np.ndarray, is_visible: np.ndarray, test: Targets, cold_items: np.ndarray
) -> dict[str, int | float]:
    """Return what the cold-start protocol removed, and how much of the test part is affected."""
    holds_cold = test.has_in_history(lambda block, rows, cases: np.isin(rows, cold_items))
    return {
        "cold_items": len(cold_items),
        "dropped_cold_train_interactions": int(((parts == 0) & ~is_visible).sum()),
        "dropped_cold_validation": int(((parts == 1) & ~is_visible).sum()),
        "cold_test": int(np.isin(test.items, cold_items).sum()),
        "test_histories_with_cold_items": int(holds_cold.sum()),
    }


def _build(
    train_user_ids: np.ndarray,
    train: RowLists,
    validation: Targets,
    test: Targets,
    cold_items: np.ndarray,
    counts: dict[str, int | float],
    train_times: np.ndarray | None,
    train_weights: np.ndarray | None,
) -> Split:
    parts: list[object] = [list(train_user_ids), train.lengths.tolist(), train.concatenated()]
    for targets in (validation, test):
        lists = targets.histories
        parts += [list(targets.user_ids), lists.lengths.tolist(), targets.items]
        parts.append(JoinedRows(int(lists.lengths.sum()), lists.blocks()))
    if len(cold_items):  # a split without them keeps the digest that it had before there was a protocol
        parts.append(cold_items)
    if train_weights is not None:
        parts.append(train_weights)
    digest = content_digest(*parts)
    return Split(train_user_ids, train, validation, test, counts, digest, cold_items, train_times, train_weights)


UNUSED = -1
SOURCE_NAMES = {
    **dict.fromkeys(("history", "train"), 0),
    **dict.fromkeys(("valid", "validation", "val", "dev"), 1),
    "test": 2,
}


def part_numbers(clicks: pd.DataFrame, options: DataOptions, counts: dict[str, int | float]) -> np.ndarray:
    """Return the part of every click by `options.split`, int64 `[clicks]`; adds what was found to `counts`."""
    if options.split == "leave_one_out":
        return _by_position(clicks, counts)
    if options.split == "source":
        return _by_source(clicks, options.split_column, counts)
    return _by_time(clicks, options, counts)


def choose_cold_items(item_ids: Sequence[str], candidates: np.ndarray, *, share: float, seed: int) -> np.ndarray:
    """Return the rows of a seeded share of the distinct candidates, at least one for a share above 0, int64, sorted.

    Candidates are ordered by a hash of item id and seed, and the first ones are taken: an item does not depend on row
    order or the number of other items, and a larger share contains every smaller one.

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
    starts = user_starts(clicks)
    lengths = np.diff(np.append(starts, len(clicks)))
    counts["short_users"] = int((lengths < 3).sum())
    may_be_target = _target_flags(clicks) & (np.repeat(lengths, lengths) >= 3)
    may_be_target[starts] = False
    seen = np.cumsum(may_be_target)
    ends = np.append(0, seen[starts + lengths - 1])
    total = np.repeat(np.diff(ends), lengths)
    left = np.repeat(ends[1:], lengths) - seen  # targets after this click
    # a part begins at its target: what a user clicked after a target must not train
    return np.where(total == 0, 0, np.where(left == 0, 2, np.where((left == 1) & (total > 1), 1, 0)))


def source_parts(values: pd.Series) -> pd.Series:
    """Return the part that each cell of a split column names, null for other values."""
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
    starts = user_starts(clicks)
    # what a user clicked after a target must not train: it would leak the future
    is_late = (numbers == 0) & _seen(numbers > 0, starts)
    counts["dropped_history_behind_target"] = int(is_late.sum())
    counts["validation_behind_test"] = int(((numbers == 1) & _seen(numbers == 2, starts)).sum())
    return np.where(is_late, UNUSED, numbers)


def _seen(flags: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return which clicks have a flag, or come after one of their user that has, bool `[clicks]`."""
    so_far = np.cumsum(flags)
    before = so_far[starts] - flags[starts]
    return so_far > np.repeat(before, np.diff(np.append(starts, len(flags))))


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
    """Return the times at which the first share, and the first two shares, of all clicks end."""
    ordered = np.sort(times)
    bounds = np.minimum((np.cumsum(shares)[:2] * len(ordered)).astype(np.int64), len(ordered) - 1)
    return ordered[bounds].tolist()


def time_order(log: CodedClicks, seed: int, *, parts: np.ndarray | None = None) -> tuple[np.ndarray, int]:
    """Return the indices that sort clicks by user and time, int64, and the number of clicks tied with another item's.

    Args:
        log: with `timestamp`, whole numbers, none null.
        seed: decides ties: they follow the blake2b hash of user, item and seed.
        parts: part of each click, int64 `[clicks]`; clicks of one time are sorted by it before the hash, so that no
            history contains a click of a later part.
    """
    times = log.frame["timestamp"].to_numpy(dtype=np.int64)
    parts = np.zeros(len(log), dtype=np.int64) if parts is None else parts
    order = stable_order(parts, log.fractions, times, log.users)
    is_next = np.ones(max(0, len(log) - 1), dtype=bool)  # whether a click has user and time of the one before it
    for key in (log.users, times, log.fractions):
        ordered = key[order]
        is_next &= ordered[1:] == ordered[:-1]
    tied = order[np.append(is_next, False) | np.append(False, is_next)] if len(log) else order
    if not len(tied):
        return order, 0
    ranks = np.zeros(len(log), dtype=np.uint64)
    ids = log.frame[["user_id", "item_id"]].iloc[tied]
    pairs = zip(ids["user_id"], ids["item_id"], strict=True)
    ranks[tied] = [_tie_rank(user, item, seed) for user, item in pairs]
    moments = pd.DataFrame({"user": log.users, "time": times, "fraction": log.fractions}).iloc[tied]
    is_repeat = moments.assign(item=log.items[tied]).duplicated()
    num_tied = int(moments.loc[~is_repeat].duplicated(keep=False).sum())
    return stable_order(ranks, parts, log.fractions, times, log.users), num_tied


def _tie_rank(user_id: str, item_id: str, seed: int) -> int:
    """Return a number that depends only on the click and the seed."""
    key = "\0".join((user_id, item_id, str(seed))).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
