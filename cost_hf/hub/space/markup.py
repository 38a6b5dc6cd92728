"""The HTML of the demo; all texts of items and visitors are escaped here."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from cost_hf.evaluation.results import MAIN_ROW
from cost_hf.hub.cards import card_facts, score_rows
from cost_hf.hub.space.catalog_view import CatalogView, Listed, Prefix
from cost_hf.reporting import numbers, words
from cost_hf.semantic_ids.codebook_utilization import codebook_utilization
from cost_hf.semantic_ids.vocabulary import level_name


def notice(text: str, *, is_error: bool = False) -> str:
    """Return a line about an empty state or an error."""
    role, kind = ("alert", "error") if is_error else ("status", "quiet")
    return f'<p class="notice {kind}" role="{role}">{escape(text)}</p>'


def header(view: CatalogView) -> str:
    """Return the head of the page."""
    title = "Recommendation with semantic IDs" if view.has_sids else "Recommendation"
    count = f"{view.num_items:,} items in the catalog"
    return f"<header class='head'><h1>{title}</h1><p>{count}</p></header>"


def chips(codes: Prefix, *, shared: int = 0, appended: int | None = None) -> str:
    """Return codes as a row of chips; the first `shared` ones are highlighted, the level `appended` is dashed."""
    parts = []
    for level, code in enumerate(codes):
        kind = " shared" if level < shared else ""
        kind += " appended" if level == appended else ""
        parts.append(f'<span class="chip level-{level % 4}{kind}">{level_name(level)}&#8202;{code}</span>')
    return f'<span class="chips" aria-label="semantic ID {" ".join(map(str, codes))}">{"".join(parts)}</span>'


def ranking(view: CatalogView, answers: Sequence[Listed]) -> str:
    """Return ranked items as a list: title, score, the codes where there are semantic IDs, and why it is there."""
    lines = []
    scores = [listed.score for listed in answers]
    has_reserved = False
    for place, (row, score, is_added, explanation, shared) in enumerate(answers):
        path = f"{chips(view.sid(row), shared=shared, appended=_appended(view))} " if view.has_sids else ""
        is_reserved = score < max(scores[place:])  # items with a better score are ranked below it
        has_reserved = has_reserved or is_reserved
        tags = [*(["added in this demo"] if is_added else []), *(["reserved place"] if is_reserved else [])]
        tag = f'<span class="added">{", ".join(tags)}</span>' if tags else ""
        explained = "<br>".join(map(escape, explanation.splitlines()))
        detail = f'<span class="why">{path}<span>{explained}</span></span>' if path or explained else ""
        facts = view.facts(row)
        known = f'<span class="facts">{escape(facts)}</span>' if facts else ""
        lines.append(
            f'<li><span class="title">{escape(view.label(row))}</span>'
            f'<span class="score" title="score of the model">{score:.2f}</span>{tag}{known}{detail}</li>'
        )
    note = notice("Some places are reserved for items without clicks in training, whatever their score.")
    return f'{note if has_reserved else ""}<ol class="ranking">{"".join(lines)}</ol>'


def added(
    view: CatalogView,
    row: int,
    *,
    history: Sequence[str],
    answers: Sequence[Listed],
    place: int | None,
) -> str:
    """Return an added item with its ID, and the recommendations for a history of similar items.

    Args:
        row: of the added item.
        history: item ids.
        answers: the first places of the list, as for `ranking`.
        place: of the added item in the whole list, counted from 1; None where it is not in the longest one.
    """
    rows = view.catalog.rows_of(history).tolist()
    names = ", ".join(f"<q>{escape(view.label(other))}</q>" for other in rows)
    if place is None:
        where = "The new item is not in the longest list of this demo: others are ranked higher."
    elif place > len(answers):
        where = f"The new item is at place {place}: others are ranked higher."
    else:
        where = f"The new item is at place {place}."
    own = items(view, [(row, 0)]) if view.has_sids else f'<p class="title">{escape(view.label(row))}</p>'
    return f"<h4>Added</h4>{own}<h4>Recommendations after {names}</h4>{notice(where)}{ranking(view, answers)}"


def branches(view: CatalogView, prefix: Prefix) -> str:
    """Return a prefix with its subtree: bars for the codes that follow, then the first items."""
    rows, total = view.items(prefix)
    if not prefix:
        rows = []  # the items below the root have nothing in common
    crumbs = chips(prefix, appended=_appended(view)) if prefix else '<span class="root">all items</span>'
    below = view.branches(prefix)
    most = max((branch.items for branch in below), default=1)
    bars = "".join(
        f"<li><span class='code'>{level_name(len(prefix))}&#8202;{branch.code}</span><span>{branch.items}</span>"
        f"<span class='bar'><span style='width:{100 * branch.items / most:.1f}%'></span></span></li>"
        for branch in below
    )
    caption = f"{len(below)} codes follow, with their numbers of items" if len(below) > 1 else "one code follows"
    table = f"<p class='caption'>{caption}</p><ul class='branches'>{bars}</ul>" if bars else ""
    more = notice(f"and {total - len(rows)} more" if rows else "Choose a code: items below it are similar.")
    more = more if total > len(rows) else ""
    return f'<p class="crumbs">{crumbs} <b>{total}</b> items</p>{table}{items(view, [(row, 0) for row in rows])}{more}'


def items(view: CatalogView, rows: Sequence[tuple[int, int]]) -> str:
    """Return items with their codes; each with the number of levels to highlight."""
    lines = "".join(
        f'<li><span class="title">{escape(view.label(row))}</span>'
        f'<span class="why">{chips(view.sid(row), shared=shared, appended=_appended(view))}</span></li>'
        for row, shared in rows
    )
    return f'<ul class="items">{lines}</ul>'


def _appended(view: CatalogView) -> int | None:
    catalog = view.catalog
    return catalog.model_levels if catalog.model_levels < catalog.codes.shape[1] else None


def evaluation_page(view: CatalogView, results: Mapping[str, Any] | None) -> str:
    """Return codebook utilization and the metrics of the run with its baselines.

    Args:
        results: content of results.json, None where there is none.
    """
    codes = _codes(view) if view.has_sids else notice("This recommender has no semantic IDs.")
    if not results:
        return codes + notice("This copy has no results.json, so nothing is known about its quality.")
    try:
        return codes + "".join(_metrics(results))
    except (AttributeError, KeyError, TypeError, ValueError):  # of another version, or edited
        return codes + notice("This version does not support the format of results.json, so no figure is shown.")


def _codes(view: CatalogView) -> str:
    catalog = view.catalog
    live = catalog.codes[~catalog.removed, : catalog.model_levels]
    sizes = catalog.level_sizes[: catalog.model_levels]
    utilization = codebook_utilization(live, sizes)
    lines = "".join(
        f"<tr><th scope='row'>level {level_name(level)}</th>"
        f"<td>{numbers.percent(utilization[f'use_{level + 1}'])} of {size}</td>"
        f"<td>{numbers.amount(perplexity)}</td>"
        f"<td class='bar'><span style='width:{100 * perplexity / size:.1f}%'></span></td></tr>"
        for level, size in enumerate(sizes)
        for perplexity in [utilization[f"perplexity_{level + 1}"]]
    )
    report = catalog.report
    return (
        "<h3>Codebook utilization</h3><table class='codes'><thead><tr><th></th><th>codes in use</th><th>perplexity</th>"
        f"<th>of all codes</th>"
        f"</tr></thead>{lines}</table><p>{report['items']} items, {report['removed']} removed. "
        f"{numbers.percent(report['collided_share'])} of them share their codes with another (largest group "
        f"{report['largest_group']}); the appended level tells them apart, or they share one ID.</p>"
    )


def _metrics(results: Mapping[str, Any]) -> list[str]:
    facts = card_facts(results)
    toy = (
        "<p><b>Toy data</b> generated by cost_hf: the figures show that the parts work, nothing more.</p>"
        if facts["is_toy"]
        else ""
    )
    tables = [f"<h4>{title}</h4>{_table(score_rows(results, seen=seen))}" for seen, title in words.SEEN.items()]
    return [
        f"<h3>Evaluation</h3><p>{_plain(facts['verdict'])}</p>{toy}",
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
