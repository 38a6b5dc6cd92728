"""The endpoints: bodies are read and checked here, answered in batches, and errors become statuses."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cost_hf.recommenders.requests import (
    MAX_BODY,
    BadRequest,
    EncodeRequest,
    FailedRequest,
    decode,
    parse,
    parse_changes,
    parse_encode,
    parse_similar,
)
from cost_hf.serving.answering import Answer, Computed, size_of
from cost_hf.serving.batching import BatcherStopped, QueueFull
from cost_hf.serving.bodies import BodyTooLarge, BodyTooSlow, ClientLeft, read_body
from cost_hf.serving.live import NotSavedError
from cost_hf.serving.logs import request_id
from cost_hf.serving.metrics import CONTENT_TYPE
from cost_hf.serving.replies import NoReply, answer_reply, digest_headers, error_reply, json_reply, unread_reply
from cost_hf.serving.request_records import USER_HEADER
from cost_hf.serving.shown import labels_of, taken_user_id
from cost_hf.serving.state import ServerState

logger = logging.getLogger(__name__)
Endpoint = Callable[[Request], Awaitable[Response]]


class Routes:
    """The endpoints of a server.

    Args:
        state: of the server.
    """

    def __init__(self, state: ServerState):
        self.state = state

    async def recommend(self, request: Request) -> Response:
        """Return the best items for a history, or for each of a list of histories."""
        return await self._guarded(request, self._recommended)

    async def similar(self, request: Request) -> Response:
        """Return the items that are most similar to an item; `source` says by what."""
        return await self._guarded(request, self._computed(parse_similar))

    async def encode(self, request: Request) -> Response:
        """Return the codes of texts or item vectors."""
        return await self._guarded(request, self._computed(parse_encode))

    async def change_items(self, request: Request) -> Response:
        """Add, update and remove items, and save the change into the directory."""
        return await self._guarded(request, self._change)

    async def health(self, request: Request) -> Response:
        """Return whether the process answers requests at all; one that does not should be started again."""
        is_alive = self.state.is_alive
        return json_reply({"status": "alive" if is_alive else "dead"}, status=200 if is_alive else 503)

    async def ready(self, request: Request) -> Response:
        """Return whether requests should be sent here; not any more once the server is stopping."""
        is_ready = self.state.is_alive and not self.state.is_draining
        return json_reply({"status": "ready" if is_ready else "stopping"}, status=200 if is_ready else 503)

    async def metrics(self, request: Request) -> Response:
        """Return the metrics in the format of Prometheus."""
        return Response(self.state.metrics.text(), media_type=CONTENT_TYPE)

    async def _recommended(self, request: Request, deadline: float) -> Response:
        data = await self._content(request)
        user_id = taken_user_id(data)
        parsed = parse(data)
        labels = labels_of(parsed, user_id, request.headers.get(USER_HEADER))
        answer = await self._batched(request, parsed, deadline)
        if self.state.shown is not None:
            self.state.shown.add(request_id.get() or "", parsed, labels, answer)
        return answer_reply(answer)

    def _computed(self, parse_body: Callable[[Any], Computed]) -> Callable[[Request, float], Awaitable[Response]]:
        async def answer(request: Request, deadline: float) -> Response:
            return answer_reply(await self._batched(request, parse_body(await self._content(request)), deadline))

        return answer

    async def _content(self, request: Request) -> Any:
        """Return the content of the body."""
        return decode(await read_body(request, most=MAX_BODY, seconds=self.state.options.timeout))

    async def _batched(self, request: Request, parsed: Computed, deadline: float) -> Answer:
        """Return the answer of a request, unless it takes too long or its client leaves."""
        batcher = self.state.encoder if isinstance(parsed, EncodeRequest) else self.state.batcher
        waiting = batcher.submit(parsed, size_of(parsed))
        # the body is read, so the next message is that the client has left
        gone = asyncio.ensure_future(request.receive())
        try:
            seconds = max(0.0, deadline - time.monotonic())
            await asyncio.wait((waiting.future, gone), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if waiting.future.done():
                return waiting.future.result()
            if gone.done():
                raise ClientLeft
            raise TimeoutError
        finally:
            gone.cancel()
            if not waiting.future.done():
                batcher.abandon(waiting)

    async def _change(self, request: Request, deadline: float) -> Response:
        changes = parse_changes(await self._content(request))
        # one that has begun is never given up: the client has to know what became of it
        answer, served = await asyncio.shield(asyncio.to_thread(self.state.live.change, changes))
        return json_reply(answer, headers=digest_headers(served))

    async def _guarded(self, request: Request, answer: Callable[[Request, float], Awaitable[Response]]) -> Response:
        """Answer a request, or say why not by a status."""
        timeout = self.state.options.timeout
        try:
            return await answer(request, time.monotonic() + timeout)
        except BadRequest as error:
            return error_reply(400, error.field, str(error))
        except FailedRequest as error:
            return error_reply(500, error.field, str(error))
        except NotSavedError as error:
            logger.error("a change was not saved: %s", error)
            return error_reply(409, "", f"nothing has changed: {error}")
        except BodyTooLarge as error:
            return unread_reply(413, str(error))
        except BodyTooSlow:
            return unread_reply(408, f"the body did not come within {timeout:g} s")
        except QueueFull as error:
            return error_reply(503, "", str(error), headers={"Retry-After": str(error.retry_after)})
        except BatcherStopped as error:
            return error_reply(503, "", str(error), headers={"Retry-After": "1", "Connection": "close"})
        except ClientLeft:
            return NoReply()
        except TimeoutError:
            return error_reply(504, "", f"not answered within {timeout:g} s; send fewer histories, or try again later")
