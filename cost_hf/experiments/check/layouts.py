"""Layouts: which files of a directory are the catalog and the click log, told by their names alone.

A directory with `items.*` and `interactions.*` is taken as it is. Otherwise it may be the raw form of a known data set
(then a reader of its own knows the columns), or hold two tables under names of their own. Files whose names differ in
numbers alone are parts of one table.
"""

import dataclasses
import fnmatch
import glob
import re
from collections.abc import Sequence
from pathlib import Path

from cost_hf.data.errors import DataError
from cost_hf.data.options import DataOptions
from cost_hf.data.sources import SUFFIXES, table_names

ITEM_WORDS = (
    "item",
    "product",
    "catalog",
    "movie",
    "news",
    "article",
    "book",
    "track",
    "song",
    "business",
    "meta",
    "artikel",
    "produkt",
    "katalog",
)
CLICK_WORDS = (
    "interaction",
    "click",
    "rating",
    "review",
    "event",
    "log",
    "purchase",
    "order",
    "view",
    "behavior",
    "bestell",
    "kauf",
    "klick",
)


def locate(options: DataOptions) -> DataOptions:
    """Return the options with `reader`, `items` and `interactions` filled in where the directory tells them.

    Raises:
        DataError: for a directory without tables, or with several that could be the same one.
    """
    is_known = options.reader != "tables" or (options.items and options.interactions)
    if is_known or options.path is None or not Path(options.path).is_dir():
        return options
    names = sorted(path.name for path in Path(options.path).iterdir() if path.is_file())
    if _tables(names, "items") and _tables(names, "interactions"):
        return options
    reader = _raw_reader(Path(options.path))
    if reader is not None and not options.items and not options.interactions:
        return dataclasses.replace(options, reader=reader)
    of_clicks = options.interactions or ""
    items = options.items or _named(_without(names, of_clicks), "items", ITEM_WORDS, options.path)
    if not of_clicks:  # a catalog has the word log in its name
        of_clicks = _named(_without(names, items), "interactions", CLICK_WORDS, options.path)
    return dataclasses.replace(options, items=items, interactions=of_clicks)


def _without(names: Sequence[str], pattern: str) -> list[str]:
    """Return the names that are not this one, nor match it as a pattern."""
    return [name for name in names if name != pattern and not fnmatch.fnmatchcase(name, pattern)]


def _tables(names: Sequence[str], stem: str) -> list[str]:
    return [name for name in names if name in table_names(stem)]


def _raw_reader(directory: Path) -> str | None:
    """Return the reader whose raw files lie in the directory or in its sub-directories, or None."""
    names = {
        path.name.lower().removesuffix(".gz")
        for path in [*directory.glob("*"), *directory.glob("*/*")]
        if path.is_file()
    }
    if {"news.tsv", "behaviors.tsv"} <= names:
        return "mind"
    endings = {Path(name).suffix for name in names}
    if {"u.data", "u.item"} <= names or {".inter", ".item"} <= endings:
        return "movielens"
    metadata = {name for name in names if name.startswith("meta_") and name.endswith((".json", ".jsonl"))}
    reviews = {name for name in names - metadata if name.endswith((".json", ".jsonl", ".csv"))}
    return "amazon" if metadata and reviews else None


def _named(names: Sequence[str], table: str, words: Sequence[str], directory: str) -> str:
    """Return the one file whose name says that it is the table."""
    exact = _tables(names, table)
    readable = [name for name in names if name.lower().endswith(SUFFIXES)]
    found = exact or [name for name in readable if any(word in name.lower() for word in words)]
    pattern = _pattern(found)
    if pattern is not None:
        return pattern
    if len(found) != 1:
        raise DataError(
            f"{directory!r} should hold one table of {table}, found {found[:8] or 'none'} among {list(names)[:12]!r}; "
            f"name it with --data.{table} FILE (or a pattern, like 'part-*.csv'), or call it {table}.parquet, .xlsx, "
            ".csv, .tsv or .jsonl (the texts also .gz or .zip)"
        )
    return found[0]


def _pattern(names: Sequence[str]) -> str | None:
    """Return the pattern of files that are parts of one table: their names differ in numbers alone.

    Examples:
        >>> _pattern(["orders_2024-01.csv", "orders_2024-02.csv"])
        'orders_2024-*.csv'
        >>> _pattern(["orders.csv", "reviews.csv"]) is None
        True
    """
    if len(names) < 2 or len({re.sub(r"\d+", "0", name) for name in names}) > 1:
        return None
    parts = zip(*(re.split(r"(\d+)", name) for name in names), strict=True)
    return "".join(glob.escape(same[0]) if len(set(same)) == 1 else "*" for same in parts)
