"""The report on the terminal: the smallest visible difference, the table, the verdicts, and last the advice."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from cost_hf.reporting import numbers, words
from cost_hf.reporting.comparison import comparison_page
from cost_hf.reporting.page import Line, Table
from cost_hf.reporting.score_tables import score_table
from cost_hf.reporting.standings import Standings

WIDTH = 110
GAP = "  "
MAX_NAME = 24
VERDICT_WIDTH = 14


def compare_text(compare: Mapping[str, Any]) -> str:
    """Return the words of a comparison for a terminal, at most 110 columns wide."""
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
    return "\n\n".join([*parts, *(_wrapped(text) for text in (page.headline, *page.paragraphs))])


def _table(table: Table) -> Iterator[str]:
    """Yield the main table: the interval beside the primary metric only, messages wrapped behind their row."""
    width = len(table.columns)
    full = {id(line): _texts(line) for line in table.lines if len(line.cells) == width}
    titles = [column.title for column in table.columns]
    units = ["", *("" if place < 3 else column.note for place, column in enumerate(table.columns) if place)]
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
    """Yield a line per claim, the verdict first; the settings of seen items under titles of their own."""
    claims = standings.compare["claims"]
    for seen in dict.fromkeys([standings.primary["seen"], *(claim["seen"] for claim in claims)]):
        found = [claim for claim in claims if claim["seen"] == seen]
        if found:
            yield f"Claims, {words.SEEN.get(seen, words.spaced(seen)).lower()}"
        for claim in found:
            text = (
                f"{claim['a']} against {claim['b']}: {words.metric_name(claim['metric'])} "
                f"{numbers.interval(claim['difference'], signed=True)}, p {numbers.probability(claim.get('p_holm'))}"
            )
            start = f"{words.verdict(claim.get('verdict')):{VERDICT_WIDTH}}"
            yield _wrapped(text, first=start, rest=" " * VERDICT_WIDTH)


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"


def _wrapped(text: str, *, first: str = "", rest: str = "") -> str:
    return textwrap.fill(" ".join(text.split()), WIDTH, initial_indent=first, subsequent_indent=rest)
