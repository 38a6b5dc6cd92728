"""Amazon reader: the review dumps of 2014, 2018 (McAuley group) and 2023 (Hou et al.), each review an interaction.

The layout is detected from the fields of the first record, not from file names. Reviews are JSON lines, or the csv of
the 2023 benchmark; the metadata of 2014 are Python literals, parsed by `ast.literal_eval` and never evaluated. Files
are read line by line and only the columns that are needed stay in memory. Fields of product metadata:

| | 2014 | 2018 | 2023 |
|---|---|---|---|
| id | `asin` | `asin` | `parent_asin` |
| brand | `brand` | `brand` | `store`, else `details["Brand"]` |
| categories | `categories`, a list of paths | `category`, one path | `categories`, one path |
| type | the department of `salesRank` | `main_cat` | `main_category` |
| description | text | list of texts | list of texts |
| features | none | `feature` | `features` |
| price | number | text like `$7.86` | number, null or text |
"""

import ast
import csv
import html
import itertools
import json
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from cost_hf.data.errors import DataError
from cost_hf.data.options import DataOptions
from cost_hf.data.schema import MAX_EPOCH_SECONDS
from cost_hf.data.sources import RawTables, data_directory, malformed, names_in, resolve_file
from cost_hf.data.text_files import check_whole_characters, read_lines

FILE = re.compile(r".+\.(json|jsonl|csv)(\.gz)?")
PARSE_ERRORS = (ValueError, TypeError, SyntaxError, RecursionError, MemoryError)
EXPECTED = (
    "one reviews file and one metadata file, like reviews_Office_Products.json.gz and meta_Office_Products.json.gz"
)


@dataclass(frozen=True)
class ReviewFields:
    """Field names of a layout, and the number of its time units per second."""

    user: str
    item: str
    time: str
    rating: str
    units_per_second: int


# keyed by the user field, in which the layouts differ; 2014 and 2018 share all fields that are read
REVIEW_FIELDS = {
    "reviewerID": ReviewFields("reviewerID", "asin", "unixReviewTime", "overall", 1),
    "user_id": ReviewFields("user_id", "parent_asin", "timestamp", "rating", 1000),
}


def read_amazon(options: DataOptions) -> RawTables:
    """Read the reviews and metadata in `data.path`, or the files that data.interactions and data.items name."""
    reviews, metadata = (_find(options, kind) for kind in ("reviews", "metadata"))
    items, item_counts = _read_metadata(metadata)
    interactions, counts = _read_reviews(reviews)
    return RawTables(items, interactions, item_counts | counts)


def _find(options: DataOptions, kind: str) -> Path:
    option = {"reviews": "interactions", "metadata": "items"}[kind]
    if (name := getattr(options, option)) is not None:
        return resolve_file(Path(name), options.path)
    directory = data_directory(options, expected=EXPECTED)
    candidates = sorted(path for path in directory.iterdir() if FILE.fullmatch(path.name) and path.is_file())
    found = [path for path in candidates if _kind(path) == kind]
    if len(found) != 1:
        raise DataError(
            f"data.reader amazon expects {EXPECTED} (plain or .gz) in {str(directory)!r}, got "
            f"{[path.name for path in found]} with {kind} among {names_in(directory)}; "
            f"name the right one with data.{option}"
        )
    return found[0]


def _kind(path: Path) -> str | None:
    """Return the kind of a file by its first record: "reviews", "metadata", or None for anything else."""
    try:
        _, record = next(_records(path), (0, {}))
    except DataError:
        return None
    if any(user in record for user in REVIEW_FIELDS):
        return "reviews"
    return "metadata" if "asin" in record or "parent_asin" in record else None


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, fields) of a file of JSON objects, Python literals or csv rows."""
    if ".csv" in path.suffixes:
        yield from _csv_records(path)
        return
    parse: Callable[[str], Any] | None = None
    for number, line in read_lines(path):
        # only literals start with a single quote; a file has records of one kind
        parse = parse or (ast.literal_eval if line.startswith("{'") else json.loads)
        try:
            record = parse(line)
        except PARSE_ERRORS as error:
            raise malformed(path, number, f"one object per line ({type(error).__name__})", line) from error
        if not isinstance(record, dict):
            raise malformed(path, number, "one object per line", line)
        if "\\u" in line:
            check_whole_characters(record, f"{path.name}, line {number}")
        yield number, record


def _csv_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    header: list[str] | None = None
    for number, line in read_lines(path):
        row = next(csv.reader([line]))
        if header is None:
            header = row
            if "user_id" not in header:
                # the rating files of 2014 and 2018 have none, and the two differ in the order of their columns
                raise malformed(path, number, "a header like user_id,parent_asin,rating,timestamp", line)
            if len(set(header)) < len(header):
                raise malformed(path, number, "each column once", line)
        elif len(row) != len(header):
            raise malformed(path, number, f"{len(header)} columns ({', '.join(header)})", line)
        else:
            yield number, dict(zip(header, row, strict=True))


def _read_metadata(path: Path) -> tuple[pd.DataFrame, dict[str, int]]:
    rows = []
    for number, record in tqdm(_records(path), desc=path.name, unit=" lines", disable=None):
        row = metadata_row(record)
        if not row[0]:
            raise malformed(path, number, "a product with asin or parent_asin", record)
        rows.append(row)
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    items = frame.drop_duplicates("item_id", ignore_index=True)  # 2018 repeats some products
    if items["price"].isna().all():
        items = items.drop(columns="price")
    return items, {"dropped_repeated_metadata": len(frame) - len(items)}


def _read_reviews(path: Path) -> tuple[pd.DataFrame, dict[str, int]]:
    users: list[str] = []
    items: list[str] = []
    times = array("q")
    ratings = array("f")
    known: dict[str, str] = {}  # one string object per id, shared by all its reviews
    fields: ReviewFields | None = None
    for number, record in tqdm(_records(path), desc=path.name, unit=" lines", disable=None):
        fields = fields or _fields(path, number, record)
        try:
            user, item, time, rating = _review(record, fields)
        except (KeyError, TypeError, ValueError) as error:
            expected = f"{fields.user}, {fields.item}, {fields.time} ({type(error).__name__}: {error})"
            raise malformed(path, number, expected, record) from error
        users.append(known.setdefault(user, user))
        items.append(known.setdefault(item, item))
        times.append(time)
        ratings.append(rating)
    frame = pd.DataFrame({"user_id": users, "item_id": items})
    frame["timestamp"] = np.asarray(times, dtype=np.int64)
    if fields is not None and fields.units_per_second == 1000:
        # as dates, which keep the milliseconds: they order clicks within a second
        frame["timestamp"] = frame["timestamp"].to_numpy().astype("datetime64[ms]")
    frame["rating"] = np.asarray(ratings, dtype=np.float32)
    interactions = frame.drop_duplicates(["user_id", "item_id", "timestamp"], ignore_index=True)
    return interactions, {"dropped_repeated_reviews": len(frame) - len(interactions)}


def _fields(path: Path, number: int, record: dict[str, Any]) -> ReviewFields:
    user = next((name for name in REVIEW_FIELDS if name in record), None)
    if user is None:
        raise malformed(path, number, f"a review with one of {list(REVIEW_FIELDS)}", record)
    return REVIEW_FIELDS[user]


def _review(record: dict[str, Any], fields: ReviewFields) -> tuple[str, str, int, float]:
    """Return user, item, time in the units of the layout and rating (NaN where a record has none)."""
    user = record[fields.user]
    item = record[fields.item]
    time = int(record[fields.time])
    if not (isinstance(user, str) and user and isinstance(item, str) and item):
        raise ValueError("ids must be non-empty strings")
    if fields.units_per_second > 1 and time < MAX_EPOCH_SECONDS:
        raise ValueError(f"{time} is not an epoch time in milliseconds")
    rating = record.get(fields.rating)
    return user, item, time, float("nan" if rating in (None, "") else rating)


COLUMNS = ("item_id", "title", "brand", "type", "categories", "description", "features", "price")
SCRIPT = re.compile(r"<(script|style)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<!--.*?-->", re.DOTALL)
PRICE = re.compile(r"(?:from )?\$?(\d[\d,]*(?:\.\d+)?)(?: - \$?[\d,.]+)?")


def metadata_row(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the cells of `COLUMNS` for one product, None for fields that the layout lacks."""
    details = record.get("details")
    brand = record.get("brand") or record.get("store") or (details.get("Brand") if isinstance(details, dict) else None)
    return (
        record.get("parent_asin") or record.get("asin"),
        _title(record.get("title")),
        clean_text(brand),
        clean_text(_type(record)),
        _categories(record.get("categories") or record.get("category")),
        clean_text(record.get("description")),
        clean_text(record.get("features") or record.get("feature")),
        _price(record.get("price")),
    )


def clean_text(value: Any) -> str | None:
    """Return plain text of a string or a list of strings: no markup, decoded entities, single spaces; None if empty.

    Markup is removed before entities are decoded, so that an escaped `&lt;` stays a character.
    """
    if value is None:
        return None
    text = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    if "<" in text:
        text = TAG.sub(" ", SCRIPT.sub(" ", text))
    return " ".join(html.unescape(text).split()) or None


def _title(value: Any) -> str | None:
    # some pages of 2018 were parsed wrongly: the title is a script that measures the page
    return None if value is None or "getTime" in str(value) else clean_text(value)


def _type(record: Mapping[str, Any]) -> Any:
    ranks = record.get("salesRank")
    if isinstance(ranks, dict) and ranks:
        return next(iter(ranks))
    return record.get("main_cat") or record.get("main_category")


def _categories(value: Any) -> str | None:
    """Return the first path from broad to narrow, with commas between its names and none within them."""
    path: Iterable[Any] = value if isinstance(value, (list, tuple)) else filter(None, [value])
    names = list(path)
    if names and isinstance(names[0], (list, tuple)):
        names = list(names[0])
    # in 2018 bullet points of the page can follow the path, after a cell with only closing tags
    cleaned = itertools.takewhile(bool, map(clean_text, names))
    return ", ".join(" ".join(str(name).replace(",", " ").split()) for name in cleaned) or None


def _price(value: Any) -> float | None:
    """Return the (lower) price; other text in the field, like style sheets, counts as missing."""
    if isinstance(value, (int, float)):
        return float(value)
    found = PRICE.fullmatch(value.strip()) if isinstance(value, str) else None
    return float(found[1].replace(",", "")) if found else None
