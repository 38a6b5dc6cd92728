"""Metrics of ranked lists: the rows and differences of results.json, and ranks.parquet.

All rows of a run share one set of bootstrap draws over users, so every difference is paired. Metrics above the longest
list that a ranker can make are null, which distinguishes a missing value from a low one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cost_hf.evaluation.ranking import RankedLists, coverage, per_user_metrics
from cost_hf.evaluation.statistics import CaseTable, bootstrap_means, interval_of, on_grid
from cost_hf.row_groups import row_groups, write_row_groups

MAIN_ROW = "recommender"
NULL = {"value": None, "low": None, "high": None}
Key = tuple[str, str, str, str]  # row name, unit, seen, metric


def build_results(
    ranked: Mapping[tuple[str, str], RankedLists],
    *,
    user_ids: Sequence[str] | np.ndarray,
    num_items: int,
    cutoffs: Sequence[int],
    draws: int = 2000,
    seed: int = 0,
    main: str = MAIN_ROW,
) -> dict[str, Any]:
    """Return `rows` and `differences` of results.json.

    Args:
        ranked: lists of every (row name, `seen_allowed` or `seen_excluded`), all on the same M cases.
        user_ids: user of every case, `[M]`; the bootstrap draws users.
        num_items: N, for coverage.
        cutoffs: list lengths k; metrics above a row's longest list are null.
        draws: number of bootstrap samples.
        seed: of the bootstrap.
        main: the row that all others are subtracted from, where it exists.

    Returns:
        `rows.<name>.<item|sid>.<seen>.<metric@k>` and `differences.<main>-<name>.<item|sid>.<seen>.<metric@k>`, each
        `{value, low, high}`. Coverage is given for items only and without bounds: it is a property of all lists
        together, and a bootstrap sample, which repeats users, covers less by construction.

    Raises:
        ValueError: where a row has another number of cases, or no metric is defined.

    Examples:
        >>> from cost_hf.evaluation.ranking import ranked_lists
        >>> lists = ranked_lists(np.array([[0, 1], [0, 1]]), np.array([1, 2]), sid_keys=None)
        >>> ranked = {("recommender", "seen_allowed"): lists}
        >>> found = build_results(ranked, user_ids=["ann", "bob"], num_items=4, cutoffs=[2])
        >>> found["rows"]["recommender"]["item"]["seen_allowed"]["recall@2"]["value"]
        0.5
    """
    table = _metrics_of_cases(ranked, len(user_ids), cutoffs)
    means = bootstrap_means(table, clusters=user_ids, draws=draws, seed=seed)  # [draws, C]
    values = table.means()
    drawn = dict(zip(values, means.T, strict=True))
    names = list(dict.fromkeys(name for name, _ in ranked))
    results: dict[str, Any] = {"rows": {}, "differences": {}}
    for (name, seen), lists in ranked.items():
        for unit in _units(lists):
            cells = _cells(values, drawn, cutoffs, (name, unit, seen))
            if unit == "item":
                cells |= {f"coverage@{k}": _coverage(lists, k, num_items) for k in cutoffs}
            _insert(results["rows"], (name, unit, seen), cells)
            if main in names and name != main and (main, seen) in ranked:
                cells = _cells(values, drawn, cutoffs, (main, unit, seen), minus=name)
                _insert(results["differences"], (f"{main}-{name}", unit, seen), cells)
    return results


def write_ranks(
    path: str | Path, ranked: Mapping[tuple[str, str], RankedLists], user_ids: Sequence[str] | np.ndarray
) -> None:
    """Write the rank of every case as parquet: `user_id, row, unit, seen, rank` (1-based, null beyond the list).

    Each (row, unit, seen) is a block of M lines in the order of the cases, so that blocks pair line by line.
    """
    users = np.asarray(user_ids, dtype=object)
    blocks = [(*key, unit, ranks) for key, lists in ranked.items() for unit, ranks in _units(lists).items()]
    groups = row_groups(len(blocks) * len(users))
    write_row_groups(path, (_rank_lines(blocks, users, group.start, group.stop) for group in groups))


def _rank_lines(
    blocks: Sequence[tuple[str, str, str, np.ndarray]], users: np.ndarray, start: int, stop: int
) -> pa.Table:
    """Return some lines of ranks.parquet, which has one for every user and block."""
    frames = []
    while start < stop:
        block, first = divmod(start, len(users))
        name, seen, unit, target_ranks = blocks[block]
        part = slice(first, min(first + stop - start, len(users)))
        ranks = pd.array(target_ranks[part], dtype="Float64").astype("Int32")
        frames.append(pd.DataFrame({"user_id": users[part], "row": name, "unit": unit, "seen": seen, "rank": ranks}))
        start += part.stop - part.start
    return pa.Table.from_pandas(pd.concat(frames, ignore_index=True), preserve_index=False)


def _units(lists: RankedLists) -> dict[str, np.ndarray]:
    """Return the target's ranks by unit of a hit; a run without semantic IDs has items only."""
    return {"item": lists.item_rank} | ({} if lists.sid_rank is None else {"sid": lists.sid_rank})


@dataclass(frozen=True, eq=False)
class _Metrics:
    """Metrics of one row: the number of each case among its distinct ranks, and what these are worth.

    Attributes:
        keys: of the metrics, c of them.
        numbers: of the ranks, unsigned `[M]`.
        values: of the metrics of every distinct rank, float64 `[ranks, c]`.
    """

    keys: list[Key]
    numbers: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, path: tuple[str, str, str], ranks: np.ndarray, cutoffs: Sequence[int]) -> "_Metrics":
        """Return the metrics of ranks `[M]`; there are far fewer different ranks than cases."""
        distinct, numbers = np.unique(ranks, return_inverse=True)
        columns = per_user_metrics(distinct, cutoffs)
        values = np.stack(list(columns.values()), axis=1)
        return cls([(*path, metric) for metric in columns], numbers.astype(np.min_scalar_type(len(distinct))), values)


class _MetricTable(CaseTable):
    """Metrics of all rows on M cases; each rank takes a byte or two, where its metrics would take 8 each."""

    def __init__(self, parts: Sequence[_Metrics], num_cases: int):
        self.parts = list(parts)
        self.shape = (num_cases, sum(len(part.keys) for part in parts))

    def rows(self, cases: np.ndarray | slice) -> np.ndarray:
        """Return the metrics of some cases, float64 `[n, C]`."""
        return np.concatenate([part.values[part.numbers[cases]] for part in self.parts], axis=1)

    def on_grid(self, exponent: int) -> "_MetricTable":
        """Return the table with rounded metrics."""
        parts = [replace(part, values=on_grid(part.values, exponent)) for part in self.parts]
        return _MetricTable(parts, self.shape[0])

    def largest(self) -> float:
        """Return the largest metric."""
        return max(float(np.abs(part.values).max(initial=0.0)) for part in self.parts)

    def are_finite(self) -> bool:
        """Tell whether no metric is nan or infinite."""
        return all(bool(np.isfinite(part.values).all()) for part in self.parts)

    def means(self) -> dict[Key, float]:
        """Return the mean of every metric over the cases."""
        return {
            key: float(part.values[:, column][part.numbers].mean())
            for part in self.parts
            for column, key in enumerate(part.keys)
        }


def _metrics_of_cases(
    ranked: Mapping[tuple[str, str], RankedLists], num_cases: int, cutoffs: Sequence[int]
) -> _MetricTable:
    parts = []
    for (name, seen), lists in ranked.items():
        if len(lists) != num_cases:
            raise ValueError(
                f"row {name!r} ({seen}) must have one rank per case, expected {num_cases!r}, got {len(lists)!r}; rank "
                "all rows on the same targets"
            )
        defined = [cutoff for cutoff in cutoffs if cutoff <= lists.list_length]
        if defined:
            parts += [_Metrics.of((name, unit, seen), ranks, defined) for unit, ranks in _units(lists).items()]
    if not parts:
        raise ValueError(
            f"no metric is defined: the lists of all {len(ranked)!r} rows are shorter than the cutoffs "
            f"{list(cutoffs)!r}; lower the cutoffs"
        )
    return _MetricTable(parts, num_cases)


def _cells(
    values: Mapping[Key, float],
    drawn: Mapping[Key, np.ndarray],
    cutoffs: Sequence[int],
    path: tuple[str, str, str],
    *,
    minus: str | None = None,
) -> dict[str, dict[str, float | None]]:
    """Return the cells of one row, or of its difference to another; null where either side has no value."""
    _, unit, seen = path
    cells: dict[str, dict[str, float | None]] = {}
    for metric in (f"{kind}@{cutoff}" for kind in ("recall", "ndcg", "mrr") for cutoff in cutoffs):
        key: Key = (*path, metric)
        other: Key | None = None if minus is None else (minus, unit, seen, metric)
        if key not in values or (other is not None and other not in values):
            cells[metric] = dict(NULL)
            continue
        value = values[key] - (0.0 if other is None else values[other])
        means = drawn[key] if other is None else drawn[key] - drawn[other]
        interval = interval_of(value, means)
        cells[metric] = {"value": interval.value, "low": interval.low, "high": interval.high}
    return cells


def _coverage(lists: RankedLists, cutoff: int, num_items: int) -> dict[str, float | None]:
    if cutoff > lists.list_length:
        return dict(NULL)
    return {"value": coverage(lists.items, cutoff, num_items=num_items), "low": None, "high": None}


def _insert(tree: dict[str, Any], path: tuple[str, str, str], cells: dict[str, Any]) -> None:
    name, unit, seen = path
    tree.setdefault(name, {}).setdefault(unit, {})[seen] = cells
