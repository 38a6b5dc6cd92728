"""What the demo shows as HTML; every word of an item or a visitor is escaped here."""

from collections.abc import Sequence
from html import escape

from cost_hf.hub.space.catalog_view import CatalogView, Prefix
from cost_hf.semantic_ids.level_names import level_name


def notice(text: str, *, is_error: bool = False) -> str:
    """Return a line that says what is empty, missing or wrong."""
    role, kind = ("alert", "error") if is_error else ("status", "quiet")
    return f'<p class="notice {kind}" role="{role}">{escape(text)}</p>'


def header(view: CatalogView) -> str:
    """Return the head of the page."""
    kind = "semantic IDs" if view.has_sids else "a dense model"
    count = f"{view.num_items:,} items in the catalog"
    return f"<header class='head'><h1>Recommendation with {kind}</h1><p>{count}</p></header>"


def chips(codes: Prefix, *, shared: int = 0, appended: int | None = None) -> str:
    """Return codes as a row of chips; the first `shared` ones are marked, the level `appended` is drawn apart."""
    parts = []
    for level, code in enumerate(codes):
        kind = " shared" if level < shared else ""
        kind += " appended" if level == appended else ""
        parts.append(f'<span class="chip level-{level % 4}{kind}">{level_name(level)}&#8202;{code}</span>')
    return f'<span class="chips" aria-label="semantic ID {" ".join(map(str, codes))}">{"".join(parts)}</span>'


def ranking(view: CatalogView, answers: Sequence[tuple[int, float, bool]], history: list[int]) -> str:
    """Return ranked items as a list: title, score, path of codes, and which history item shares how much of it.

    Args:
        answers: catalog row, score, and whether the item was added in this demo.
    """
    lines = []
    scores = [score for _, score, _ in answers]
    has_kept = False
    for place, (row, score, is_added) in enumerate(answers):
        close = view.closest(row, history)
        why = "shares no first code with the history"
        if close is not None:
            levels = "1 level" if close[1] == 1 else f"{close[1]} levels"
            why = f"shares {levels} with <q>{escape(view.label(close[0]))}</q>"
        path = chips(view.sid(row), shared=close[1] if close else 0, appended=_appended(view)) if view.has_sids else ""
        is_kept = score < max(scores[place:])  # others with a better score stand below it
        has_kept = has_kept or is_kept
        tags = [*(["added in this demo"] if is_added else []), *(["place kept"] if is_kept else [])]
        tag = f'<span class="added">{", ".join(tags)}</span>' if tags else ""
        detail = f'<span class="why">{path} <span>{why}</span></span>' if view.has_sids else ""
        lines.append(
            f'<li><span class="title">{escape(view.label(row))}</span>'
            f'<span class="score" title="score of the model">{score:.2f}</span>{tag}{detail}</li>'
        )
    note = notice("Some places are kept for items without clicks in training, whatever their score.")
    return f'{note if has_kept else ""}<ol class="ranking">{"".join(lines)}</ol>'


def added(
    view: CatalogView,
    row: int,
    *,
    history: Sequence[str],
    answers: Sequence[tuple[int, float, bool]],
    place: int | None,
) -> str:
    """Return an added item with its ID, and the list of a reader of items like it.

    Args:
        row: of the added item.
        history: item ids that the reader has read.
        answers: the first places of the reader's list, as for `ranking`.
        place: of the added item in the whole list, counted from 1; None where it is beyond the longest one.
    """
    rows = view.catalog.rows_of(history).tolist()
    names = ", ".join(f"<q>{escape(view.label(other))}</q>" for other in rows)
    if place is None:
        where = "The new item is not in the longest list of this demo for that reader: others go before it."
    elif place > len(answers):
        where = f"The new item stands at place {place} for that reader: others go before it."
    else:
        where = f"The new item stands at place {place}."
    own = items(view, [(row, 0)]) if view.has_sids else f'<p class="title">{escape(view.label(row))}</p>'
    return (
        f"<h4>Added</h4>{own}<h4>What someone who read {names} is recommended</h4>{notice(where)}"
        f"{ranking(view, answers, rows)}"
    )


def branches(view: CatalogView, prefix: Prefix) -> str:
    """Return a prefix with what lies below it: bars for the codes that follow, then the first items."""
    rows, total = view.items(prefix)
    if not prefix:
        rows = []  # all items are no group of likes
    crumbs = chips(prefix, appended=_appended(view)) if prefix else '<span class="root">all items</span>'
    below = view.branches(prefix)
    most = max((branch.items for branch in below), default=1)
    bars = "".join(
        f"<li><span class='code'>{level_name(len(prefix))}&#8202;{branch.code}</span><span>{branch.items}</span>"
        f"<span class='bar'><span style='width:{100 * branch.items / most:.1f}%'></span></span></li>"
        for branch in below
    )
    told = f"{len(below)} codes follow, with their numbers of items" if len(below) > 1 else "one code follows"
    table = f"<p class='told'>{told}</p><ul class='branches'>{bars}</ul>" if bars else ""
    more = notice(f"and {total - len(rows)} more" if rows else "Choose a code: items below it are alike.")
    more = more if total > len(rows) else ""
    return f'<p class="crumbs">{crumbs} <b>{total}</b> items</p>{table}{items(view, [(row, 0) for row in rows])}{more}'


def items(view: CatalogView, rows: Sequence[tuple[int, int]]) -> str:
    """Return items with their codes; each with the number of levels to mark."""
    lines = "".join(
        f'<li><span class="title">{escape(view.label(row))}</span>'
        f'<span class="why">{chips(view.sid(row), shared=shared, appended=_appended(view))}</span></li>'
        for row, shared in rows
    )
    return f'<ul class="items">{lines}</ul>'


def _appended(view: CatalogView) -> int | None:
    catalog = view.catalog
    return catalog.model_levels if catalog.model_levels < catalog.codes.shape[1] else None
