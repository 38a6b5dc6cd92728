"""The tables of a report: scores, verdicts on the claims, slices, and costs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from cost_hf.reporting import numbers, words
from cost_hf.reporting.document import NO_DRAWING, Cell, Column, Line, LineGroup, Section, Table
from cost_hf.reporting.drawing import Scale, axis, bar, interval_drawing, nice_scale
from cost_hf.reporting.standings import Standings

Slices = Mapping[str, Mapping[str, Mapping[str, Any]]]
SCORE_COSTS = (  # key, title, unit, format: the columns of costs beside the scores
    ("training_minutes", "training", "min", numbers.amount),
    ("request_ms", "request", "ms", numbers.amount),
    ("peak_mb", "memory", "peak", numbers.memory),
)
COSTS = (
    ("training_minutes", "training", "min", numbers.amount),
    ("request_ms", "one request", "ms", numbers.amount),
    ("batch_64_ms", "request in a batch of 64", "ms", numbers.amount),
    ("peak_mb", "peak memory", "", numbers.memory),
    ("parameters", "weights", "number", numbers.amount),
)
COST_LEAD = "Measured on the device named below. A request is one history, answered with a list of items."


def score_table(standings: Standings, seen: str) -> Table | None:
    """Return the table of one setting of seen items, best row first; None where no row has scores in it.

    The primary setting also shows seeds, costs, and the rows that have no scores.
    """
    is_primary = seen == standings.primary["seen"]
    scored = {name for name in standings.in_order if (standings.rows[name].get("metrics") or {}).get(seen)}
    if not scored and not is_primary:
        return None
    parts = [
        ("", "", standings.ranked),
        ("Without full results", "", standings.waiting),
        ("For reference, not ranked", _reference_note(standings), standings.reference),
    ]
    build = _LineBuilder(standings, seen)
    groups = []
    for title, note, names in parts:
        shown = [name for name in standings.best_first(names, seen=seen) if is_primary or name in scored]
        groups.append(LineGroup(tuple(build.line(name, name in scored) for name in shown), title, note))
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
        self.standings = standings
        self.seen = seen
        self.is_primary = seen == standings.primary["seen"]
        self.scales = {metric: self._scale(metric) for metric in standings.metrics}
        self.claims = {name: standings.against_main(name, seen=seen) for name in standings.in_order}
        costs = [standings.rows[name].get("cost") or {} for name in standings.in_order] if self.is_primary else []
        self.costs = [entry for entry in SCORE_COSTS if any(cost.get(entry[0]) is not None for cost in costs)]
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
            columns.append(Column(title, f"vs {self.standings.main}", is_text=True))
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


def claim_tables(standings: Standings) -> list[Table]:
    """Return one table of claims per setting of seen items, since results under both are not comparable."""
    claims = standings.compare.get("claims") or []
    order = dict.fromkeys([standings.primary["seen"], *(claim["seen"] for claim in claims)])
    found = [(seen, [claim for claim in claims if claim["seen"] == seen]) for seen in order]
    return [_claim_table(standings, seen, part) for seen, part in found if part]


def _claim_table(standings: Standings, seen: str, claims: Sequence[Mapping[str, Any]]) -> Table:
    parts = [claim["difference"].get(part) for claim in claims for part in ("value", "low", "high")]
    scale = nice_scale([0.0, *parts])
    has_tests = any(claim.get("p") is not None for claim in claims)
    columns = [Column("rows", is_text=True), Column("difference", "95 % interval", axis(scale), is_text=True)]
    if has_tests:
        columns += [Column("relative"), Column("p"), Column("p, Holm"), Column("verdict", is_text=True)]
    lines = tuple(_claim_line(standings, claim, scale, has_tests=has_tests) for claim in claims)
    return Table(
        caption=f"{words.SEEN.get(seen, words.spaced(seen))}: first row minus second row",
        columns=tuple(columns),
        groups=(LineGroup(lines),),
        cards=True,
    )


def _claim_line(standings: Standings, claim: Mapping[str, Any], scale: Scale, *, has_tests: bool) -> Line:
    a = claim["a"]
    b = claim["b"]
    difference = claim["difference"]
    metric = words.metric_name(claim["metric"])
    base = standings.cell(b, claim["metric"], seen=claim["seen"])
    margin = (standings.compare.get("protocol") or {}).get("equivalence_margin")
    reach = margin * base["value"] if margin is not None and base is not None else None
    drawing = interval_drawing(
        difference,
        scale,
        label=f"{a} minus {b}, {metric} {numbers.interval(difference, signed=True)}",
        family=standings.family(a),
        band=(-reach, reach) if reach is not None else None,
        rule=0.0,
    )
    note = f"{metric}, {claim['purpose']}" if claim.get("purpose") else metric
    cells = [
        Cell(f"{a} vs {b}", note),
        Cell(numbers.score(difference["value"], signed=True), numbers.bounds(difference, signed=True), drawing),
    ]
    if has_tests:
        cells.append(Cell(numbers.percent(claim.get("relative"), signed=True)))
        cells += [Cell(numbers.probability(claim.get(key))) for key in ("p", "p_holm")]
        cells.append(Cell(words.verdict(claim.get("verdict")) or numbers.DASH))
    return Line(tuple(cells), family=standings.family(a))


def slice_section(standings: Standings) -> Section:
    """Return a table per slicing, rows in the order of the main table, cells tinted by value."""
    by_row = {name: standings.rows[name].get("slices") or {} for name in standings.in_order}
    kinds = dict.fromkeys(kind for slices in by_row.values() for kind in slices)
    known = [kind for kind in words.SLICES if kind in kinds]
    metric = standings.primary["metric"]
    tables = [
        _table(standings, kind, by_row, metric) for kind in [*known, *(kind for kind in kinds if kind not in known)]
    ]
    return Section(
        anchor="slices",
        title="Results by slice",
        lead=(
            f"{words.metric_name(metric)} on parts of the test cases, with 95 % intervals. Slices with few cases are "
            "uncertain; the counts are in the head of the columns.",
        ),
        key="The tint of a cell is its value relative to the best of its column.",
        tables=tuple(tables),
        side_by_side=True,
    )


def _table(standings: Standings, kind: str, by_row: Mapping[str, Slices], metric: str) -> Table:
    parts = {name: slices[kind] for name, slices in by_row.items() if slices.get(kind)}
    labels = list(dict.fromkeys(label for row in parts.values() for label in row))
    cases = {label: next((row[label].get("cases") for row in parts.values() if label in row), None) for label in labels}
    ranked = [row for name, row in parts.items() if name not in standings.reference]
    best = {label: max((_value(row, label, metric) or 0.0 for row in ranked), default=0.0) for label in labels}
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


def cost_section(standings: Standings) -> Section:
    """Return the costs of every row, and the stages of a single run."""
    costs = {name: standings.rows[name].get("cost") or {} for name in standings.in_order}
    costs = {name: cost for name, cost in costs.items() if any(cost.get(key) is not None for key, *_ in COSTS)}
    tables = [_cost_table(standings, costs)] if costs else []
    stages = standings.compare.get("stages") or {}
    if stages:
        tables.append(_stage_table(stages))
    return Section("costs", "Costs", (COST_LEAD,) if costs else (), tables=tuple(tables))


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
    return Table("Stages of this run", columns, (LineGroup(tuple(lines)),))
