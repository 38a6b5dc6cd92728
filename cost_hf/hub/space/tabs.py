"""The three interactive tabs of the demo, over one `Visit`."""

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from cost_hf.hub.space import markup
from cost_hf.hub.space.catalog_view import MAX_QUERY
from cost_hf.hub.space.filters import chosen_conditions
from cost_hf.hub.space.visit import MAX_CHARACTERS, MAX_HISTORY, Visit
from cost_hf.semantic_ids.vocabulary import level_name

PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
MOST_ALIKE = 2  # items of a list that share a value, where a visitor limits them


def _named(visit: Visit, rows: list[int]) -> list[tuple[str, str]]:
    """Return (label, item id) choices."""
    return [(visit.view.label(row), visit.view.catalog.item_ids[row]) for row in rows]


def _search(visit: Visit, text: str) -> Any:
    """Return the update of a list of found items."""
    rows = visit.view.search(text)
    label = "Found" if rows else "Nothing found; try other words" if text.strip() else "Type to search"
    return gr.update(choices=_named(visit, rows), value=None, label=label)


def recommend_tab(visit: Visit) -> None:
    """Build the tab in which a history is put together; it shows recommendations and why."""
    empty = markup.notice("Put a history together, or start with the example.")
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            query = gr.Textbox(
                label="Search the catalog", placeholder="a word of a title, or an id", max_length=MAX_QUERY
            )
            found = gr.Radio([], label="Type to search", elem_classes="found")
            history = gr.Dropdown([], value=[], multiselect=True, label="History, oldest first", interactive=True)
            with gr.Row():
                go = gr.Button("Recommend", variant="primary", min_width=130)
                example = gr.Button("Example", min_width=100)
                clear = gr.Button("Clear", min_width=80)
            top_k = gr.Slider(1, 50, value=10, step=1, label="How many")
            unseen = gr.Checkbox(True, label="Leave out items of the history")
            narrowing = [_limit_control(visit), *_filter_controls(visit)]
        with gr.Column(scale=3, min_width=300):
            shown = gr.HTML(empty)
            onward = gr.Radio([], label="Add one of these to the history", visible=False)

    def known(ids: list[str] | None) -> list[str]:
        """Return the items of a history that the present catalog holds, the latest ones of a long history."""
        return [item for item in (ids or [])[-MAX_HISTORY:] if isinstance(item, str) and item in visit.view.catalog]

    def chosen(ids: list[str]) -> Any:
        rows = visit.view.catalog.rows_of(ids).tolist()
        return gr.update(choices=_named(visit, rows), value=ids)

    def recommend(
        ids: list[str] | None, count: float, leaves_out: bool, column: str | None, *chosen: Any
    ) -> tuple[Any, Any]:
        ids = known(ids)
        if not ids:
            return empty, gr.update(choices=[], visible=False)
        where = chosen_conditions(kinds, chosen)
        try:
            limits = {column: MOST_ALIKE} if column else None
            answers = visit.recommend(ids, int(count), leaves_out, where=where, diversify=limits)
        except ValueError as error:  # no item fulfils the filters
            return markup.notice(str(error), is_error=True), gr.update(choices=[], visible=False)
        if not answers:
            whole = "all that fulfils the filters" if where else "the whole catalog"
            return markup.notice(f"Nothing is left to recommend: the history holds {whole}."), gr.update()
        onward = gr.update(choices=_named(visit, [listed.row for listed in answers]), value=None, visible=True)
        return markup.ranking(visit.view, answers), onward

    def add_to_history(item: str | None, ids: list[str] | None, *set_up: Any) -> tuple[Any, ...]:
        held = known(list(dict.fromkeys([*(ids or []), *([item] if item else [])])))
        return chosen(held), None, *recommend(held, *set_up)

    kinds = visit.view.filters
    settings = [history, top_k, unseen, *narrowing]
    query.input(lambda text: _search(visit, text), query, found, trigger_mode="always_last", **PRIVATE)
    for control in (found, onward):
        control.input(add_to_history, [control, *settings], [history, found, shown, onward], **PRIVATE)
    for event in (go.click, history.input, top_k.release, unseen.input, *(control.input for control in narrowing)):
        # a change during an answer is answered next, not dropped
        event(recommend, settings, [shown, onward], trigger_mode="always_last", **PRIVATE)
    example.click(
        lambda *set_up: add_to_history(None, visit.example(), *set_up),
        settings[1:],
        [history, found, shown, onward],
        **PRIVATE,
    )
    clear.click(
        lambda: (gr.update(choices=[], value=[]), "", empty, gr.update(choices=[], visible=False)),
        outputs=[history, query, shown, onward],
        **PRIVATE,
    )


def _filter_controls(visit: Visit) -> list[Any]:
    """Build the controls of the filters, in the order of `chosen_conditions`; none where the catalog has no columns."""
    controls: list[Any] = []
    if not visit.view.filters:
        return controls
    with gr.Accordion("Filters", open=False):
        for own in visit.view.filters:
            if own.kind == "truth":
                controls.append(gr.Checkbox(False, label=own.column))
            elif own.kind == "choice":
                controls.append(gr.Dropdown(list(own.choices), value=[], multiselect=True, label=own.column))
            else:
                with gr.Row():  # the whole range, as an empty number is sent as 0
                    controls.append(gr.Number(own.low, label=f"{own.column} from", min_width=120))
                    controls.append(gr.Number(own.high, label=f"{own.column} to", min_width=120))
    return controls


def _limit_control(visit: Visit) -> Any:
    """Build the control of the column of which few items of a list may share a value; hidden where there is none."""
    names = visit.view.limited_columns
    choices = [("any number", ""), *((name, name) for name in names)]
    return gr.Dropdown(choices, value="", label=f"At most {MOST_ALIKE} items of the same …", visible=bool(names))


def tree_tab(visit: Visit, tab: gr.Tab) -> None:
    """Build the contents of `tab`, in which the tree of semantic IDs is browsed and neighbours are shown."""
    prefix = gr.State(())
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            down = gr.Dropdown(_steps(visit, ()), value=None, label="Go down by a code", interactive=True)
            with gr.Row():
                up = gr.Button("Up", min_width=80)
                root = gr.Button("To the root", min_width=110)
            query = gr.Textbox(label="Or find an item", placeholder="a word of a title, or an id", max_length=MAX_QUERY)
            found = gr.Radio([], label="Type to search", elem_classes="found")
        with gr.Column(scale=3, min_width=300):
            shown = gr.HTML(markup.branches(visit.view, ()))

    def at(walked: Sequence[int]) -> tuple[Any, Any, str]:
        codes = tuple(walked)
        return codes, gr.update(choices=_steps(visit, codes), value=None), markup.branches(visit.view, codes)

    def neighbours_of(item: str) -> str:
        row = visit.view.catalog.row_of(item)
        near = visit.view.neighbours(visit.view.sid(row), without=row)
        own = markup.items(visit.view, [(row, 0)])
        return (
            own
            + "<h4>Items that share the longest prefix of its ID</h4>"
            + (markup.items(visit.view, near) if near else markup.notice("No other item has its first code."))
        )

    outputs = [prefix, down, shown]
    down.input(
        lambda code, codes: at((*codes, code)) if code is not None else at(codes), [down, prefix], outputs, **PRIVATE
    )
    tab.select(at, prefix, outputs, **PRIVATE)  # items may have been added since
    up.click(lambda codes: at(tuple(codes[:-1])), prefix, outputs, **PRIVATE)
    root.click(lambda: at(()), outputs=outputs, **PRIVATE)
    query.input(lambda text: _search(visit, text), query, found, trigger_mode="always_last", **PRIVATE)
    found.input(neighbours_of, found, shown, **PRIVATE)


def _steps(visit: Visit, prefix: tuple[int, ...]) -> list[tuple[str, int]]:
    name = level_name(len(prefix))
    return [(f"{name} {branch.code}: {branch.items} items", branch.code) for branch in visit.view.branches(prefix)]


def new_item_tab(visit: Visit, head: gr.HTML) -> None:
    """Build the tab in which an item is added by its text; with semantic IDs it also shows the ID of the text.

    Args:
        head: of the page, which counts the items.
    """
    has_sids = visit.view.has_sids
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            text = gr.Textbox(
                label="Text of a new item",
                lines=4,
                max_length=MAX_CHARACTERS,
                placeholder="its title and description",
            )
            with gr.Row():
                look = gr.Button("Show its ID", variant="primary", min_width=120, visible=has_sids)
                add = gr.Button("Add it", variant="secondary" if has_sids else "primary", min_width=100)
            gr.HTML(
                markup.notice("Weights do not change. All visitors see added items, until the demo restarts."),
                padding=False,
            )
        with gr.Column(scale=3, min_width=300):
            intro = "Paste a text to see its semantic ID and the items next to it." if has_sids else "Paste a text."
            shown = gr.HTML(markup.notice(intro))

    def show(words: str) -> str:
        codes = visit.encode(words)
        near = visit.view.neighbours(codes)
        neighbours = markup.items(visit.view, near) if near else markup.notice("No item has its first code.")
        return f"<p class='crumbs'>{markup.chips(codes)}</p><h4>Items next to it</h4>{neighbours}"

    def add_item(words: str) -> str:
        row = visit.add(words)
        history, answers, place = visit.seen_recommended(row)
        return markup.added(visit.view, row, history=history, answers=answers, place=place)

    look.click(_answered(show), text, shown, **PRIVATE)
    add.click(lambda words: (_answered(add_item)(words), markup.header(visit.view)), text, [shown, head], **PRIVATE)


def _answered(action: Callable[[str], str]) -> Callable[[str], str]:
    """Return the action with its errors shown on the page."""

    def run(text: str) -> str:
        try:
            return action(text or "")
        except ValueError as error:
            return markup.notice(str(error), is_error=True)

    return run
