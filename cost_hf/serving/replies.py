"""Answers as JSON: results with the digests of what gave them, and errors that name the field."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cost_hf.recommenders.requests import RequestError
from cost_hf.serving.answering import Answer
from cost_hf.serving.live import Served

MODEL_HEADER = "X-Model-Digest"
CATALOG_HEADER = "X-Catalog-Digest"
LINGER_BYTES = 10_000_000
LINGER_SECONDS = 2.0


class NoReply(Response):
    """What is sent to a client that has left: nothing."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send nothing."""


class LingeringReply(Response):
    """An answer to a request whose body was not read to its end; what is left of it is thrown away, within limits.

    A connection that is closed while its client still sends is reset, and the client may never see the answer.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, and close the connection when the client has stopped sending."""
        self.headers["connection"] = "close"
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                await _discard(receive)
        await send({"type": "http.response.body", "body": b""})


async def _discard(receive: Receive) -> None:
    left = LINGER_BYTES
    while left > 0:
        message = await receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return
        left -= len(message.get("body", b""))


def json_reply(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer."""
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def answer_reply(answer: Answer) -> Response:
    """Return the answer of a batch."""
    return json_reply(answer.content, headers=digest_headers(answer.served))


def digest_headers(served: Served) -> dict[str, str]:
    """Return the headers that say what gave an answer."""
    return {MODEL_HEADER: served.model, CATALOG_HEADER: served.catalog}


def unread_reply(status: int, message: str) -> Response:
    """Return an error of a request whose body was not read to its end."""
    content = orjson.dumps(RequestError("body", message).as_json())
    return LingeringReply(content, status, media_type="application/json")


def error_reply(status: int, field: str, message: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error; it says which field of the request is wrong, where one is."""
    return json_reply(RequestError(field, message).as_json(), status=status, headers=headers)
