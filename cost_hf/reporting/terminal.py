"""Text for the terminal: the summary of a run and the report of a comparison, at most 110 columns wide."""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cost_hf.evaluation.results import MAIN_ROW
from cost_hf.reporting import numbers, words
from cost_hf.reporting.document import Line, Table
from cost_hf.reporting.pages import TOY, comparison_page
from cost_hf.reporting.standings import DEFAULT_PRIMARY, Standings
from cost_hf.reporting.tables import score_table
from cost_hf.terminal_text import terminal_line

WIDTH = 110
GAP = "  "
MAX_NAME = 24
VERDICT_WIDTH = 16
NULL = {"value": None}


class ExampleAnswer(NamedTuple):
    """Recommendations for one user as titles: the end of the history, oldest first, and the list, best first."""

    history: Sequence[str]
    recommended: Sequence[str]


def run_text(results: Mapping[str, Any], *, answers: Sequence[ExampleAnswer] = (), directory: str | Path) -> str:
    """Return the summary of a finished run.

    Args:
        results: content of results.json.
        answers: a few example users.
        directory: of the run.
    """
    protocol = results["protocol"]
    stages = results["stages"].items()
    costs = ", ".join(f"{name} {numbers.duration(cost['seconds'])}" for name, cost in stages)
    peak = max(cost["peak_mb"] for _, cost in stages)
    beams = f"{protocol['num_beams']} beams, " if "constraint" in protocol else ""
    data = f"{results['data_name']}: " if results.get("data_name") else ""
    targets = f"targets are {protocol['targets']}, " if protocol.get("targets", "every click") != "every click" else ""
    parts = [
        _wrapped(
            f"{data}{results['recipe']['name']}, seed {results['seed']}, {protocol['cases']} test cases, {targets}"
            f"{beams}hits on items, seen items allowed, 95 % intervals over users"
        ),
        results_table(results),
        _wrapped(protocol["note"]),
        *_cold_start(results),
        *(_example(number, answer) for number, answer in enumerate(answers, start=1)),
        _wrapped(f"{costs}; peak memory {numbers.memory(peak)}"),
        f"run directory: {directory} (with report.html)",
    ]
    if results["recipe"]["data"]["reader"] == "synthetic":
        parts.append(TOY)
    return "\n\n".join(["", *parts])


def results_table(
    results: Mapping[str, Any],
    *,
    rows: Sequence[str] | None = None,
    metrics: Sequence[str] = ("recall@10", "ndcg@10"),
    unit: str = "item",
    seen: str = "seen_allowed",
    main: str = MAIN_ROW,
) -> str:
    """Return a plain-text table of results.json, one line per row.

    Args:
        results: content of results.json.
        rows: row names, in order; by default all, best first by the first metric.
        metrics: one column each; the last column is the paired difference in the first metric, main minus row.
        unit: `item` or `sid`.
        seen: `seen_allowed` or `seen_excluded`.
        main: the row that the others are subtracted from.

    Raises:
        ValueError: for a row, unit or setting that the results do not have.
    """
    table = results["rows"]
    cells = {name: _lookup(table, (name, unit, seen)) for name in (rows if rows is not None else table)}
    if rows is None:
        cells = dict(sorted(cells.items(), key=lambda entry: -_sortable(entry[1], metrics[0])))
    lines = [["row", *(f"{metric} [95 %]" for metric in metrics), f"{main} - row, {metrics[0]}"]]
    for name, found in cells.items():
        difference = results.get("differences", {}).get(f"{main}-{name}", {}).get(unit, {}).get(seen, {})
        change = numbers.interval(difference[metrics[0]], signed=True) if metrics[0] in difference else ""
        lines.append([name, *(numbers.interval(found.get(metric)) for metric in metrics), change])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join(line.rstrip() for line in padded)


def compare_text(compare: Mapping[str, Any]) -> str:
    """Return the report of a comparison: detectable difference, scores, claims, and the recommendation last.

    Commands are not wrapped, so that they can be copied.
    """
    standings = Standings(compare)
    page = comparison_page(compare)
    parts = [_wrapped(text) for text in (*page.warnings, *page.protocol)]
    detectable = (compare.get("detectable_difference") or {}).get("text")
    if detectable:
        parts.append(_wrapped(detectable))
    table = score_table(standings, standings.primary["seen"])
    if table is not None and any(table.lines):
        parts.append("\n".join(_table(table)))
    if compare.get("claims"):
        parts.append("\n".join(_claims(standings)))
    parts += [_wrapped(text) for text in (page.headline, *page.paragraphs)]
    parts += [f"{_wrapped(command.label)}\n  {terminal_line(command.line)}" for command in page.commands]
    return "\n\n".join(parts)


def _table(table: Table) -> Iterator[str]:
    """Yield the main table: intervals of the primary metric only, messages wrapped after their row."""
    width = len(table.columns)
    full = {id(line): _texts(line) for line in table.lines if len(line.cells) == width}
    titles = [column.title for column in table.columns]
    units = ["", *("" if number < 3 else column.note for number, column in enumerate(table.columns) if number)]
    units[-1] = "" if table.columns[-1].title == "verdict" else units[-1]
    widths = [max(map(len, column)) for column in zip(titles, units, *full.values(), strict=True)]
    widths[0] = min(MAX_NAME, max(len(line.cells[0].text) for line in table.lines))
    is_text = [column.is_text for column in table.columns]
    yield _wrapped(f"{table.caption}; verdicts {table.columns[-1].note}" if "verdict" in titles else table.caption)
    yield _row(titles, widths, is_text)
    if any(units):
        yield _row(units, widths, is_text)
    for group in table.groups:
        if group.title:
            yield _wrapped(f"{group.title} ({group.note})" if group.note else group.title)
        for line in group.lines:
            texts = full.get(id(line))
            yield _row(texts, widths, is_text) if texts else _message(line, widths[0])


def _texts(line: Line) -> list[str]:
    name, primary, *rest = line.cells
    return [_short(name.text), f"{primary.text} {primary.note}".rstrip(), *(cell.text for cell in rest)]


def _row(texts: list[str], widths: list[int], is_text: list[bool]) -> str:
    cells = zip(texts, widths, is_text, strict=True)
    return GAP.join(text.ljust(width) if left else text.rjust(width) for text, width, left in cells).rstrip()


def _message(line: Line, width: int) -> str:
    start = f"{_short(line.cells[0].text):{width}}{GAP}"
    return _wrapped(line.cells[1].text, first=start, rest=" " * len(start))


def _claims(standings: Standings) -> Iterator[str]:
    """Yield a line per claim, the verdict first, with a title for every setting of seen items."""
    claims = standings.compare["claims"]
    for seen in dict.fromkeys([standings.primary["seen"], *(claim["seen"] for claim in claims)]):
        found = [claim for claim in claims if claim["seen"] == seen]
        if found:
            yield f"Claims, {words.SEEN.get(seen, words.spaced(seen)).lower()}"
        for claim in found:
            text = (
                f"{claim['a']} vs {claim['b']}: {words.metric_name(claim['metric'])} "
                f"{numbers.interval(claim['difference'], signed=True)}, p {numbers.probability(claim.get('p_holm'))}"
            )
            start = f"{words.verdict(claim.get('verdict')):{VERDICT_WIDTH}}"
            yield _wrapped(text, first=start, rest=" " * VERDICT_WIDTH)


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"


def _wrapped(text: str, *, first: str = "", rest: str = "") -> str:
    return textwrap.fill(" ".join(text.split()), WIDTH, initial_indent=first, subsequent_indent=rest)


def _cold_start(results: Mapping[str, Any]) -> list[str]:
    """Return the scores of the system on cold-start items, where the protocol has some."""
    metric = DEFAULT_PRIMARY["metric"]
    cells = results["slices"][MAIN_ROW]["seen_allowed"].get("cold_start", {})
    shown = [
        f"{label.replace('_', '-')}: {words.plural(cell['cases'], 'case')}, {words.metric_name(metric)} "
        f"{numbers.interval(cell[metric])}"
        for label, cell in cells.items()
    ]
    hidden = results["protocol"]["counts"].get("cold_items")
    return [_wrapped(f"cold start, {hidden} items hidden from training; {'; '.join(shown)}")] if shown else []


def _example(number: int, answer: ExampleAnswer) -> str:
    titles = {f"user {number} read": answer.history, "   recommended": answer.recommended}
    lines = []
    for label, names in titles.items():
        lines += [f"{'' if line else label:<17}{terminal_line(name)}" for line, name in enumerate(names)]
    return "\n".join(lines)


def _lookup(table: Mapping[str, Any], path: tuple[str, str, str]) -> Mapping[str, Any]:
    found: Any = table
    for part in path:
        if part not in found:
            raise ValueError(f"results have no {part!r} among {', '.join(map(repr, found))}; choose one of these")
        found = found[part]
    return found


def _sortable(cells: Mapping[str, Any], metric: str) -> float:
    value = cells.get(metric, NULL)["value"]
    return -math.inf if value is None else value
