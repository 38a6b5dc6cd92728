"""From ranks to numbers: the rows and differences of results.json, ranks.parquet, and the table on the terminal.

All rows of a run share one set of bootstrap draws over users, so every difference is paired. Metrics above the longest
list that a ranker can make are null: a missing value is told apart from a bad one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cost_hf.evaluation.ranking import RankedLists, coverage, per_user_metrics
from cost_hf.evaluation.statistics import bootstrap_means, interval_of
from cost_hf.files import atomic_path

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
        user_ids: whose case it is, `[M]`; the bootstrap draws users.
        num_items: N, for coverage.
        cutoffs: list lengths k; above a row's longest list its metrics are null.
        draws: bootstrap samples.
        seed: of the draws.
        main: the row that all others are compared with, where it is there.

    Returns:
        `rows.<name>.<item|sid>.<seen>.<metric@k>` and `differences.<main>-<name>.<item|sid>.<seen>.<metric@k>`, each
        `{value, low, high}`. Coverage stands in item rows, without bounds: it is a property of all lists together, and
        a sample of users with repeats covers less by construction.

    Raises:
        ValueError: where a row has another number of cases.
    """
    columns = _metric_columns(ranked, len(user_ids), cutoffs)
    keys, table = list(columns), np.stack(list(columns.values()), axis=1)  # [M, C]
    means = bootstrap_means(table, clusters=user_ids, draws=draws, seed=seed)  # [draws, C]
    values = {key: float(column.mean()) for key, column in columns.items()}
    drawn = dict(zip(keys, means.T, strict=True))
    names = list(dict.fromkeys(name for name, _ in ranked))
    results: dict[str, Any] = {"rows": {}, "differences": {}}
    for (name, seen), lists in ranked.items():
        for unit in _units(lists):
            cells = _cells(values, drawn, cutoffs, (name, unit, seen))
            if unit == "item":
                cells |= {f"coverage@{k}": _coverage(lists, k, num_items) for k in cutoffs}
            _place(results["rows"], (name, unit, seen), cells)
            if main in names and name != main and (main, seen) in ranked:
                cells = _cells(values, drawn, cutoffs, (main, unit, seen), minus=name)
                _place(results["differences"], (f"{main}-{name}", unit, seen), cells)
    return results


def write_ranks(
    path: str | Path, ranked: Mapping[tuple[str, str], RankedLists], user_ids: Sequence[str] | np.ndarray
) -> None:
    """Write the rank of every case as parquet: `user_id, row, unit, seen, rank` (1-based, null beyond the list).

    Each (row, unit, seen) is a block of M lines in the order of the cases, so blocks pair line by line.
    """
    frames = []
    users = np.asarray(user_ids, dtype=object)
    for (name, seen), lists in ranked.items():
        for unit, places in _units(lists).items():
            ranks = pd.array(places, dtype="Float64").astype("Int32")
            block = {"user_id": users, "row": name, "unit": unit, "seen": seen, "rank": ranks}
            frames.append(pd.DataFrame(block))
    with atomic_path(path) as temporary:
        pd.concat(frames, ignore_index=True).to_parquet(temporary, index=False)


def format_table(
    results: Mapping[str, Any],
    *,
    rows: Sequence[str] | None = None,
    metrics: Sequence[str] = ("recall@10", "ndcg@10"),
    unit: str = "item",
    seen: str = "seen_allowed",
    main: str = MAIN_ROW,
) -> str:
    """Return a plain-text table of results.json, one line per row, best first by the first metric.

    Args:
        results: content of results.json.
        rows: row names, in order; all by default, sorted by value.
        metrics: one column each; the first one has a further column with the paired difference, main minus row.
        unit: `item` or `sid`.
        seen: `seen_allowed` or `seen_excluded`.
        main: the row that differences start from.

    Raises:
        ValueError: for a row, unit or setting that the results do not have.
    """
    table = results["rows"]
    cells = {name: _lookup(table, (name, unit, seen)) for name in (rows if rows is not None else table)}
    if rows is None:
        cells = dict(sorted(cells.items(), key=lambda entry: -_sortable(entry[1], metrics[0])))
    header = ["row", *(f"{metric} [95 %]" for metric in metrics), f"{main} - row, {metrics[0]}"]
    lines = [header]
    for name, metric_cells in cells.items():
        difference = results.get("differences", {}).get(f"{main}-{name}", {}).get(unit, {}).get(seen, {})
        shown = [format_interval(metric_cells.get(metric, NULL)) for metric in metrics]
        change = format_interval(difference[metrics[0]], signed=True) if metrics[0] in difference else ""
        lines.append([name, *shown, change])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join(line.rstrip() for line in padded)


def format_interval(cell: Mapping[str, float | None], *, signed: bool = False) -> str:
    """Return `.0941 [.0843, .1041]`, `-` for a null value; without bounds the value alone."""

    def short(number: float) -> str:
        text = f"{number:+.4f}" if signed else f"{number:.4f}"
        return text.replace("0.", ".", 1) if abs(number) < 1 else text

    value, low, high = (cell[part] for part in ("value", "low", "high"))
    if value is None:
        return "-"
    return short(value) if low is None or high is None else f"{short(value)} [{short(low)}, {short(high)}]"


def _units(lists: RankedLists) -> dict[str, np.ndarray]:
    """Return the target's place in the lists by unit of a hit; a run without semantic IDs has items only."""
    return {"item": lists.item_rank} | ({} if lists.sid_rank is None else {"sid": lists.sid_rank})


def _metric_columns(
    ranked: Mapping[tuple[str, str], RankedLists], num_cases: int, cutoffs: Sequence[int]
) -> dict[Key, np.ndarray]:
    columns: dict[Key, np.ndarray] = {}
    for (name, seen), lists in ranked.items():
        if len(lists) != num_cases:
            raise ValueError(
                f"row {name!r} ({seen}) must have one rank per case, expected {num_cases!r}, got {len(lists)!r}; rank "
                "all rows on the same targets"
            )
        judged = [cutoff for cutoff in cutoffs if cutoff <= lists.list_length]
        for unit, places in _units(lists).items():
            for metric, values in per_user_metrics(places, judged).items():
                columns[name, unit, seen, metric] = values
    if not columns:
        raise ValueError(f"nothing to report: {len(ranked)!r} rows, cutoffs {list(cutoffs)!r}; lower the cutoffs")
    return columns


def _cells(
    values: Mapping[Key, float],
    drawn: Mapping[Key, np.ndarray],
    cutoffs: Sequence[int],
    place: tuple[str, str, str],
    *,
    minus: str | None = None,
) -> dict[str, dict[str, float | None]]:
    """Return the cells of one row, or of its difference to another; null where either side was not judged."""
    _, unit, seen = place
    cells: dict[str, dict[str, float | None]] = {}
    for metric in (f"{kind}@{cutoff}" for kind in ("recall", "ndcg", "mrr") for cutoff in cutoffs):
        key: Key = (*place, metric)
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


def _place(tree: dict[str, Any], path: tuple[str, str, str], cells: dict[str, Any]) -> None:
    name, unit, seen = path
    tree.setdefault(name, {}).setdefault(unit, {})[seen] = cells


def _lookup(table: Mapping[str, Any], path: tuple[str, str, str]) -> Mapping[str, Any]:
    found: Any = table
    for part in path:
        if part not in found:
            raise ValueError(f"results have no {part!r} among {', '.join(map(repr, found))}; choose one of these")
        found = found[part]
    return found


def _sortable(cells: Mapping[str, Any], metric: str) -> float:
    value = cells.get(metric, NULL)["value"]
    return -np.inf if value is None else value
