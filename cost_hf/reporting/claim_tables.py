"""The verdicts on the claims: difference, interval, p values, and the word that follows from them."""

from collections.abc import Mapping, Sequence
from typing import Any

from cost_hf.reporting import numbers, words
from cost_hf.reporting.drawing import Scale, nice_scale
from cost_hf.reporting.page import Cell, Column, Line, LineGroup, Table
from cost_hf.reporting.row_drawings import axis, interval_drawing
from cost_hf.reporting.standings import Standings


def claim_tables(standings: Standings) -> list[Table]:
    """Return one table of claims per setting of seen items: settings never share a table."""
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
    a, b, difference = claim["a"], claim["b"], claim["difference"]
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
        Cell(f"{a} against {b}", note),
        Cell(numbers.score(difference["value"], signed=True), numbers.bounds(difference, signed=True), drawing),
    ]
    if has_tests:
        cells.append(Cell(numbers.percent(claim.get("relative"), signed=True)))
        cells += [Cell(numbers.probability(claim.get(key))) for key in ("p", "p_holm")]
        cells.append(Cell(words.verdict(claim.get("verdict")) or numbers.DASH))
    return Line(tuple(cells), family=standings.family(a))
