"""Answers as JSON: results with the digests of what gave them, and errors that name the field."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cost_hf.recommenders.requests import RequestError
from cost_hf.serving.answering import Answer
from cost_hf.serving.live import Served

MODEL_HEADER = "X-Model-Digest"
CATALOG_HEADER = "X-Catalog-Digest"


class NoReply(Response):
    """What is sent to a client that has left: nothing."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send nothing."""


def json_reply(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer."""
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def answer_reply(answer: Answer) -> Response:
    """Return the answer of a batch."""
    return json_reply(answer.content, headers=digest_headers(answer.served))


def digest_headers(served: Served) -> dict[str, str]:
    """Return the headers that say what gave an answer."""
    return {MODEL_HEADER: served.model, CATALOG_HEADER: served.catalog}


def error_reply(status: int, field: str, message: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error; it says which field of the request is wrong, where one is."""
    return json_reply(RequestError(field, message).as_json(), status=status, headers=headers)
