"""What every row costs: training, a request, memory, weights; and the stages of a single run."""

from collections.abc import Callable, Mapping
from typing import Any

from cost_hf.reporting import numbers, words
from cost_hf.reporting.page import Cell, Column, Line, LineGroup, Section, Table
from cost_hf.reporting.row_drawings import bar
from cost_hf.reporting.standings import Standings

LEAD = "Measured on the device named below; a request is one history in and a list of items out."
COSTS = (
    ("training_minutes", "training", "min", numbers.amount),
    ("request_ms", "one request", "ms", numbers.amount),
    ("batch_64_ms", "request in a batch of 64", "ms", numbers.amount),
    ("peak_mb", "peak memory", "", numbers.memory),
    ("parameters", "weights", "number", numbers.amount),
)


def cost_section(standings: Standings) -> Section:
    """Return what every row cost, and the stages of a single run."""
    costs = {name: standings.rows[name].get("cost") or {} for name in standings.in_order}
    costs = {name: cost for name, cost in costs.items() if any(cost.get(key) is not None for key, *_ in COSTS)}
    tables = [_cost_table(standings, costs)] if costs else []
    stages = standings.compare.get("stages") or {}
    if stages:
        tables.append(_stage_table(stages))
    return Section("costs", "What it costs", (LEAD,) if costs else (), tables=tuple(tables))


def _cost_table(standings: Standings, costs: Mapping[str, Mapping[str, Any]]) -> Table:
    shown = [entry for entry in COSTS if any(cost.get(entry[0]) is not None for cost in costs.values())]
    largest = {key: max(cost.get(key) or 0.0 for cost in costs.values()) for key, *_ in shown}

    def cell(name: str, key: str, title: str, write: Callable[[float | None], str]) -> Cell:
        value = costs[name].get(key)
        if key == "parameters" or value is None or largest[key] <= 0:
            return Cell(write(value))
        label = f"{name}, {title}: {write(value)}"
        return Cell(write(value), drawing=bar(value / largest[key], label=label, family=standings.family(name)))

    lines = [
        Line(
            (Cell(name), *(cell(name, key, title, write) for key, title, _, write in shown)),
            family=standings.family(name),
            is_main=name == standings.main,
        )
        for name in costs
    ]
    columns = [Column(title, note, is_text=key != "parameters") for key, title, note, _ in shown]
    return Table("Costs per row", (Column("row", is_text=True), *columns), (LineGroup(tuple(lines)),), cards=True)


def _stage_table(stages: Mapping[str, Mapping[str, Any]]) -> Table:
    lines = []
    for name, cost in stages.items():
        texts = (words.spaced(name), numbers.duration(cost.get("seconds")), numbers.memory(cost.get("peak_mb")))
        lines.append(Line(tuple(map(Cell, texts))))
    columns = (Column("stage", is_text=True), Column("time"), Column("peak memory"))
    return Table("Stages of this run, as computed", columns, (LineGroup(tuple(lines)),))
