"""Examples of requests for the OpenAPI page: bodies that the recommender which answers now can answer."""

from typing import Any

from cost_hf.data.errors import DataError
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.catalog_texts import catalog_items
from cost_hf.serving.access import ITEMS_PATH
from cost_hf.serving.live import popular_items

Examples = dict[str, dict[str, Any]]  # by name: `summary` and `value`
MADE_UP = ("item-1", "item-2", "item-3")
MADE_UP_TEXT = "a text as the item table has them"


def request_examples(recommender: Recommender | None) -> dict[str, Examples]:
    """Return examples of bodies by path.

    Args:
        recommender: whose items they name; None, or one without items, for made-up ids.
    """
    items = [] if recommender is None else popular_items(recommender)
    if not items:
        items = list(MADE_UP)
        recommender = None
    return {
        "/recommend": _recommend(items, recommender),
        "/similar": {"similar": _example("An item", {"item_id": items[0], "parameters": {"top_k": 5}})},
        "/encode": {"texts": _example("A text", {"texts": [_text(items[0], recommender)]})},
        ITEMS_PATH: _changes(items, recommender),
    }


def _recommend(items: list[str], recommender: Recommender | None) -> Examples:
    users = {"user_ids": ["user-1"]} if recommender is not None and recommender.needs_user_ids else {}
    examples = {
        "one": _example("One history", {"inputs": items, "parameters": {"top_k": 5, **users}}),
    }
    if not users:
        examples["several"] = _example("Several histories", {"inputs": [items[:1], items], "parameters": {"top_k": 3}})
    where = None if recommender is None else _condition(recommender, items)
    if where is not None:
        parameters = {"top_k": 5, "where": where, **users}
        examples["where"] = _example("Filtered by a column", {"inputs": items, "parameters": parameters})
    return examples


def _condition(recommender: Recommender, items: list[str]) -> dict[str, Any] | None:
    """Return a condition that the catalog's first column of texts, truth values or numbers fulfils; None for none."""
    columns = recommender.catalog.columns
    for name in columns.names:
        for item in items:
            value = columns.value(name, recommender.catalog.row_of(item))
            if isinstance(value, str | bool):
                return {name: value}
            if isinstance(value, int | float):
                return {name: {"max": value}}
    return None


def _text(item: str, recommender: Recommender | None) -> str:
    """Return a text that the encoder of a recommender takes: that of an item, as far as the catalog keeps it."""
    encoder = None if recommender is None else recommender.encoder
    if recommender is None or encoder is None:
        return MADE_UP_TEXT
    frame = catalog_items(recommender, [recommender.catalog.row_of(item)])
    if not encoder.options.shows_texts:  # only a text of its own form will do, and values may be missing in it
        lacking = (encoder.named_columns or set()) - set(frame.columns)
        frame = frame.assign(**dict.fromkeys(sorted(lacking)))
    try:
        text = encoder.render(frame)[0]
    except DataError:  # the catalog does not keep what texts are made of; any text will do
        return MADE_UP_TEXT
    return text if text.strip() else MADE_UP_TEXT


def _changes(items: list[str], recommender: Recommender | None) -> Examples:
    fields = {"title"} if recommender is None else _text_fields(recommender)
    new = {"item_id": "new-item", **{name: f"{name} of a new item" for name in sorted(fields)}}
    examples = {"remove": _example("Remove an item", {"remove": items[-1:]})}
    if recommender is None or recommender.new_item_inputs:
        examples = {"add": _example("Add an item", {"add": [new]}), **examples}
    return examples


def _text_fields(recommender: Recommender) -> set[str]:
    """Return the columns that the text of an item is made of."""
    named = None if recommender.encoder is None else recommender.encoder.named_columns
    return named or {"title"}


def _example(summary: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"summary": summary, "value": value}
