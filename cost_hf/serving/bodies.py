"""Bodies of requests, read up to a limit and a deadline."""

import asyncio
from collections.abc import Mapping

from starlette.requests import Request


class BodyTooLarge(Exception):
    """A body has more bytes than the server reads."""

    def __init__(self, most: int):
        super().__init__(f"expected at most {most} bytes; send the request in parts")


class BodyTooSlow(Exception):
    """A client takes too long to send a body."""


class ClientLeft(Exception):
    """The client closed the connection before the answer."""


def check_length(headers: Mapping[str, str], most: int) -> None:
    """Raise `BodyTooLarge` where the head of a request announces a body that is too large."""
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise BodyTooLarge(most)


async def read_body(request: Request, *, most: int, seconds: float) -> bytes:
    """Return the body of a request.

    Raises:
        BodyTooLarge: before more than `most` bytes are read.
        BodyTooSlow: where the client takes longer than that to send it.
        ClientLeft: where it closes the connection.
    """
    check_length(request.headers, most)
    try:
        async with asyncio.timeout(seconds):
            return await _whole_body(request, most)
    except TimeoutError as error:
        raise BodyTooSlow from error


async def _whole_body(request: Request, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise BodyTooLarge(most)
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)
