"""Requests of Inference Endpoints: JSON in, JSON out, and errors that name the field.

    {"inputs": ["item-1", "item-7"], "parameters": {"top_k": 5}}  ->  {"recommendations": [[{"item_id", "score", …}]]}

No request raises: errors are returned as `{"error": {"field", "message"}}`.
"""

import difflib
import json
import logging
import math
from collections.abc import Mapping
from typing import Any

from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.rankers import exact_ranker
from cost_hf.search.exact_search import BUDGET

logger = logging.getLogger(__name__)
MAX_BODY = 1_000_000  # bytes
MAX_BATCH = 64  # histories
MAX_HISTORY = 1_000  # items
MAX_TOP_K = 200
MAX_BEAMS = 6_400  # of one request: histories times beams, twice with a quota of cold items or explanations
MAX_IDS = 100_000  # of allowed and denied
MAX_ID_LENGTH = 512  # characters
ANSWER_FIELDS = ("source", "title", "explanation", "is_exact", "bound")
CHOICES = {"on_unknown": ("error", "drop"), "on_empty": ("error", "popularity")}
DEFAULTS: dict[str, Any] = {
    "top_k": 10,
    "exclude_seen": True,
    "allowed": None,
    "denied": None,
    "on_unknown": "drop",  # click logs hold items that the catalog does not
    "on_empty": "popularity",
    "cold_share": 0.0,
    "explain": False,
    "exact": False,
}


class BadRequest(ValueError):
    """A request can't be answered; `field` names the part of it."""

    def __init__(self, field: str, message: str):
        super().__init__(message)
        self.field = field


class EndpointHandler:
    """Answers requests by a recommender of any kind; several threads may use one.

    Args:
        path: a run directory, a recommender directory, or a Hub id.
    """

    def __init__(self, path: str = ""):
        self.recommender = Recommender.from_pretrained(path or ".")

    def __call__(self, data: Any) -> dict[str, Any]:
        """Answer one request.

        Args:
            data: `inputs`: a history (item ids, oldest first) or a list of histories; `parameters`: any of `top_k`,
                `exclude_seen`, `allowed`, `denied`, `on_unknown`, `on_empty`, `cold_share`, `explain`, `exact`, as
                for `recommend`. Items that the catalog does not hold are dropped, and empty histories answered by
                popularity, by default.

        Returns:
            `recommendations`, one list per history, best first; or `error` with `field` and `message`.
        """
        try:
            histories, options = parse(data)
            return {"recommendations": self._answers(histories, options)}
        except BadRequest as error:
            return {"error": {"field": error.field, "message": str(error)}}
        except Exception:  # the client gets no traceback of the server
            logger.exception("a request failed")
            return {"error": {"field": "", "message": "the request could not be answered; the server has logged why"}}

    def _answers(self, histories: list[list[str]], options: dict[str, Any]) -> list[list[dict[str, Any]]]:
        if self.recommender.needs_user_ids:
            raise BadRequest("inputs", "this generator was trained with user tokens, which requests do not carry")
        catalog = self.recommender.catalog
        for name in ("allowed", "denied"):
            unknown = [item for item in options[name] or () if item not in catalog]
            if unknown:
                raise BadRequest(f"parameters.{name}", f"{_shown(unknown)} not in the catalog; leave them out")
        if options["on_unknown"] == "error":
            unknown = [item for history in histories for item in history if item not in catalog]
            if unknown:
                raise BadRequest("inputs", f"{_shown(unknown)} not in the catalog; leave them out, or on_unknown: drop")
        if options["on_empty"] == "error":
            empty = [number for number, history in enumerate(histories) if not any(item in catalog for item in history)]
            if empty:
                raise BadRequest("inputs", f"history {empty[0]} holds no item of the catalog; or on_empty: popularity")
        if options["explain"] and not self.recommender.can_explain:
            raise BadRequest("parameters.explain", "this recommender can't explain its answers; leave it out")
        if options["exact"]:
            try:
                exact_ranker(self.recommender.ranker_for(options["top_k"]))
            except ValueError as error:
                message = "this recommender scores candidates alone, so no list can be proved; leave it out"
                raise BadRequest("parameters.exact", message) from error
        self._check_work(len(histories), options)
        lists = self.recommender.recommend(histories, **options)
        return [[_answer(entry) for entry in answers] for answers in lists]

    def _check_work(self, histories: int, options: dict[str, Any]) -> None:
        """Raise `BadRequest` for more work than one request may cause; time and memory grow with beams."""
        searches = [part for part in (self.recommender, *self.recommender.parts.values()) if hasattr(part, "num_beams")]
        beams = max(options["top_k"], sum(max(options["top_k"], part.num_beams) for part in searches))
        if options["exact"] and searches:
            beams = max(beams, BUDGET)
        beams *= (2 if options["cold_share"] else 1) * (2 if options["explain"] else 1)
        if histories > 1 and histories * beams > MAX_BEAMS:
            raise BadRequest(
                "inputs",
                f"expected at most {max(1, MAX_BEAMS // beams)} histories with these parameters, got {histories}; send "
                "them in parts, or lower top_k",
            )


def decode(body: bytes) -> Any:
    """Return the content of a request's body, for servers that pass on bytes.

    Raises:
        BadRequest: for too many bytes, or invalid JSON, NaN and Infinity among it.
    """
    if len(body) > MAX_BODY:
        raise BadRequest("body", f"expected at most {MAX_BODY} bytes, got {len(body)}; send fewer histories")
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest("body", f"expected JSON, got {body[:40]!r} ({type(error).__name__}); correct it") from error


def parse(data: Any) -> tuple[list[list[str]], dict[str, Any]]:
    """Return the histories and the options of a request; raise `BadRequest` naming the field that is wrong."""
    if not isinstance(data, Mapping):
        raise BadRequest("", f"expected an object with inputs, got {_kind(data)}")
    for name in data:
        if name not in ("inputs", "parameters"):
            raise BadRequest(str(name)[:80], f"unknown field{_nearest(name, ['inputs', 'parameters'])}")
    if "inputs" not in data:
        raise BadRequest("inputs", "expected a list of item ids, or a list of such lists; it is missing")
    parameters = data.get("parameters")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise BadRequest("parameters", f"expected an object, got {_kind(parameters)}")
    options = dict(DEFAULTS)
    for name, value in (parameters or {}).items():
        field = f"parameters.{str(name)[:80]}"
        if name not in DEFAULTS:
            raise BadRequest(field, f"unknown parameter{_nearest(name, list(DEFAULTS))}")
        options[name] = _option(field, name, value)
    return _histories(data["inputs"]), options


def _histories(inputs: Any) -> list[list[str]]:
    if not isinstance(inputs, list):
        raise BadRequest("inputs", f"expected a list of item ids, or a list of such lists, got {_kind(inputs)}")
    batch = inputs if inputs and all(isinstance(entry, list) for entry in inputs) else [inputs]
    if len(batch) > MAX_BATCH:
        raise BadRequest("inputs", f"expected at most {MAX_BATCH} histories, got {len(batch)}; send them in parts")
    return [
        _ids("inputs" if batch[0] is inputs else f"inputs[{number}]", history, MAX_HISTORY)
        for number, history in enumerate(batch)
    ]


def _ids(field: str, value: Any, most: int) -> list[str]:
    if not isinstance(value, list):
        raise BadRequest(field, f"expected a list of item ids, got {_kind(value)}")
    if len(value) > most:
        raise BadRequest(field, f"expected at most {most} item ids, got {len(value)}; send fewer")
    for place, item in enumerate(value):
        if not isinstance(item, str) or len(item) > MAX_ID_LENGTH:
            found = _kind(item) if not isinstance(item, str) else f"{len(item)} characters"
            raise BadRequest(
                f"{field}[{place}]",
                f"expected an item id (a string of at most {MAX_ID_LENGTH} characters), got {found}",
            )
    return value


def _option(field: str, name: str, value: Any) -> Any:
    if name == "top_k":
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_TOP_K:
            raise BadRequest(field, f"expected a whole number from 1 to {MAX_TOP_K}, got {_kind(value)}")
    elif name in ("exclude_seen", "explain", "exact"):
        if not isinstance(value, bool):
            raise BadRequest(field, f"expected true or false, got {_kind(value)}")
    elif name == "cold_share":
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise BadRequest(field, f"expected a share from 0 to 1, got {_kind(value)}")
    elif name in CHOICES:
        if value not in CHOICES[name]:
            raise BadRequest(field, f"expected one of {', '.join(CHOICES[name])}, got {_kind(value)}")
    elif value is not None:
        return _ids(field, value, MAX_IDS)
    return value


def _answer(entry: Any) -> dict[str, Any]:
    """Return an entry of a list as JSON; numbers that JSON does not have are null."""
    answer = {"item_id": entry.item_id, "score": float(entry.score)}
    answer |= {name: entry.fields[name] for name in ANSWER_FIELDS if name in entry.fields}
    return answer | {name: None for name in ("score", "bound") if not math.isfinite(answer.get(name, 0.0))}


def _shown(items: list[str]) -> str:
    names = ", ".join(repr(item[:40]) for item in items[:3])
    return f"{names}{' …' if len(items) > 3 else ''} {'is' if len(items) == 1 else 'are'}"


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


def _nearest(name: Any, known: list[str]) -> str:
    close = difflib.get_close_matches(str(name)[:80], known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
