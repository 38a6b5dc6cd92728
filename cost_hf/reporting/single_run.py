"""The report of one run: its results.json read as a comparison with one trained system.

A run has no verdicts and gives no advice: one seed says nothing about seeds. Its paired differences are shown as such.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cost_hf.reporting import numbers, words
from cost_hf.reporting.comparison import TOY, page_sections
from cost_hf.reporting.page import Page
from cost_hf.reporting.provenance import data_facts, protocol_sentences
from cost_hf.reporting.standings import DEFAULT_PRIMARY, Standings

MAIN_ROW = "recommender"
FAMILY_PREFIXES = {"sasrec": "dense", "ensemble": "ensemble", "oracle": "oracle"}
PRIMARY_SEEN = DEFAULT_PRIMARY["seen"]


def run_page(results: Mapping[str, Any], examples: Sequence[Mapping[str, Any]]) -> Page:
    """Return the report of a run from its results.json and examples.json."""
    standings = Standings(as_comparison(results, examples))
    recipe = results.get("recipe") or {}
    name = f"{recipe.get('name') or 'run'}, seed {results.get('seed', numbers.DASH)}"
    is_toy = standings.compare["data"]["is_toy"]
    return Page(
        title=f"Run: {name}",
        kicker="One run",
        headline=name,
        paragraphs=tuple(_summary(standings)),
        warnings=(TOY,) if is_toy else (),
        facts=data_facts(standings),
        protocol=protocol_sentences(standings),
        sections=page_sections(standings, scores_title="The scores"),
    )


def as_comparison(results: Mapping[str, Any], examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return results.json in the shape of compare.json: a row per ranker, a claim without a test per difference."""
    protocol = dict(results.get("protocol") or {})
    data = {key: protocol.pop(key) for key in ("counts", "shares", "note", "split") if key in protocol}
    reader = ((results.get("recipe") or {}).get("data") or {}).get("reader")
    data |= {"digest": results.get("data_digest"), "split_digest": results.get("split_digest")}
    return {
        "data": {**data, "is_toy": reader == "synthetic"},
        "protocol": protocol,
        "seeds": results.get("seed"),
        "rows": {name: _row(results, name) for name in results.get("rows") or {}},
        "claims": list(_claims(results.get("differences") or {})),
        "codes": {MAIN_ROW: results.get("semantic_ids") or {}},
        "curves": _curves(results.get("curves") or {}, results.get("rows") or {}),
        "examples": examples,
        **{key: results.get(key) for key in ("stages", "versions", "device")},
    }


def _row(results: Mapping[str, Any], name: str) -> dict[str, Any]:
    units = results["rows"][name]
    requests = (results.get("requests") or {}).get(name) or {}
    costs = {"request_ms": requests.get("batch_1_ms"), "batch_64_ms": requests.get("batch_64_ms")}
    row = {
        "family": family_of(name, method=(results.get("recipe") or {}).get("method")),
        "metrics": units.get("item") or {},
        "cost": {**costs, "parameters": (results.get("parameters") or {}).get(name)},
        "slices": ((results.get("slices") or {}).get(name) or {}).get(PRIMARY_SEEN) or {},
    }
    return row | {"sid": units.get("sid") or {}} if name == MAIN_ROW else row


def family_of(name: str, *, method: str | None = None) -> str:
    """Return the family of a row of a run by its name; that of the trained system follows the recipe's method."""
    if name == MAIN_ROW:
        return "dense" if method == "sasrec" else "generative"
    return next((family for prefix, family in FAMILY_PREFIXES.items() if name.startswith(prefix)), "simple")


def _curves(logs: Mapping[str, Any], rows: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the training logs by row: those named after a row are its own, all others the trained system's."""
    own = {part: log for part, log in logs.items() if part not in rows}
    return {MAIN_ROW: own, **{name: {"training": logs[name]} for name in logs if name in rows}}


def _claims(differences: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    metric = DEFAULT_PRIMARY["metric"]
    for pair, units in differences.items():
        for seen, cells in (units.get("item") or {}).items():
            difference = cells.get(metric) or {}
            if pair.startswith(f"{MAIN_ROW}-") and difference.get("value") is not None:
                other = pair.removeprefix(f"{MAIN_ROW}-")
                yield {"a": MAIN_ROW, "b": other, "metric": metric, "seen": seen, "difference": difference}


def _summary(standings: Standings) -> Iterator[str]:
    metric, seen = standings.primary["metric"], standings.primary["seen"]
    own = standings.cell(MAIN_ROW, metric, seen=seen)
    if own is None:
        return
    name = words.metric_name(metric)
    yield f"{name} of the recommender, {words.SEEN[seen].lower()}: {numbers.interval(own)}."
    others = [row for row in standings.ranked if row != MAIN_ROW and standings.cell(row, metric, seen=seen)]
    if not others:
        return
    best, claim = others[0], standings.against_main(others[0], seen=seen)
    value = numbers.interval(standings.cell(best, metric, seen=seen))
    change = f"; {best} minus recommender: {numbers.interval(claim['difference'], signed=True)}" if claim else ""
    yield f"The best other row is {best} with {value}{change}. One seed says nothing about the spread between seeds."
