"""Requests of a service as JSON: what they may hold, and errors that name the field that is wrong.

    {"inputs": ["item-1", "item-7"], "parameters": {"top_k": 5}}

Sizes are checked before anything is computed. Whether ids and columns are those of the catalog is checked by
`service.RecommenderService`, which knows it.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

MAX_BODY = 1_000_000  # bytes
MAX_BATCH = 64  # histories, and texts or vectors to encode
MAX_HISTORY = 1_000  # items
MAX_TOP_K = 200
MAX_IDS = 100_000  # of allowed and denied
MAX_ID_LENGTH = 512  # characters
MAX_WHOLE_ID = 2**64  # ids that are numbers: JSON may spell ones of thousands of digits
MAX_CONDITIONS = 20  # columns of where and diversify
MAX_VALUES = 1_000  # of one condition
MAX_TEXT_LENGTH = 10_000  # characters
MAX_WIDTH = 16_384  # of a vector
MAX_DEPTH = 8  # of lists and objects in a column
MAX_CHANGES = 10_000  # items of one request
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
CHOICES = {"on_unknown": ("error", "drop"), "on_empty": ("error", "popularity")}
DEFAULTS: dict[str, Any] = {
    "top_k": 10,
    "exclude_seen": True,
    "allowed": None,
    "denied": None,
    "where": None,
    "diversify": None,
    "on_unknown": "drop",  # click logs hold items that the catalog does not
    "on_empty": "popularity",
    "cold_share": 0.0,
    "explain": False,
    "exact": False,
}
USER_IDS = "user_ids"  # a parameter, too, of every history its own
SIMILAR = ("top_k", "allowed", "denied", "where")  # options of a search for similar items


class RequestError(Exception):
    """A request is not answered.

    Attributes:
        field: the part of it that is wrong, such as `parameters.top_k`; empty for none.
    """

    def __init__(self, field: str, message: str):
        super().__init__(message)
        self.field = field

    def as_json(self) -> dict[str, Any]:
        """Return the answer in place of recommendations: `{"error": {"field", "message"}}`."""
        return {"error": {"field": self.field, "message": str(self)}}


class BadRequest(RequestError, ValueError):
    """A request can't be answered as it is; the client has to correct it."""


class FailedRequest(RequestError):
    """A request that the server failed to answer; the reason is in its log alone."""

    def __init__(self) -> None:
        super().__init__("", "the request could not be answered; the server has logged why")


@dataclass(frozen=True)
class RecommendRequest:
    """Histories to recommend for, and how.

    Attributes:
        histories: item ids, oldest first.
        options: arguments of `Recommender.recommend` besides histories and users, `DEFAULTS` where a request has none.
        user_ids: one per history; None where the request has none.
    """

    histories: tuple[tuple[str, ...], ...]
    options: Mapping[str, Any]
    user_ids: tuple[str, ...] | None = None

    @classmethod
    def of(cls, histories: Iterable[Sequence[str]], **options: Any) -> "RecommendRequest":
        """Return the request of a caller in Python.

        Args:
            histories: one or more.
            options: those that differ from `DEFAULTS`.
        """
        return cls(tuple(map(tuple, histories)), DEFAULTS | options)

    @cached_property
    def options_key(self) -> str:
        """Text that is equal for requests of equal options, whose histories may be answered together."""
        return repr(sorted(self.options.items()))


@dataclass(frozen=True)
class SimilarRequest:
    """An item to find similar ones for.

    Attributes:
        item_id: of the item.
        options: `top_k`, `allowed`, `denied` and `where`, as for `RecommendRequest`.
    """

    item_id: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class EncodeRequest:
    """Texts or item vectors to encode; one of both is None.

    Attributes:
        texts: n texts.
        vectors: n vectors of the text encoder's width.
    """

    texts: tuple[str, ...] | None
    vectors: tuple[tuple[float, ...], ...] | None


@dataclass(frozen=True)
class ChangeRequest:
    """Changes of a catalog, made in this order.

    Attributes:
        add: new items: objects with the columns of the item table that the run was trained on.
        update: items that the catalog holds; fields that an object lacks stay.
        remove: ids of items to recommend no longer.
    """

    add: tuple[Mapping[str, Any], ...] = ()
    update: tuple[Mapping[str, Any], ...] = ()
    remove: tuple[str, ...] = ()


def decode(body: bytes) -> Any:
    """Return the content of a request's body.

    Raises:
        BadRequest: for too many bytes, or invalid JSON, NaN and Infinity among it.
    """
    if len(body) > MAX_BODY:
        raise BadRequest("body", f"expected at most {MAX_BODY} bytes, got {len(body)}; send it in parts")
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest("body", f"expected JSON, got {body[:40]!r} ({type(error).__name__}); correct it") from error


def parse(data: Any) -> RecommendRequest:
    """Return a request for recommendations.

    Args:
        data: `inputs`: a history (item ids, oldest first) or a list of histories; `parameters`: any of `DEFAULTS`, as
            for `recommend`, and `user_ids`, one per history. Bounds of `where` are `{"min": …, "max": …}`.

    Raises:
        BadRequest: naming the field that is wrong.
    """
    content = _fields(data, ("inputs", "parameters"), what="an object with inputs")
    if "inputs" not in content:
        raise BadRequest("inputs", "expected a list of item ids, or a list of such lists; it is missing")
    options = dict(DEFAULTS)
    users = None
    for name, value in _parameters(content, (*DEFAULTS, USER_IDS)).items():
        if name == USER_IDS:
            users = value
        else:
            options[name] = _option(f"parameters.{name}", name, value)
    histories = _histories(content["inputs"])
    return RecommendRequest(histories, options, None if users is None else _users(users, len(histories)))


def parse_similar(data: Any) -> SimilarRequest:
    """Return a request for items that are similar to one.

    Args:
        data: `item_id`, and `parameters`: any of `top_k`, `allowed`, `denied` and `where`.

    Raises:
        BadRequest: naming the field that is wrong.
    """
    content = _fields(data, ("item_id", "parameters"), what="an object with item_id")
    if "item_id" not in content:
        raise BadRequest("item_id", "expected the id of an item; it is missing")
    options = {name: DEFAULTS[name] for name in SIMILAR}
    for name, value in _parameters(content, SIMILAR).items():
        options[name] = _option(f"parameters.{name}", name, value)
    return SimilarRequest(_id("item_id", content["item_id"]), options)


def parse_encode(data: Any) -> EncodeRequest:
    """Return a request for codes.

    Args:
        data: `texts`, a list of texts, or `vectors`, a list of item vectors of the run's text encoder.

    Raises:
        BadRequest: naming the field that is wrong.
    """
    content = _fields(data, ("texts", "vectors"), what="an object with texts or vectors")
    if len(content) != 1:
        raise BadRequest("", "expected either texts or vectors; send one of them")
    ((name, value),) = content.items()
    what = "texts" if name == "texts" else "vectors, lists of numbers"
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_BATCH:
        raise BadRequest(name, f"expected a list of 1 to {MAX_BATCH} {what}, got {_kind(value)}")
    if name == "texts":
        return EncodeRequest(tuple(_text(f"texts[{place}]", text) for place, text in enumerate(value)), None)
    return EncodeRequest(None, tuple(_vector(f"vectors[{place}]", vector) for place, vector in enumerate(value)))


def parse_changes(data: Any) -> ChangeRequest:
    """Return changes of the catalog.

    Args:
        data: any of `add` and `update`, lists of objects with `item_id` (as the item table of the run calls it) and
            other columns, and `remove`, a list of item ids.

    Raises:
        BadRequest: naming the field that is wrong.
    """
    names = ("add", "update", "remove")
    content = _fields(data, names, what="an object with add, update or remove")
    if not any(content.values()):
        raise BadRequest("", f"expected items to {', '.join(names[:-1])} or {names[-1]}, got none")
    return ChangeRequest(
        add=_records("add", content.get("add", [])),
        update=_records("update", content.get("update", [])),
        remove=_ids("remove", content.get("remove", []), MAX_CHANGES),
    )


def _fields(data: Any, known: Sequence[str], *, what: str) -> Mapping[str, Any]:
    """Return an object whose fields are among the known ones."""
    if not isinstance(data, Mapping):
        raise BadRequest("", f"expected {what}, got {_kind(data)}")
    for name in data:
        if name not in known:
            raise BadRequest(_name(name), f"unknown field{_nearest(name, known)}")
    return data


def _parameters(content: Mapping[str, Any], known: Sequence[str]) -> Mapping[str, Any]:
    parameters = content.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, Mapping):
        raise BadRequest("parameters", f"expected an object, got {_kind(parameters)}")
    for name in parameters:
        if name not in known:
            raise BadRequest(f"parameters.{_name(name)}", f"unknown parameter{_nearest(name, known)}")
    return parameters


def _histories(inputs: Any) -> tuple[tuple[str, ...], ...]:
    if not isinstance(inputs, list):
        raise BadRequest("inputs", f"expected a list of item ids, or a list of such lists, got {_kind(inputs)}")
    batch = inputs if inputs and all(isinstance(entry, list) for entry in inputs) else [inputs]
    if len(batch) > MAX_BATCH:
        raise BadRequest("inputs", f"expected at most {MAX_BATCH} histories, got {len(batch)}; send them in parts")
    return tuple(
        _ids("inputs" if batch[0] is inputs else f"inputs[{number}]", history, MAX_HISTORY)
        for number, history in enumerate(batch)
    )


def _users(value: Any, num_histories: int) -> tuple[str, ...]:
    place = f"parameters.{USER_IDS}"
    users = _ids(place, value, MAX_BATCH, what="user id")
    if len(users) != num_histories:
        raise BadRequest(place, f"expected one user id per history, got {len(users)} for {num_histories}")
    return users


def _ids(place: str, value: Any, most: int, *, what: str = "item id") -> tuple[str, ...]:
    if not isinstance(value, list):
        raise BadRequest(place, f"expected a list of {what}s, got {_kind(value)}")
    if len(value) > most:
        raise BadRequest(place, f"expected at most {most} {what}s, got {len(value)}; send fewer")
    return tuple(_id(f"{place}[{number}]", entry, what=what) for number, entry in enumerate(value))


def _id(place: str, value: Any, *, what: str = "item id") -> str:
    """Return an id as text; whole numbers stand for their digits, as in Python."""
    if isinstance(value, str) and len(value) <= MAX_ID_LENGTH:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < MAX_WHOLE_ID:
        return str(value)
    found = f"{len(value)} characters" if isinstance(value, str) else _kind(value)
    raise BadRequest(
        place, f"expected {_an(what)} (a string of at most {MAX_ID_LENGTH} characters, or a whole number), got {found}"
    )


def _option(place: str, name: str, value: Any) -> Any:
    if name == "top_k":
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_TOP_K:
            raise BadRequest(place, f"expected a whole number from 1 to {MAX_TOP_K}, got {_kind(value)}")
    elif name in ("exclude_seen", "explain", "exact"):
        if not isinstance(value, bool):
            raise BadRequest(place, f"expected true or false, got {_kind(value)}")
    elif name == "cold_share":
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise BadRequest(place, f"expected a share from 0 to 1, got {_kind(value)}")
    elif name in ("where", "diversify"):
        return None if value is None else _conditions(place, value)
    elif name in CHOICES:
        if value not in CHOICES[name]:
            raise BadRequest(place, f"expected one of {', '.join(CHOICES[name])}, got {_kind(value)}")
    elif value is not None:
        return _ids(place, value, MAX_IDS)
    return value


def _conditions(place: str, value: Any) -> dict[str, Any]:
    """Return conditions by column, small enough to be checked; the service checks what they are."""
    if not isinstance(value, Mapping) or not 1 <= len(value) <= MAX_CONDITIONS:
        found = f"an object of {len(value)}" if isinstance(value, Mapping) else _kind(value)
        raise BadRequest(place, f"expected an object of 1 to {MAX_CONDITIONS} columns, got {found}")
    for name, condition in value.items():
        own = f"{place}.{_name(name)}"
        if isinstance(condition, list) and len(condition) > MAX_VALUES:
            raise BadRequest(own, f"expected at most {MAX_VALUES} values, got {len(condition)}; send fewer")
        parts = condition.values() if isinstance(condition, Mapping) else condition
        for part in parts if isinstance(condition, list | Mapping) else [condition]:
            if isinstance(part, list | Mapping) or (isinstance(part, int) and abs(part) > MAX_WHOLE_ID):
                raise BadRequest(own, f"expected a value, a list of values, or min and max, got {_kind(part)} in it")
            if isinstance(part, str) and len(part) > MAX_ID_LENGTH:
                raise BadRequest(own, f"expected at most {MAX_ID_LENGTH} characters, got {len(part)}")
    return dict(value)


def _text(place: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_TEXT_LENGTH:
        found = f"{len(value)} characters" if isinstance(value, str) and value.strip() else _kind(value)
        raise BadRequest(place, f"expected a text of 1 to {MAX_TEXT_LENGTH} characters, got {found}")
    if not value.isascii() and LONE_SURROGATE.search(value):
        raise BadRequest(place, f"expected text of whole characters, got a lone surrogate in {value[:40]!a}")
    return value


def _vector(place: str, value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_WIDTH:
        raise BadRequest(place, f"expected a list of 1 to {MAX_WIDTH} numbers, got {_kind(value)}")
    for number, entry in enumerate(value):
        is_number = isinstance(entry, int | float) and not isinstance(entry, bool)
        if not is_number or not -1e30 < entry < 1e30:  # NaN is in no range
            raise BadRequest(f"{place}[{number}]", f"expected a finite number, got {_kind(entry)}")
    return tuple(map(float, value))


def _records(place: str, value: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, list) or len(value) > MAX_CHANGES:
        raise BadRequest(place, f"expected a list of at most {MAX_CHANGES} objects, got {_kind(value)}")
    for number, record in enumerate(value):
        if not isinstance(record, Mapping) or not record:
            found = "an empty one" if isinstance(record, Mapping) else _kind(record)
            raise BadRequest(f"{place}[{number}]", f"expected an object with the columns of an item, got {found}")
        for name, entry in record.items():
            if _is_deeper(entry, MAX_DEPTH):
                raise BadRequest(
                    f"{place}[{number}].{_name(name)}", f"expected lists and objects of at most {MAX_DEPTH} levels"
                )
    return tuple(value)


def _is_deeper(value: Any, most: int) -> bool:
    """Return whether lists and objects are in each other more than `most` times."""
    if not isinstance(value, list | Mapping):
        return False
    parts = value.values() if isinstance(value, Mapping) else value
    return not most or any(_is_deeper(part, most - 1) for part in parts)


def _kind(value: Any) -> str:
    """Return a short description of a value for an error, however deep, long or large it is."""
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, int) and abs(value) > MAX_BODY:  # Python refuses to write out thousands of digits
        return "a number that large"
    if isinstance(value, str):
        return repr(value[:40])
    return str(value)[:40] if isinstance(value, int | float) else f"a {type(value).__name__}"


def _an(what: str) -> str:
    return f"an {what}" if what.startswith("i") else f"a {what}"


def _name(value: Any) -> str:
    """Return the name of a field for an error; JSON can spell half a character, which no answer could hold."""
    return str(value)[:80].encode("utf-8", "backslashreplace").decode()


def _nearest(name: Any, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(_name(name), known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
