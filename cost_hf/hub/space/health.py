"""The health page: use of the codes, collisions, and the metrics of the run beside its baselines."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from cost_hf.evaluation.results import MAIN_ROW
from cost_hf.hub.cards import card_facts, score_rows
from cost_hf.hub.space.catalog_view import CatalogView
from cost_hf.hub.space.markup import notice
from cost_hf.reporting import numbers, words
from cost_hf.semantic_ids.codebook_utilization import codebook_utilization
from cost_hf.semantic_ids.level_names import level_name


def health_page(view: CatalogView, results: Mapping[str, Any] | None) -> str:
    """Return the page as HTML."""
    parts = [_codes(view) if view.has_sids else notice("This recommender scores items directly; it has no codes.")]
    parts.append(
        notice("This copy came without results.json, so nothing is said of its quality.") if not results else ""
    )
    if results:
        try:
            parts += _metrics(results)
        except (AttributeError, KeyError, TypeError, ValueError):  # of another version, or made by hand
            parts.append(notice("results.json has a form that this version does not read, so no figure is shown."))
    return "".join(parts)


def _codes(view: CatalogView) -> str:
    catalog = view.catalog
    live = catalog.codes[~catalog.removed, : catalog.model_levels]
    sizes = catalog.level_sizes[: catalog.model_levels]
    health = codebook_utilization(live, sizes)
    lines = "".join(
        f"<tr><th scope='row'>level {level_name(level)}</th>"
        f"<td>{numbers.percent(health[f'use_{level + 1}'])} of {size}</td>"
        f"<td>{numbers.amount(perplexity)}</td>"
        f"<td class='bar'><span style='width:{100 * perplexity / size:.1f}%'></span></td></tr>"
        for level, size in enumerate(sizes)
        for perplexity in [health[f"perplexity_{level + 1}"]]
    )
    report = catalog.report
    return (
        "<h3>Codes</h3><table class='codes'><thead><tr><th></th><th>codes in use</th><th>perplexity</th><th>of all</th>"
        f"</tr></thead>{lines}</table><p>{report['items']} items, {report['removed']} removed. "
        f"{numbers.percent(report['collided_share'])} of them share their codes with another (largest group "
        f"{report['largest_group']}); one more level tells them apart, or they share one ID.</p>"
    )


def _metrics(results: Mapping[str, Any]) -> list[str]:
    facts = card_facts(results)
    toy = (
        "<p><b>Toy data</b> made by cost_hf: this shows that the parts work, nothing more.</p>"
        if facts["is_toy"]
        else ""
    )
    tables = [f"<h4>{title}</h4>{_table(score_rows(results, seen=seen))}" for seen, title in words.SEEN.items()]
    return [
        f"<h3>Is it any good?</h3><p>{_plain(facts['verdict'])}</p>{toy}",
        f"<p>{facts['cases']} test cases, {escape(facts['split'])} split, seed {facts['seed']}. "
        f"{escape(facts['note'])}</p>",
        *(f"<div class='scroll' tabindex='0' role='region' aria-label='scores'>{table}</div>" for table in tables),
    ]


def _table(lines: Sequence[Sequence[str]]) -> str:
    header = "".join(f"<th scope='col'>{escape(cell)}</th>" for cell in lines[0])
    body = "".join(
        f"<tr class='{'main' if line[0] == MAIN_ROW else ''}'><th scope='row'>{escape(line[0])}</th>"
        f"{''.join(f'<td>{escape(cell)}</td>' for cell in line[1:])}</tr>"
        for line in lines[1:]
    )
    return f"<table class='scores'><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>"


def _plain(text: str) -> str:
    """Return a sentence of a card as HTML."""
    marked = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", escape(text))
    return re.sub(r"`(.+?)`", r"<code>\1</code>", marked)
