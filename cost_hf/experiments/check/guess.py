"""Guessed columns: which columns of a foreign catalog and click log are the ones that this package needs.

The strongest evidence is content: the ids of the clicks must be ids of the catalog. Names decide between columns that
content can't tell apart, and a close second is always reported, never passed over in silence.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pandas as pd

from cost_hf.data.errors import DataError
from cost_hf.experiments.check.dates import guess_date_format

ALIASES = {
    "user_id": (
        "userid user uid customerid customer reviewerid visitorid memberid accountid clientid profileid kundenid "
        "kundennr kundennummer kunde"
    ),
    "item_id": (
        "itemid item iid id asin parentasin sku productid product movieid newsid articleid article bookid isbn trackid "
        "songid videoid businessid gameid appid contentid docid artikelid artikelnr artikelnummer produktid"
    ),
    "timestamp": (
        "timestamp time ts date datetime eventtime eventdate unixreviewtime unixtime reviewtime createdat clickedat "
        "orderdate purchasedate purchasedat viewedat zeit datum zeitpunkt zeitstempel bestelldatum"
    ),
    "position": "position pos order seq sequence step rank",
    "title": (
        "title name productname producttitle itemname movietitle headline artikelname artikelbezeichnung bezeichnung "
        "produktname titel"
    ),
    "rating": "rating ratings score overall stars",
    "event": (
        "event eventtype eventname eventkind action actiontype activity activitytype interaction interactiontype type "
        "kind behavior behaviortype ereignis aktion"
    ),
    "session": "session sessionid sid visit visitid cookie cookieid deviceid visitorid anonymousid usersession sitzung",
}
USER_WORDS = ("user", "customer", "member", "visitor", "reviewer", "session")
EPOCHS = ((1e8, 4.2e9), (1e11, 4.2e12))  # seconds and milliseconds of the years 1973 to 2103
SAMPLE = 5_000
DOUBT = 0.15  # a second column this close to the first is named
Key = TypeVar("Key")


@dataclass
class ColumnGuess:
    """Columns found under other names.

    Attributes:
        columns: our column -> name in the source, as `data.columns` takes it; empty where the names are ours.
        reasons: our column -> why this one.
        doubts: sentences on choices that were close.
    """

    columns: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)

    def add(self, ours: str, theirs: str, reason: str) -> None:
        """Note one mapping."""
        self.columns[ours] = theirs
        self.reasons[ours] = reason


def guess_columns(items: pd.DataFrame, clicks: pd.DataFrame) -> ColumnGuess:
    """Find item id, user id, order and title where they have other names.

    Args:
        items: catalog as it was read, columns that are mapped already under our names.
        clicks: click log, likewise.

    Raises:
        DataError: where no column can be the item or user id.
    """
    guess = ColumnGuess()
    in_items, in_clicks = _guess_item_id(items, clicks, guess)
    if "user_id" not in clicks:
        _guess_user_id(clicks, guess, taken={in_clicks}, shared=set(map(str, items)))
    has_order = any(name in clicks and clicks[name].notna().any() for name in ("position", "timestamp"))
    if not has_order:
        _guess_order(clicks, guess, shared=set(map(str, items)))
    if "title" not in items:
        names = [name for name in map(str, items) if is_called(name, "title") and name != in_items]
        if names:
            guess.add("items.title" if names[0] in clicks else "title", names[0], "by its name")
    return guess


def session_columns(clicks: pd.DataFrame) -> list[str]:
    """Return the columns of a click log that name sessions or devices."""
    return [str(name) for name in clicks if name != "user_id" and is_called(name, "session")]


def simple(name: object) -> str:
    """Return a column name in small letters without separators: `unixReviewTime` and `unix_review_time` agree."""
    return "".join(letter for letter in str(name).lower() if letter.isalnum())


def is_called(name: object, ours: str) -> bool:
    """Return whether a column has one of the usual names of our column."""
    return simple(name) in ALIASES[ours].split()


def id_texts(values: pd.Series) -> pd.Series:
    """Return the values as the texts that ids are compared by; whole floats lose their `.0`."""
    present = values.dropna()
    if pd.api.types.is_float_dtype(present) and (present % 1 == 0).all():
        present = present.astype("int64")
    return present.astype(str)


def _guess_item_id(items: pd.DataFrame, clicks: pd.DataFrame, guess: ColumnGuess) -> tuple[str, str]:
    """Return the id column of both tables: unique in the catalog, and holding the values of the click log."""
    keys = ["item_id"] if "item_id" in items else [str(name) for name in items if _is_key(items[name])]
    references = ["item_id"] if "item_id" in clicks else _references(clicks)
    if keys == references == ["item_id"]:
        return "item_id", "item_id"
    scores = {}
    texts = {key: set(id_texts(items[key])) for key in keys}
    for reference in references:
        wanted = id_texts(clicks[reference]).drop_duplicates()
        for key in keys:
            overlap = float(wanted.iloc[:SAMPLE].isin(texts[key]).mean()) if len(wanted) else 0.0
            coverage = min(1.0, len(wanted) / max(1, len(texts[key])))
            names = (is_called(key, "item_id")) + (is_called(reference, "item_id"))
            if overlap >= 0.05:
                scores[key, reference] = (overlap + 0.25 * names + 0.25 * coverage, overlap)
    if not scores:
        raise DataError(
            f"no column of interactions {list(map(str, clicks))} holds ids of a unique column of items "
            f"{list(map(str, items))}; check that both tables use the same ids, or name the columns with data.columns: "
            "{items.item_id: <name in items>, interactions.item_id: <name in interactions>}"
        )
    (key, reference), (_, overlap) = _best(scores, "item_id", guess, lambda pair: f"{pair[0]!r} with {pair[1]!r}")
    reason = f"{overlap:.0%} of the clicked values are in items"
    if key == reference != "item_id":
        guess.add("item_id", key, reason)
    else:
        for table, name in (("items", key), ("interactions", reference)):
            if name != "item_id":
                guess.add(f"{table}.item_id", name, reason)
    return key, reference


def _references(clicks: pd.DataFrame) -> list[str]:
    """Return the columns of the click log that may hold item ids: ids whose names say nothing else."""
    others = ("user_id", "timestamp", "position", "rating")
    is_other = {name: any(is_called(name, ours) for ours in others) for name in clicks}
    return [str(name) for name in clicks if not is_other[name] and _is_id(clicks[name])]


def _guess_user_id(clicks: pd.DataFrame, guess: ColumnGuess, *, taken: set[str], shared: set[str]) -> None:
    scores = {}
    for name in map(str, clicks):
        if name in taken or not _is_id(clicks[name]):
            continue
        repeats = clicks[name].notna().sum() / max(1, clicks[name].nunique())
        by_name = 1.0 if is_called(name, "user_id") else 0.6 * any(word in simple(name) for word in USER_WORDS)
        if by_name:
            scores[name] = (by_name + 0.3 * (repeats >= 1.2), float(repeats))
    if not scores:
        raise DataError(
            f"no column of interactions {list(map(str, clicks))} looks like a user id (names such as user_id, uid, "
            "customer_id); name it with data.columns: {user_id: <name in the source>}"
        )
    name, (_, repeats) = _best(scores, "user_id", guess, repr)
    guess.add("interactions.user_id" if name in shared else "user_id", name, f"by its name; {repeats:.1f} rows a value")


def _guess_order(clicks: pd.DataFrame, guess: ColumnGuess, *, shared: set[str]) -> None:
    """Map a time, or else a position; without either the reader's own error says what is missing."""
    scores = {}
    for name in map(str, clicks):
        by_name = is_called(name, "timestamp") + 0.5 * (_is_typed_time(clicks[name]) or _sounds_like_time(name))
        # dates are known by what they are; a number needs a name that speaks of a time
        if _looks_like_time(clicks[name]) and (by_name or not _holds_numbers(clicks[name])):
            scores[name] = (by_name, 1.0)
    ours = "timestamp"
    reason = "its values are times"
    if not scores:
        ours = "position"
        reason = "by its name"
        scores = {
            str(name): (1.0, 1.0)
            for name in clicks
            if is_called(name, "position") and pd.api.types.is_integer_dtype(clicks[name])
        }
    if scores:
        name, _ = _best(scores, ours, guess, repr)
        guess.add(f"interactions.{ours}" if name in shared else ours, name, reason)


def _sounds_like_time(name: object) -> bool:
    """Return whether a name that is on no list still speaks of a time: bought_at, purchase_time, first_seen_date."""
    return re.search(r"(_at|_on|At|[Tt]ime|[Dd]ate)$", str(name)) is not None


def _best(
    scores: dict[Key, tuple[float, float]], ours: str, guess: ColumnGuess, describe: Callable[[Key], str]
) -> tuple[Key, tuple[float, float]]:
    """Return the candidate with the highest score; note others that are close."""
    ranked = sorted(scores.items(), key=lambda entry: -entry[1][0])
    rivals = [describe(key) for key, score in ranked[1:] if score[0] > ranked[0][1][0] - DOUBT]
    if rivals:
        guess.doubts.append(f"{ours} may also be {' or '.join(rivals)}; {describe(ranked[0][0])} was taken")
    return ranked[0]


def _is_id(values: pd.Series) -> bool:
    """Return whether a column can hold ids: whole numbers or short texts of one word, more than one of them."""
    present = values.dropna()
    if present.empty or pd.api.types.is_bool_dtype(present) or pd.api.types.is_datetime64_any_dtype(present):
        return False
    if pd.api.types.is_float_dtype(present):
        return bool((present % 1 == 0).all())
    if pd.api.types.is_integer_dtype(present):
        return True
    sample = present.iloc[:SAMPLE]
    if not sample.map(lambda value: isinstance(value, (str, int)) and not isinstance(value, bool)).all():
        return False
    sample = sample.astype(str)
    return bool(sample.str.len().max() <= 64 and (sample.str.count(r"\S+") <= 1).mean() >= 0.95)


def _is_key(values: pd.Series) -> bool:
    """Return whether a column can be the id of a catalog: ids, nearly all of them there and different."""
    least = 0.8 if is_called(values.name, "item_id") else 0.98  # its name tells an id that is repeated by mistake
    return _is_id(values) and values.notna().mean() >= least and values.nunique() >= least * len(values)


def _is_typed_time(values: pd.Series) -> bool:
    return pd.api.types.is_datetime64_any_dtype(values)


def _holds_numbers(values: pd.Series) -> bool:
    return bool(pd.to_numeric(values.dropna().iloc[:SAMPLE], errors="coerce").notna().all())


def _looks_like_time(values: pd.Series) -> bool:
    present = values.dropna().iloc[:SAMPLE]
    if present.empty or pd.api.types.is_bool_dtype(present):
        return False
    if _is_typed_time(present):
        return True
    numbers = pd.to_numeric(present, errors="coerce")
    if numbers.notna().all():
        middle = float(np.median(numbers))
        return any(low <= middle <= high for low, high in EPOCHS)
    is_text = present.map(lambda value: isinstance(value, str)).all()
    is_iso = is_text and pd.to_datetime(present, utc=True, errors="coerce", format="ISO8601").notna().mean() > 0.95
    return bool(is_iso or guess_date_format(present) is not None)
