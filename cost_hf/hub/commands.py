"""Commands around a catalog: `cost-hf update-catalog | export`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cost_hf.command_line import report_errors, set_up_logging
from cost_hf.data.tables import read_items
from cost_hf.hub.catalog_update import push_update, update_catalog
from cost_hf.hub.export import FORMATS, MERGED, export_run
from cost_hf.recommender.changes import CatalogChange


def update_catalog_main(argv: Sequence[str]) -> int:
    """Add, change or remove items of a written recommender, or roll its catalog back."""
    parser = argparse.ArgumentParser(
        prog="cost-hf update-catalog",
        description="Add, change or remove items; semantic IDs that exist never change, weights stay as they are.",
    )
    parser.add_argument("source", help="run directory, recommender directory, or Hub id")
    parser.add_argument("items", nargs="?", default=None, help="items to add: a parquet, csv, tsv or jsonl file")
    parser.add_argument("--remove", default=None, help="items to remove: a file as for items, or ids and commas")
    parser.add_argument("--update", action="store_true", help="items that are there get the new texts and titles")
    parser.add_argument("--rollback", action="store_true", help="return to the catalog before the last change")
    parser.add_argument("--columns", default="{}", help="our column -> name in the file, as YAML: {item_id: asin}")
    parser.add_argument("--output_dir", default=None, help="write a changed copy there")
    parser.add_argument("--push", action="store_true", help="of a Hub id: commit the change there")
    known = parser.parse_args(argv)

    def command() -> None:
        columns = _columns(known.columns)
        asked: dict[str, Any] = {
            "items": None if known.items is None else read_items(known.items, columns=columns),
            "remove": _ids(known.remove, columns),
            "updates_known": known.update,
            "rolls_back": known.rollback,
        }
        if known.push:
            changes = push_update(known.source, **asked)
        else:
            directory, changes = update_catalog(known.source, output_dir=known.output_dir, **asked)
            print(f"catalog: {directory}")
        print("\n".join(map(_told, changes)) or "nothing to do: the catalog holds all of it already")

    set_up_logging()
    return report_errors(command)


def export_main(argv: Sequence[str]) -> int:
    """Write the catalog of a run, or its merged weights, for another program."""
    parser = argparse.ArgumentParser(prog="cost-hf export", description="Write a catalog for another program.")
    parser.add_argument("source", help="run directory, recommender directory, or Hub id")
    parser.add_argument("--to", required=True, help=f"format: {', '.join((*FORMATS, MERGED))}")
    parser.add_argument("--output", default="exported", help="folder that receives the files")
    known = parser.parse_args(argv)
    set_up_logging()
    return report_errors(lambda: print(*export_run(known.source, to=known.to, output=known.output), sep="\n"))


def _columns(text: str) -> dict[str, str]:
    try:
        columns = yaml.safe_load(text)
    except yaml.YAMLError:
        columns = None
    if not isinstance(columns, dict) or not all(isinstance(part, str) for pair in columns.items() for part in pair):
        raise ValueError(f"--columns takes a map of names as YAML, such as '{{item_id: asin}}', got {text!r}")
    return columns


def _ids(text: str | None, columns: dict[str, str]) -> list[str]:
    """Return the ids of `--remove`: a file of items where there is one of that name, else ids and commas."""
    if text is None:
        return []
    if Path(text).is_file():
        return read_items(text, columns=columns)["item_id"].tolist()
    return [item.strip() for item in text.split(",") if item.strip()]


def _told(change: CatalogChange) -> str:
    ids = ", ".join(change.item_ids[:3]) + (" …" if len(change.item_ids) > 3 else "")
    differ = f"; {change.would_differ} would now be coded otherwise, their SIDs stay" if change.would_differ else ""
    items = "1 item" if len(change.item_ids) == 1 else f"{len(change.item_ids)} items"
    return f"{change.action}: {items} ({ids}), {change.before[:12]} -> {change.after[:12]}{differ}"
