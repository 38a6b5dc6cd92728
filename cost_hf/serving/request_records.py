"""Records of a request log: what was shown to whom, by which model over which catalog. The schema of the log.

One record is one list that was shown. Both formats have the same fields; in parquet `options` is JSON text.

| field | type | content |
|---|---|---|
| `time` | timestamp, UTC, microseconds; ISO 8601 in jsonl | when the list was made |
| `request_id` | string | of the request; lists of one request share it |
| `user_id` | string or null | label of the request for joining clicks; the recommender does not read it |
| `variant` | string or null | name of the arm of an A/B test, where the server was given one |
| `model` | string | digest of the model: weights, tables and options |
| `catalog` | string | digest of the catalog that answered |
| `history` | list of strings or null | items of the history, oldest first; null where histories are left out |
| `options` | object | options of the request; long lists of ids are counted |
| `shown` | list of `item_id`, `rank`, `score` | the list, ranks from 1; a score that is not finite is null |

A request gives its user as `user_id` in the body or in the header `X-User-ID`; see `user_labels`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cost_hf.recommenders.requests import MAX_WHOLE_ID

USER_HEADER = "X-User-ID"
MAX_LABEL = 512  # characters of a user id or request id
MAX_LISTED = 100  # entries of a list in options; of a longer one the number is logged
ID_OPTIONS = ("allowed", "denied")  # lists of items, which may say what a user has


@dataclass(frozen=True)
class RequestRecord:
    """One list that was shown.

    Attributes:
        time: when the list was made, with a time zone.
        request_id: of the request.
        model: digest of the model.
        catalog: digest of the catalog.
        shown: item ids with their scores, best first; an answer has None for a score that JSON does not have.
        history: item ids, oldest first.
        options: of the request.
        user_id: label of the user; None where the request has none.
        variant: arm of an A/B test; None without one.
    """

    time: datetime
    request_id: str
    model: str
    catalog: str
    shown: Sequence[tuple[str, float | None]]
    history: Sequence[str] = ()
    options: Mapping[str, Any] | None = None
    user_id: str | None = None
    variant: str | None = None

    def row(self, *, with_history: bool) -> dict[str, Any]:
        """Return the record by field, `time` as a datetime and `options` as an object that JSON can hold.

        Args:
            with_history: keep the history, and item ids among the options.
        """
        return {
            "time": self.time.astimezone(UTC),
            "request_id": _whole_text(self.request_id),
            "user_id": None if self.user_id is None else _whole_text(self.user_id),
            "variant": None if self.variant is None else _whole_text(self.variant),
            "model": self.model,
            "catalog": self.catalog,
            "history": [_whole_text(item) for item in self.history] if with_history else None,
            "options": logged_options(self.options or {}, with_ids=with_history),
            "shown": [
                {"item_id": _whole_text(item), "rank": rank, "score": _score(score)}
                for rank, (item, score) in enumerate(self.shown, start=1)
            ],
        }


def logged_options(options: Mapping[str, Any], *, with_ids: bool) -> dict[str, Any]:
    """Return the options of a request as they are logged.

    Args:
        options: by name, values as JSON has them.
        with_ids: keep short lists of item ids.

    Examples:
        >>> logged_options({"top_k": 5, "denied": ["a", "b"]}, with_ids=False)
        {'top_k': 5, 'denied': {'count': 2}}
    """
    return {
        name: _counted(value, most=MAX_LISTED if with_ids or name not in ID_OPTIONS else 0)
        for name, value in options.items()
    }


def user_labels(in_body: Any, header: str | None, num_histories: int) -> list[str | None]:
    """Return the user id of each history of a request; the body is preferred to the header.

    Args:
        in_body: field `user_id` of the body: an id, a list with an entry for each history, or None. A whole number
            stands for its digits, as in tables of clicks.
        header: value of `X-User-ID`, or None. It counts only for a request with one history.
        num_histories: in the request.

    Raises:
        ValueError: for other types, an empty or long id, or a list of another length.

    Examples:
        >>> user_labels(["u1", None], None, 2), user_labels(None, "u7", 1)
        (['u1', None], ['u7'])
    """
    if in_body is None:
        labels = [header or None if num_histories == 1 else None] * num_histories
    elif isinstance(in_body, list):
        labels = in_body
    else:
        labels = [in_body]
    if len(labels) != num_histories:
        raise ValueError(
            f"expected a user id for each of the {num_histories} histories, got {len(labels)}; send a list with null "
            "where a user is not known"
        )
    labels = [str(label) if _is_whole(label) else label for label in labels]
    for label in labels:
        if label is not None and not (isinstance(label, str) and 0 < len(label) <= MAX_LABEL):
            found = f"{len(label)} characters" if isinstance(label, str) else f"a {type(label).__name__}"
            raise ValueError(
                f"expected user ids of 1 to {MAX_LABEL} characters, got {found}; leave it out or send null"
            )
    return labels


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < MAX_WHOLE_ID


def _counted(value: Any, *, most: int) -> Any:
    """Return an option with every list longer than `most` replaced by its length."""
    if isinstance(value, Mapping):
        return {str(name): _counted(part, most=most) for name, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return {"count": len(value)} if len(value) > most else list(value)
    return value


def options_json(options: Mapping[str, Any]) -> str:
    """Return options as JSON text; a value that JSON does not have is written as its text."""
    return json.dumps(options, default=str)


def _score(score: float | None) -> float | None:
    return None if score is None or not math.isfinite(score) else float(score)


def _whole_text(text: str) -> str:
    """Return a text that UTF-8 can hold: JSON of a request can spell half a character."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
