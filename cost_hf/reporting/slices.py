"""Where a system wins and where it loses: the primary metric on parts of the cases, one small table per slicing."""

from collections.abc import Mapping
from typing import Any

from cost_hf.reporting import numbers, words
from cost_hf.reporting.page import Cell, Column, Line, LineGroup, Section, Table
from cost_hf.reporting.standings import Standings

Slices = Mapping[str, Mapping[str, Mapping[str, Any]]]


def slice_section(standings: Standings) -> Section:
    """Return a table per slicing, rows in the order of the main table, each column tinted up to its best value."""
    by_row = {name: standings.rows[name].get("slices") or {} for name in standings.in_order}
    kinds = dict.fromkeys(kind for slices in by_row.values() for kind in slices)
    known = [kind for kind in words.SLICES if kind in kinds]
    metric = standings.primary["metric"]
    tables = [
        _table(standings, kind, by_row, metric) for kind in [*known, *(kind for kind in kinds if kind not in known)]
    ]
    return Section(
        anchor="slices",
        title="Where they differ",
        lead=(
            f"{words.metric_name(metric)} on parts of the test cases, with 95 % intervals. Parts with few cases say "
            "little: look at the counts.",
        ),
        key="The deeper the tint of a cell, the nearer it is to the best of its column.",
        tables=tuple(tables),
        side_by_side=True,
    )


def _table(standings: Standings, kind: str, by_row: Mapping[str, Slices], metric: str) -> Table:
    parts = {name: slices[kind] for name, slices in by_row.items() if slices.get(kind)}
    labels = list(dict.fromkeys(label for row in parts.values() for label in row))
    cases = {label: next((row[label].get("cases") for row in parts.values() if label in row), None) for label in labels}
    rivals = [row for name, row in parts.items() if name not in standings.reference]
    best = {label: max((_value(row, label, metric) or 0.0 for row in rivals), default=0.0) for label in labels}
    lines = tuple(
        Line(
            (Cell(name), *(_cell(row, label, metric, best[label]) for label in labels)),
            family=standings.family(name),
            is_main=name == standings.main,
        )
        for name, row in parts.items()
    )
    columns = [Column(words.LABELS.get(label, words.spaced(label)), _cases(cases[label])) for label in labels]
    return Table(
        caption=words.SLICES.get(kind, words.spaced(kind)),
        columns=(Column("row", is_text=True), *columns),
        groups=(LineGroup(lines),),
    )


def _cell(row: Mapping[str, Any], label: str, metric: str, best: float) -> Cell:
    value = _value(row, label, metric)
    if value is None:
        return Cell(numbers.DASH)
    shade = min(value / best, 1.0) if best > 0 else 0.0
    return Cell(numbers.score(value), numbers.bounds(row[label][metric]), shade=shade)


def _value(row: Mapping[str, Any], label: str, metric: str) -> float | None:
    return ((row.get(label) or {}).get(metric) or {}).get("value")


def _cases(count: int | None) -> str:
    return "" if count is None else words.plural(count, "case")
