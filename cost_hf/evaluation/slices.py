"""Slices: metrics of the same lists on parts of the cases.

An average does not show whether a method is good at transitions that occur in training or at items that do not. Every
slice divides the cases by what the training part contains of them. Small slices have wide intervals, and a slice
without any hit has the interval 0 … 0, so `cases` has to be read first. All cells share one set of draws over users.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from cost_hf.data.splits import Targets
from cost_hf.evaluation.ranking import RankedLists, per_user_metrics
from cost_hf.evaluation.results import NULL
from cost_hf.evaluation.sequences import click_counts, consecutive_pairs
from cost_hf.evaluation.statistics import CaseTable, bootstrap_means, interval_of, numbered, on_grid

CUTOFF = 10
METRICS = (f"recall@{CUTOFF}", f"ndcg@{CUTOFF}")
RARE_CLICKS = 5  # training clicks of a rare target, at most
SHORT_HISTORY = 5  # about the median length in 5-core data
HEAD_SHARE = 0.2  # of the items; Pareto's rule, as in MELT (arXiv 2304.08382)
COLUMNS_AT_ONCE = 256  # of one bootstrap table, whose values share a grid


def slice_labels(
    targets: Targets, train: Sequence[np.ndarray], *, num_items: int, cold_items: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Label every case in every slice.

    * `target_in_training`: training clicks of the target, `0`, `1-5` or `6+`.
    * `transition`: `seen` where the target directly follows the last item of the history somewhere in training,
      `unseen` otherwise and for an empty history.
    * `target`: `repeated` where it is in the history, else `new`. Repeated targets are misses where seen items are
      excluded.
    * `history`: `short` up to five items, else `long`.
    * `popularity`: `head` for the most clicked fifth of the items with training clicks, else `tail`. Items that tie
      with the first one outside are in the tail, so the head is never more than a fifth.
    * `cold_start`, with cold items only: `cold` for one of them, `in_set` for other targets with training clicks (the
      two sets of arXiv 2411.18814). Targets without training clicks that the protocol did not hide have no label (""),
      since fitting may have used their text.

    Args:
        targets: M cases.
        train: catalog rows of every training user, oldest first.
        num_items: N.
        cold_items: catalog rows hidden by the cold-start protocol, `Split.cold_items`.

    Returns:
        Labels by slice, text `[M]`.
    """
    clicks = click_counts(train, num_items=num_items)  # [N]
    target_clicks = clicks[targets.items]  # [M]
    lengths = targets.histories.lengths
    labels = {
        "target_in_training": np.select([target_clicks == 0, target_clicks <= RARE_CLICKS], ["0", "1-5"], "6+"),
        "transition": np.where(_is_seen_transition(targets, train, num_items), "seen", "unseen"),
        "target": np.where(targets.repeated(), "repeated", "new"),
        "history": np.where(lengths <= SHORT_HISTORY, "short", "long"),
        "popularity": np.where(target_clicks > head_bound(clicks), "head", "tail"),
    }
    if cold_items is not None and len(cold_items):
        is_cold = np.isin(targets.items, cold_items)
        labels["cold_start"] = np.select([is_cold, target_clicks > 0], ["cold", "in_set"], "")
    return labels


def slice_metrics(
    ranked: Mapping[tuple[str, str], RankedLists],
    labels: Mapping[str, np.ndarray],
    *,
    user_ids: Sequence[str] | np.ndarray,
    draws: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return `slices` of results: `<row>.<seen>.<slice>.<label> = {cases, recall@10: {value, low, high}, ndcg@10}`.

    Values are on items. An interval is that of the mean over the cases of the slice, with users drawn whole; draws
    without any case of the slice are left out. Labels without cases are not in the result; a row whose lists are
    shorter than ten has null values.

    Args:
        ranked: lists of every (row name, `seen_allowed` or `seen_excluded`), all on the same M cases.
        labels: by slice, `[M]`; cases with "" are in no part of that slice.
        user_ids: user of every case, `[M]`.
        draws: number of bootstrap samples.
        seed: of the bootstrap; with the same seed the draws are those of the other intervals of results.json.

    Raises:
        ValueError: where rows or labels have another number of cases.
    """
    _check_cases(ranked, labels, len(user_ids))
    parts = [(name, str(label)) for name, column in labels.items() for label in np.unique(column) if label != ""]
    members = np.stack([labels[name] == label for name, label in parts], axis=1).astype(np.float64)  # [M, J]
    users = numbered(user_ids)
    shares = bootstrap_means(members, clusters=users, draws=draws, seed=seed)  # [draws, J]
    slices: dict[str, Any] = {}
    for keys, table in _tables(ranked, members):
        means = bootstrap_means(table, clusters=users, draws=draws, seed=seed).reshape(draws, len(keys), -1)
        sums = table.sums().reshape(len(keys), -1)
        for number, (row, seen) in enumerate(keys):
            cells = _cells(sums[number], means[:, number], members.sum(axis=0), shares)
            _insert(slices.setdefault(row, {}).setdefault(seen, {}), parts, cells)
    for (row, seen), lists in ranked.items():
        if lists.list_length < CUTOFF:
            cells = [{"cases": int(size)} | {metric: dict(NULL) for metric in METRICS} for size in members.sum(axis=0)]
            _insert(slices.setdefault(row, {}).setdefault(seen, {}), parts, cells)
    return slices


def _is_seen_transition(targets: Targets, train: Sequence[np.ndarray], num_items: int) -> np.ndarray:
    """Return whether (last item of the history, target) are consecutive somewhere in training, bool `[M]`."""
    known = consecutive_pairs(train) @ np.array([num_items, 1])
    last = np.array([history[-1] if len(history) else -1 for history in targets.histories], dtype=np.int64)
    return (last >= 0) & np.isin(last * num_items + targets.items, known)


def head_bound(clicks: np.ndarray) -> int:
    """Return the number of clicks that an item of the head exceeds: that of the first item outside."""
    known = np.sort(clicks[clicks > 0])[::-1]
    return int(known[int(HEAD_SHARE * len(known))]) if len(known) else 0


class _SliceTable(CaseTable):
    """Metrics of M cases, once for every label: a column holds them in the cases of the label and 0 elsewhere.

    Args:
        metrics: float64 `[M]` each.
        members: which cases have which label, 1 or 0, `[M, J]`.
        exponents: of the grids that values are rounded to.
    """

    def __init__(self, metrics: Sequence[np.ndarray], members: np.ndarray, exponents: Sequence[int] = ()):
        self.metrics = list(metrics)
        self.members = members
        self.exponents = tuple(exponents)
        self.shape = (len(members), len(self.metrics) * members.shape[1])

    def rows(self, cases: np.ndarray | slice) -> np.ndarray:
        """Return the columns of some cases."""
        members = self.members[cases]
        found = np.concatenate([metric[cases][:, None] * members for metric in self.metrics], axis=1)
        for exponent in self.exponents:
            found = on_grid(found, exponent)
        return found

    def on_grid(self, exponent: int) -> "_SliceTable":
        """Return the table with rounded values."""
        return _SliceTable(self.metrics, self.members, [*self.exponents, exponent])

    def sums(self) -> np.ndarray:
        """Return the sums of the columns, in the order of the cases, `[C]`."""
        total = np.zeros((1, self.shape[1]))
        for part in self.tiles():
            total = np.concatenate([total, self.rows(part)]).sum(axis=0, keepdims=True)
        return total[0]


def _tables(
    ranked: Mapping[tuple[str, str], RankedLists], members: np.ndarray
) -> Iterator[tuple[list[tuple[str, str]], _SliceTable]]:
    """Yield a few (row, seen) keys at a time, whose table has the metrics of each, one after the other."""
    keys = [key for key, lists in ranked.items() if lists.list_length >= CUTOFF]
    step = max(1, COLUMNS_AT_ONCE // (len(METRICS) * members.shape[1]))
    for start in range(0, len(keys), step):
        columns = []
        for key in keys[start : start + step]:
            metrics = per_user_metrics(ranked[key].item_rank, [CUTOFF])
            columns += [metrics[metric] for metric in METRICS]
        yield keys[start : start + step], _SliceTable(columns, members)


def _cells(sums: np.ndarray, means: np.ndarray, cases: np.ndarray, shares: np.ndarray) -> list[dict[str, Any]]:
    """Return the cell of every label of one row.

    Args:
        sums: of the metrics over the cases of a label, `[metrics * J]`.
        means: the same over all cases of every draw, divided by their number, `[draws, metrics * J]`.
        cases: of every label, `[J]`.
        shares: of the cases of every draw that have the label, `[draws, J]`.
    """
    values = sums.reshape(len(METRICS), -1) / cases
    cells: list[dict[str, Any]] = [{"cases": int(size)} for size in cases]
    for order, metric in enumerate(METRICS):
        for part, cell in enumerate(cells):
            has_cases = shares[:, part] > 0
            drawn = means[has_cases, order * len(cells) + part] / shares[has_cases, part]
            cell[metric] = asdict(interval_of(float(values[order, part]), drawn))
    return cells


def _insert(tree: dict[str, Any], parts: Sequence[tuple[str, str]], cells: Sequence[dict[str, Any]]) -> None:
    for (name, label), cell in zip(parts, cells, strict=True):
        tree.setdefault(name, {})[label] = cell


def _check_cases(
    ranked: Mapping[tuple[str, str], RankedLists], labels: Mapping[str, np.ndarray], num_cases: int
) -> None:
    sizes = {f"row {row!r} ({seen})": len(lists) for (row, seen), lists in ranked.items()}
    sizes |= {f"slice {name!r}": len(column) for name, column in labels.items()}
    for name, size in sizes.items():
        if size != num_cases:
            raise ValueError(
                f"{name} must have one entry per case, expected {num_cases!r}, got {size!r}; make lists, labels and "
                "user ids from the same targets"
            )
