"""What an update of a catalog has done, or would do, in lines for the terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cost_hf.hub.catalog_plan import REPORTED, SkippedRow, skipped_text
from cost_hf.hub.catalog_update import Updates
from cost_hf.recommenders.catalog_changes import CatalogChange
from cost_hf.terminal_text import terminal_line

SHOWN_IDS = 3
# lists of a summary -> what is done with their items
ACTIONS = {
    "added": "add",
    "restored": "restore",
    "texts_changed": "update texts of",
    "columns_changed": "update columns of",
    "values_changed": "update values of",
    "removed": "remove",
    "rolled_back": "roll back changes of",
}
# lists of known items that differ -> what differs
DIFFERENCES = {"texts_changed": "titles or texts", "columns_changed": "values of columns"}


def update_lines(updates: Updates) -> list[str]:
    """Return one line for every kind of change, and for everything that a file asks for and that is not done."""
    summary = updates.summary
    lines = list(_planned(summary)) if updates.is_dry_run else [*map(_change, updates.changes)]
    if summary["clicks"]:
        lines.append(f"{'would count' if updates.is_dry_run else 'counted'}: {summary['clicks']} clicks")
    if not updates.has_effect:
        lines = ["nothing to do: the catalog stays as it is"]
    return lines + list(_left_undone(summary))


def _planned(summary: Mapping[str, Any]) -> Iterator[str]:
    for name, action in ACTIONS.items():
        if summary.get(name) and not (name in DIFFERENCES and summary["known_items"] == REPORTED):
            yield f"would {action} {_some(summary[name])}"


def _left_undone(summary: Mapping[str, Any]) -> Iterator[str]:
    if summary["known_items"] == REPORTED:
        for name, what in DIFFERENCES.items():
            if summary[name]:
                yield f"not changed: {_some(summary[name])} with other {what} in the file; --update changes them"
    if summary["not_compared"]:
        names = ", ".join(map(repr, summary["uncompared_columns"]))
        yield f"not compared: texts of {_some(summary['not_compared'])}; the catalog does not keep {names}"
    if summary["ignored_columns"]:
        yield f"not used: {', '.join(map(repr, summary['ignored_columns']))}, which the catalog does not have"
    if summary["skipped"]:
        yield f"skipped {skipped_text([SkippedRow(**row) for row in summary['skipped']])}"


def _change(change: CatalogChange) -> str:
    differ = f"; {change.would_differ} would have other codes now, their SIDs stay" if change.would_differ else ""
    items = _some(change.item_ids, count=change.num_items)
    return f"{change.action}: {items}, {change.before[:12]} -> {change.after[:12]}{differ}"


def _some(ids: Sequence[str], *, count: int | None = None) -> str:
    """Return how many items there are, and the first of them."""
    number = len(ids) if count is None else count
    shown = ", ".join(map(terminal_line, ids[:SHOWN_IDS])) + (", …" if number > SHOWN_IDS else "")
    return f"{'1 item' if number == 1 else f'{number:,} items'} ({shown})"
