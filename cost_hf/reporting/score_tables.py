"""The tables of scores: one per setting of seen items, the rows that are not ranked in groups of their own."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from cost_hf.reporting import numbers, words
from cost_hf.reporting.drawing import Scale, nice_scale
from cost_hf.reporting.page import NO_DRAWING, Cell, Column, Line, LineGroup, Table
from cost_hf.reporting.row_drawings import axis, interval_drawing
from cost_hf.reporting.standings import Standings

COSTS = (
    ("training_minutes", "training", "min", numbers.amount),
    ("request_ms", "request", "ms", numbers.amount),
    ("peak_mb", "memory", "peak", numbers.memory),
)


def score_table(standings: Standings, seen: str) -> Table | None:
    """Return the table of one setting of seen items, best row first; None where no row was judged in it.

    The primary setting also shows seeds, costs, and the rows that have no scores.
    """
    is_primary = seen == standings.primary["seen"]
    judged = {name for name in standings.in_order if (standings.rows[name].get("metrics") or {}).get(seen)}
    if not judged and not is_primary:
        return None
    parts = [
        ("", "", standings.ranked),
        ("No full result", "", standings.waiting),
        ("For orientation, never ranked", _reference_note(standings), standings.reference),
    ]
    build = _LineBuilder(standings, seen)
    groups = []
    for title, note, names in parts:
        shown = [name for name in standings.best_first(names, seen=seen) if is_primary or name in judged]
        groups.append(LineGroup(tuple(build.line(name, name in judged) for name in shown), title, note))
    metric = words.metric_name(standings.primary["metric"])
    return Table(
        caption=f"{words.SEEN.get(seen, words.spaced(seen))}, hits on items, best {metric} first",
        columns=build.columns(),
        groups=tuple(group for group in groups if group.lines),
        cards=True,
    )


class _LineBuilder:
    """Builds the lines of one score table, which share axes and optional columns."""

    def __init__(self, standings: Standings, seen: str):
        self.standings, self.seen = standings, seen
        self.is_primary = seen == standings.primary["seen"]
        self.scales = {metric: self._scale(metric) for metric in standings.metrics}
        self.claims = {name: standings.against_main(name, seen=seen) for name in standings.in_order}
        costs = [standings.rows[name].get("cost") or {} for name in standings.in_order] if self.is_primary else []
        self.costs = [entry for entry in COSTS if any(cost.get(entry[0]) is not None for cost in costs)]
        self.has_seeds = self.is_primary and any(row.get("seeds") for row in standings.rows.values())
        self.has_claims = any(self.claims.values())
        self.has_verdicts = any(claim and claim.get("verdict") for claim in self.claims.values())

    def columns(self) -> tuple[Column, ...]:
        detectable = (self.standings.compare.get("detectable_difference") or {}).get("absolute")
        columns = [Column("row", is_text=True)]
        for metric, scale in self.scales.items():
            ruler = detectable if self.is_primary and metric == self.standings.primary["metric"] else None
            columns.append(Column(words.metric_name(metric), "95 % interval", axis(scale, ruler=ruler), is_text=True))
        if self.has_seeds:
            columns.append(Column("seeds"))
        columns += [Column(title, note) for _, title, note, _ in self.costs]
        if self.has_claims:
            title = "verdict" if self.has_verdicts else "difference"
            columns.append(Column(title, f"against {self.standings.main}", is_text=True))
        return tuple(columns)

    def line(self, name: str, has_scores: bool) -> Line:
        row = self.standings.rows[name]
        is_main = name == self.standings.main
        status = words.STATUSES.get(row.get("status") or "", "")
        message = ": ".join(part for part in (status, row.get("message") or "") if part)
        title = Cell(name, note=(message if has_scores else "") or self._description(name))
        if not has_scores:
            rest: tuple[Cell, ...] = (Cell(message or numbers.DASH, span=len(self.columns()) - 1),)
        else:
            rest = (*self._scores(name), *self._facts(name, row, is_main=is_main))
        return Line((title, *rest), family=row.get("family") or "", is_main=is_main)

    def _description(self, name: str) -> str:
        if not self.is_primary:
            return ""
        return str((self.standings.compare.get("recipes") or {}).get(name) or "")

    def _scores(self, name: str) -> list[Cell]:
        cells = []
        for metric, scale in self.scales.items():
            cell = self.standings.cell(name, metric, seen=self.seen)
            drawing = NO_DRAWING if cell is None else self._drawing(name, metric, cell, scale)
            cells.append(Cell(numbers.score(cell["value"] if cell else None), numbers.bounds(cell), drawing))
        return cells

    def _drawing(self, name: str, metric: str, cell: Mapping[str, Any], scale: Scale) -> Markup:
        main = self.standings.cell(self.standings.main or "", metric, seen=self.seen)
        has_band = main is not None and main.get("low") is not None and main.get("high") is not None
        return interval_drawing(
            cell,
            scale,
            label=f"{name}, {words.metric_name(metric)} {numbers.interval(cell)}",
            family=self.standings.family(name),
            band=(main["low"], main["high"]) if main is not None and has_band else None,
        )

    def _facts(self, name: str, row: Mapping[str, Any], *, is_main: bool) -> list[Cell]:
        cells = [Cell(str(len(row.get("seeds") or [])) if row.get("seeds") else numbers.DASH)] if self.has_seeds else []
        cost = row.get("cost") or {}
        cells += [Cell(write(cost.get(key))) for key, _, _, write in self.costs]
        if not self.has_claims:
            return cells
        claim = self.claims[name]
        if claim is None:
            return [*cells, Cell("main row" if is_main else numbers.DASH)]
        change = numbers.interval(claim["difference"], signed=True)
        return [*cells, Cell(words.verdict(claim.get("verdict")) or change, change if claim.get("verdict") else "")]

    def _scale(self, metric: str) -> Scale:
        cells = [self.standings.cell(name, metric, seen=self.seen) or {} for name in self.standings.in_order]
        return nice_scale(cell.get(part) for cell in cells for part in ("value", "low", "high"))


def _reference_note(standings: Standings) -> str:
    families = dict.fromkeys(standings.family(name) for name in standings.reference)
    return "; ".join(f"{family}: {words.REFERENCE_NOTES[family]}" for family in families)
