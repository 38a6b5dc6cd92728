"""The report of a comparison: a recommendation in words, then everything that it rests on, in reading order."""

from collections.abc import Mapping, Sequence
from typing import Any

from cost_hf.reporting import words
from cost_hf.reporting.claim_tables import claim_tables
from cost_hf.reporting.codes import code_sections
from cost_hf.reporting.costs import cost_section
from cost_hf.reporting.curves import curve_section
from cost_hf.reporting.drawing import SHAPES
from cost_hf.reporting.page import Example, Page, Section
from cost_hf.reporting.provenance import data_facts, making_section, protocol_sentences
from cost_hf.reporting.score_tables import score_table
from cost_hf.reporting.slices import slice_section
from cost_hf.reporting.standings import Standings, known_seen

TOY = "Toy data made by this package: the numbers show that the parts work, nothing more."
DOTS = "Marks are values, lines their 95 % intervals."
SEEDS = "Small dots are single seeds."
BAND = "The shaded band is the interval of {}, the row that the others are compared with."
MARGIN_BAND = "The shaded band is the range of differences that count as equivalent."
PAIRED = "Differences are paired: both rows answer the same cases."
TESTED = (
    "The p values are corrected for the number of claims (Holm). “Undecided” is not “equal”: it says that these data "
    "cannot tell."
)
RULER = "The bar above the axis is as long as the smallest difference that can be relied upon to be found."


def comparison_page(compare: Mapping[str, Any]) -> Page:
    """Return the report of compare.json; parts that are not in it are left out."""
    standings = Standings(compare)
    advice = compare.get("recommendation") or {}
    name = compare.get("name") or "comparison"
    return Page(
        title=f"Comparison: {name}",
        kicker=f"Comparison · {name}",
        headline=advice.get("headline") or "There is no recommendation yet",
        paragraphs=tuple(advice.get("paragraphs") or ()),
        warnings=_warnings(standings),
        facts=data_facts(standings),
        protocol=protocol_sentences(standings),
        sections=page_sections(standings),
    )


def page_sections(standings: Standings, *, scores_title: str = "The comparison") -> tuple[Section, ...]:
    """Return all sections that have something to show."""
    sections = [
        *_score_sections(standings, scores_title),
        _claim_section(standings),
        slice_section(standings),
        curve_section(standings),
        *code_sections(standings),
        _example_section(standings.compare.get("examples") or []),
        cost_section(standings),
        making_section(standings),
    ]
    return tuple(section for section in sections if not section.is_empty)


def _score_sections(standings: Standings, title: str) -> list[Section]:
    """Return a section per setting of seen items: hits under one rule are not hits under the other."""
    found, sections = {standings.family(name) for name in standings.in_order}, []
    for seen in known_seen(standings):
        table = score_table(standings, seen)
        is_primary = seen == standings.primary["seen"]
        other = f"The same rows, {words.SEEN.get(seen, words.spaced(seen)).lower()}"
        note = "" if is_primary else "These figures are not comparable with those of the table before."
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
    """Return what the intervals of the trained rows cover; more than one kind is told by name."""
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
        title="What can be claimed" if has_tests else "Paired differences",
        lead=(f"{PAIRED} {TESTED}" if has_tests else PAIRED,),
        key=MARGIN_BAND if has_margin else "",
        tables=tuple(claim_tables(standings)),
    )


def _warnings(standings: Standings) -> tuple[str, ...]:
    warnings = [TOY] if (standings.compare.get("data") or {}).get("is_toy") else []
    if not standings.compare.get("complete", True):
        done, all_rows = len(standings.ranked), len(standings.ranked) + len(standings.waiting)
        warnings.append(
            f"Not finished: {done} of {words.plural(all_rows, 'row')} have full results. The same command goes on "
            "where it stopped; the advice may still change."
        )
    return tuple(warnings)


def _example_section(examples: Sequence[Mapping[str, Any]]) -> Section:
    lists = (("nearest by text", "nearest_text"), ("same first codes", "same_prefix"))
    shown = tuple(
        Example(
            item=str(example.get("item") or ""),
            sid=str(example.get("sid") or ""),
            lists=tuple((title, tuple(map(str, example[key]))) for title, key in lists if example.get(key)),
        )
        for example in examples
    )
    lead = "Items with their semantic IDs: the neighbors by text, and those that the first codes put beside them."
    return Section("examples", "Neighbors", (lead,), examples=shown)
