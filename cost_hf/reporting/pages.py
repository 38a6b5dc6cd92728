"""The pages of a comparison (compare.json) and of a single run (results.json), section by section in reading order.

A run is shown as a comparison with one trained system, without verdicts and without a recommendation: a single seed
does not show the variance between seeds.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cost_hf.evaluation.results import MAIN_ROW
from cost_hf.reporting import numbers, words
from cost_hf.reporting.codes import code_sections
from cost_hf.reporting.curves import curve_section
from cost_hf.reporting.document import Command, Example, Page, Section
from cost_hf.reporting.drawing import SHAPES
from cost_hf.reporting.standings import DEFAULT_PRIMARY, Standings, known_seen
from cost_hf.reporting.tables import claim_tables, cost_section, score_table, slice_section

TOY = "This is toy data made by this package: the numbers show that the parts work, nothing more."
DOTS = "Marks are values, lines are 95 % intervals."
SEEDS = "Small dots are single seeds."
BAND = "The shaded band is the interval of {}, with which the other rows are compared."
MARGIN_BAND = "The shaded band is the range of differences that count as equivalent."
PAIRED = "Differences are paired: both rows are evaluated on the same cases."
TESTED = (
    "P values are corrected for the number of claims (Holm). “Inconclusive” does not mean equal: the difference is not "
    "significant, and equivalence is not shown either."
)
RULER = "The bar above the axis is the smallest difference that is detected reliably."
SPLITS = {"leave_one_out": "leave one out", "source": "as marked by the source", "time": "by time"}
DIGEST_SHOWN = 16
DIGESTS = (("data", "digest"), ("split", "split_digest"))
SHOWN_ELSEWHERE = (  # entries of the protocol that are shown elsewhere on the page
    "alpha",
    "bootstrap_draws",
    "cases",
    "cutoffs",
    "equivalence_margin",
    "exclude_seen",
    "num_beams",
    "primary",
    "targets",
    "users",
)


def comparison_page(compare: Mapping[str, Any]) -> Page:
    """Return the page of a comparison from compare.json; missing parts are left out."""
    standings = Standings(compare)
    advice = compare.get("recommendation") or {}
    name = compare.get("name") or "comparison"
    return Page(
        title=f"Comparison: {name}",
        kicker=f"Comparison · {name}",
        headline=advice.get("headline") or "No recommendation yet",
        paragraphs=tuple(advice.get("paragraphs") or ()),
        commands=tuple(_commands(advice)),
        warnings=_warnings(standings),
        facts=data_facts(standings),
        protocol=protocol_sentences(standings),
        sections=page_sections(standings),
    )


def load_line(directory: str | Path) -> str:
    """Return the line of Python that loads a recommender."""
    return f"cost_hf.Recommender.from_pretrained({json.dumps(str(directory), ensure_ascii=False)})"


def _commands(advice: Mapping[str, Any]) -> Iterator[Command]:
    """Yield what trains the recommended system, and what loads it where it is trained."""
    if not advice.get("command"):
        return
    row = advice.get("row")
    costs = [
        f"{numbers.amount(advice['latency_ms'])} ms per request" if advice.get("latency_ms") is not None else "",
        f"{numbers.memory(advice['peak_mb'])} peak memory" if advice.get("peak_mb") is not None else "",
    ]
    cost = ", ".join(text for text in costs if text)
    is_trained = advice.get("directory") is not None
    note = f" ({cost})" if cost and not is_trained else ""
    yield Command(f"Train {row}{note}:", advice["command"], "bash")
    if is_trained:
        note = f" ({cost})" if cost else ""
        yield Command(f"This comparison has trained it{note}. Load it:", load_line(advice["directory"]), "python")


def page_sections(standings: Standings, *, scores_title: str = "Comparison") -> tuple[Section, ...]:
    """Return all sections with content."""
    sections = [
        *_score_sections(standings, scores_title),
        _claim_section(standings),
        slice_section(standings),
        curve_section(standings),
        *code_sections(standings),
        _example_section(standings.compare.get("examples") or []),
        cost_section(standings),
        reproducibility_section(standings),
    ]
    return tuple(section for section in sections if not section.is_empty)


def _score_sections(standings: Standings, title: str) -> list[Section]:
    """Return a section per setting of seen items, since results under both are not comparable."""
    found = {standings.family(name) for name in standings.in_order}
    sections = []
    for seen in known_seen(standings):
        table = score_table(standings, seen)
        is_primary = seen == standings.primary["seen"]
        other = f"The same rows, {words.SEEN.get(seen, words.spaced(seen)).lower()}"
        note = "" if is_primary else "These figures are not comparable with those of the previous table."
        lead = " ".join(part for part in (words.SEEN_MEANING.get(seen, ""), note) if part)
        sections.append(
            Section(
                anchor="scores" if is_primary else f"scores-{seen.replace('_', '-')}",
                title=title if is_primary else other,
                lead=tuple(text for text in (lead, _coverage(standings) if is_primary else "") if text),
                key=_key(standings) if is_primary else "",
                tables=(table,) if table and any(table.lines) else (),
                callout=_detectable(standings) if is_primary else "",
                families=tuple(family for family in SHAPES if family in found),
            )
        )
    return sections


def _key(standings: Standings) -> str:
    """Return how to read the drawings of the main table."""
    has_seeds = any(len(row.get("seeds") or []) > 1 for row in standings.rows.values())
    has_ruler = (standings.compare.get("detectable_difference") or {}).get("absolute") is not None
    parts = ((True, DOTS), (has_seeds, SEEDS), (standings.main, BAND.format(standings.main)), (has_ruler, RULER))
    return " ".join(text for is_wanted, text in parts if is_wanted)


def _coverage(standings: Standings) -> str:
    """Return the sources of variance that the intervals of the trained rows cover, by row where they differ."""
    names: dict[str, list[str]] = {}
    for name in standings.in_order:
        row = standings.rows[name]
        if row.get("seeds") and row.get("covers"):
            names.setdefault(row["covers"], []).append(name)
    if len(names) > 1:
        kinds = "; ".join(f"{covers} ({', '.join(rows)})" for covers, rows in names.items())
        return f"Intervals of trained rows cover {kinds}."
    return "".join(f"Intervals of trained rows cover {covers}." for covers in names)


def _detectable(standings: Standings) -> str:
    return (standings.compare.get("detectable_difference") or {}).get("text") or ""


def _claim_section(standings: Standings) -> Section:
    has_tests = any(claim.get("p") is not None for claim in standings.compare.get("claims") or [])
    has_margin = (standings.compare.get("protocol") or {}).get("equivalence_margin") is not None
    return Section(
        anchor="claims",
        title="Significance tests" if has_tests else "Paired differences",
        lead=(f"{PAIRED} {TESTED}" if has_tests else PAIRED,),
        key=MARGIN_BAND if has_margin else "",
        tables=tuple(claim_tables(standings)),
    )


def _warnings(standings: Standings) -> tuple[str, ...]:
    warnings = [TOY] if (standings.compare.get("data") or {}).get("is_toy") else []
    if not standings.compare.get("complete", True):
        done = len(standings.ranked)
        rows = words.plural(done + len(standings.waiting), "row")
        warnings.append(
            f"Not finished: {done} of {rows} have full results. Run the same command again to resume; the "
            "recommendation may still change."
        )
    return tuple(warnings)


def _example_section(examples: Sequence[Mapping[str, Any]]) -> Section:
    lists = (
        ("nearest by item vector", "nearest_text"),
        ("same first codes", "same_prefix"),
        ("most equal codes", "same_codes"),
    )
    shown = tuple(
        Example(
            item=str(example.get("item") or ""),
            sid=str(example.get("sid") or ""),
            lists=tuple((title, tuple(map(str, example[key]))) for title, key in lists if example.get(key)),
        )
        for example in examples
    )
    lead = "Items with their semantic IDs, their nearest neighbors by item vector, and items that share their codes."
    return Section("examples", "Neighbors", (lead,), examples=shown)


# true of every run; what an update changes later is in no report
TRAINED = "All figures are of the model that this run trained; what updates changed since is in updates.json."


def run_page(results: Mapping[str, Any], examples: Sequence[Mapping[str, Any]]) -> Page:
    """Return the page of a run from its results.json and examples.json."""
    standings = Standings(as_comparison(results, examples))
    recipe = results.get("recipe") or {}
    is_toy = standings.compare["data"]["is_toy"]
    name = f"{recipe.get('name') or 'run'}, seed {results.get('seed', numbers.DASH)}"
    if not is_toy:
        name = f"{_data_title(results)}: {name}"
    return Page(
        title=f"Run: {name}",
        kicker="One run",
        headline=name,
        paragraphs=(*_method_sentence(results), *_summary(standings)),
        warnings=(TOY,) if is_toy else (),
        facts=data_facts(standings),
        protocol=(*protocol_sentences(standings), TRAINED),
        sections=page_sections(standings, scores_title="Scores"),
    )


def _method_sentence(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield the name of the method, which a recipe's name need not tell."""
    method = (results.get("methods") or {}).get(MAIN_ROW)
    if method:
        yield f"Method {method['method']} ({method['summary']})."


def _data_title(results: Mapping[str, Any]) -> str:
    """Return what the data are called, or their sizes where they have no name."""
    counts = (results.get("protocol") or {}).get("counts") or {}
    sizes = [f"{numbers.amount(counts[key])} {key}" for key in ("items", "users") if key in counts]
    return str(results.get("data_name") or ", ".join(sizes) or "own data")


def as_comparison(results: Mapping[str, Any], examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return results.json in the shape of compare.json: a row per ranker, an untested claim per difference."""
    protocol = dict(results.get("protocol") or {})
    if "constraint" not in protocol:  # no beam search made the lists
        protocol.pop("num_beams", None)
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
        "family": ((results.get("methods") or {}).get(name) or {}).get("family") or "",
        "metrics": units.get("item") or {},
        "cost": {**costs, "parameters": (results.get("parameters") or {}).get(name)},
        "slices": ((results.get("slices") or {}).get(name) or {}).get(DEFAULT_PRIMARY["seen"]) or {},
    }
    return row | {"sid": units.get("sid") or {}} if name == MAIN_ROW else row


def _curves(logs: Mapping[str, Any], rows: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the training logs by row; logs that are not named after a row are those of the trained system."""
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
    metric = standings.primary["metric"]
    seen = standings.primary["seen"]
    own = standings.cell(MAIN_ROW, metric, seen=seen)
    if own is None:
        return
    name = words.metric_name(metric)
    yield f"{name} of the recommender, {words.SEEN[seen].lower()}: {numbers.interval(own)}."
    others = [row for row in standings.ranked if row != MAIN_ROW and standings.cell(row, metric, seen=seen)]
    if not others:
        return
    best = others[0]
    claim = standings.against_main(best, seen=seen)
    value = numbers.interval(standings.cell(best, metric, seen=seen))
    change = f"; {best} minus recommender: {numbers.interval(claim['difference'], signed=True)}" if claim else ""
    yield f"The best other row is {best} with {value}{change}. One seed does not show the variance between seeds."


def protocol_sentences(standings: Standings) -> tuple[str, ...]:
    """Return how the cases were made and evaluated, and the note on leakage."""
    protocol, data = (standings.compare.get(key) or {} for key in ("protocol", "data"))
    parts = []
    if protocol.get("cases") is not None:
        users = f" of {words.plural(protocol['users'], 'user')}" if protocol.get("users") is not None else ""
        parts.append(words.plural(protocol["cases"], "test case") + users)
    if data.get("split"):
        parts.append(f"split: {SPLITS.get(data['split'], words.spaced(data['split']))}")
    if protocol.get("targets", "every click") != "every click":
        parts.append(f"targets: {protocol['targets'].replace('; ', ', ')}")
    if protocol.get("num_beams") is not None:
        parts.append(f"{protocol['num_beams']} beams")
    metric = words.metric_name(standings.primary["metric"])
    seen = words.SEEN.get(standings.primary["seen"], "")
    parts += [f"primary metric: {metric} on items", seen.lower()]
    sentence = "; ".join(part for part in parts if part) + "."
    note = str(data.get("note") or "").strip().rstrip(".")
    return (sentence, f"{note[:1].upper()}{note[1:]}.") if note else (sentence,)


def reproducibility_section(standings: Standings) -> Section:
    """Return the facts that are needed to reproduce the numbers."""
    compare = standings.compare
    protocol, data = (compare.get(key) or {} for key in ("protocol", "data"))
    facts = [*_evaluation(protocol), *_seeds(compare.get("seeds"))]
    facts += [(words.spaced(key), str(value)) for key, value in protocol.items() if _is_plain(key, value)]
    facts.append(("counts", _named(data.get("counts"), numbers.amount)))
    facts.append(("shares", _named(data.get("shares"), numbers.percent)))
    proved = (protocol.get("proved") or {}).get(standings.primary["seen"]) or {}
    parts = [f"first {cutoff}: {numbers.percent(share)}" for cutoff, share in proved.items()]
    facts.append(("lists proved to hold the best items of the catalog", ", ".join(parts)))
    facts += [(f"digest of the {part}", str(data.get(key) or "")[:DIGEST_SHOWN]) for part, key in DIGESTS]
    versions = compare.get("versions") or {}
    facts.append(("versions", ", ".join(f"{name} {text}" for name, text in versions.items())))
    facts.append(("device", str(compare.get("device") or "")))
    if compare.get("seconds") is not None:
        facts.append(("total time", numbers.duration(compare["seconds"])))
    return Section("making", "Reproducibility", facts=tuple((name, text) for name, text in facts if text))


def _evaluation(protocol: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = []
    if protocol.get("bootstrap_draws") is not None:
        facts.append(("intervals", f"95 %, {numbers.amount(protocol['bootstrap_draws'])} bootstrap draws"))
    if protocol.get("alpha") is not None:
        facts.append(("better, worse", f"p after Holm's correction below {numbers.ratio(protocol['alpha'])}"))
    if protocol.get("equivalence_margin") is not None:
        margin = numbers.percent(protocol["equivalence_margin"], digits=0)
        facts.append(("equivalent", f"the 90 % interval is within ±{margin} of the second row's value"))
    if protocol.get("cutoffs"):
        facts.append(("list lengths", ", ".join(map(str, protocol["cutoffs"]))))
    return facts


def _seeds(seeds: Mapping[str, Any] | int | None) -> list[tuple[str, str]]:
    if seeds is None:
        return []
    if not isinstance(seeds, Mapping):
        return [("seed", str(seeds))]
    facts = []
    if seeds.get("quantizer") is not None:
        facts.append(("quantizer seeds", ", ".join(map(str, seeds["quantizer"]))))
    if seeds.get("generators_per_quantizer") is not None:
        facts.append(("generators per quantizer", str(seeds["generators_per_quantizer"])))
    return facts


def _is_plain(key: str, value: object) -> bool:
    return key not in SHOWN_ELSEWHERE and isinstance(value, str | int | float) and not isinstance(value, bool)


def _named(values: Mapping[str, Any] | None, write: Callable[[Any], str]) -> str:
    return ", ".join(
        f"{words.SHARES.get(name, words.spaced(name))} {write(value)}" for name, value in (values or {}).items()
    )


def data_facts(standings: Standings) -> tuple[tuple[str, str], ...]:
    """Return the figures below the headline: sizes, cases, repeated and unseen targets."""
    protocol, data = (standings.compare.get(key) or {} for key in ("protocol", "data"))
    counts = data.get("counts") or {}
    shares = data.get("shares") or {}
    facts: list[tuple[str, str]] = [(name, numbers.amount(counts[name])) for name in words.COUNTS if name in counts]
    if protocol.get("cases") is not None:
        facts.append(("test cases", numbers.amount(protocol["cases"])))
    targets: Sequence[str] = ("repeated_target", "unseen_target")
    facts += [(words.SHARES[key], numbers.percent(shares[key])) for key in targets if shares.get(key) is not None]
    return tuple(facts)
