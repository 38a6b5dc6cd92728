"""Product metadata of the Amazon review dumps: one record of any of their layouts to the columns of a catalog.

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

import html
import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any

COLUMNS = ("item_id", "title", "brand", "type", "categories", "description", "features", "price")
SCRIPT = re.compile(r"<(script|style)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<!--.*?-->", re.DOTALL)
PRICE = re.compile(r"(?:from )?\$?(\d[\d,]*(?:\.\d+)?)(?: - \$?[\d,.]+)?")


def metadata_row(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the cells of `COLUMNS` for one product; what a layout lacks is None."""
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
    """Return plain text of a text or a list of texts: no markup, entities undone, single spaces; None if none is left.

    Markup goes before entities, so that `&lt;` written for a sign stays a sign.
    """
    if value is None:
        return None
    text = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    if "<" in text:
        text = TAG.sub(" ", SCRIPT.sub(" ", text))
    return " ".join(html.unescape(text).split()) or None


def _title(value: Any) -> str | None:
    # some pages of 2018 were taken apart wrongly: the title is a script that measures the page
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
    # in 2018 bullet points of the page can follow the path, behind a cell of closing tags alone
    cleaned = itertools.takewhile(bool, map(clean_text, names))
    return ", ".join(" ".join(str(name).replace(",", " ").split()) for name in cleaned) or None


def _price(value: Any) -> float | None:
    """Return the (lower) price; texts that are none, like style sheets found in its place, count as absent."""
    if isinstance(value, (int, float)):
        return float(value)
    found = PRICE.fullmatch(value.strip()) if isinstance(value, str) else None
    return float(found[1].replace(",", "")) if found else None
