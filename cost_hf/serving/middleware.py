"""What happens to every request: its id, its token, its line in the log and its place in the metrics."""

import logging
import time
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cost_hf.serving.access import ITEMS_TOKEN, Access, Tokens
from cost_hf.serving.logs import id_of, request_id
from cost_hf.serving.metrics import ServerMetrics
from cost_hf.serving.replies import error_reply

logger = logging.getLogger("cost_hf.serving.requests")
CLIENT_LEFT = 499  # nobody receives it: a status of logs and metrics
QUIET_PATHS = frozenset({"/health", "/ready", "/metrics"})  # asked every few seconds; logged where something is wrong
# what is answered to an access that is not allowed: status, message, more headers
REFUSALS: Mapping[Access, tuple[int, str, dict[str, str]]] = {
    Access.NO_TOKEN: (
        401,
        "expected the header Authorization: Bearer TOKEN, with the token of this server",
        {"WWW-Authenticate": "Bearer"},
    ),
    Access.OFF: (403, f"changes of the catalog are off; start the server with {ITEMS_TOKEN} in its environment", {}),
}


class RequestMiddleware:
    """Gives every request an id, checks its token, and counts and logs its answer.

    It is plain ASGI: what frameworks make of middleware costs more than all that happens here.

    Args:
        app: answers requests.
        tokens: that they need.
        metrics: that count them.
    """

    def __init__(self, app: ASGIApp, *, tokens: Tokens, metrics: ServerMetrics):
        self.app = app
        self.tokens = tokens
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        headers = dict(scope["headers"])
        own_id = id_of(headers.get(b"x-request-id"))
        request_id.set(own_id)
        id_header = (b"x-request-id", own_id.encode())
        status = CLIENT_LEFT  # where nothing is sent

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), id_header]
            await send(message)

        try:
            access = self.tokens.access(scope["path"], headers.get(b"authorization"))
            if access in REFUSALS:
                code, text, more = REFUSALS[access]
                await error_reply(code, "", text, headers=more)(scope, receive, send_with_id)
            else:
                await self.app(scope, receive, send_with_id)
        except Exception:
            logger.exception("a request failed")
            if status != CLIENT_LEFT:
                raise  # the server closes the connection in the middle of the answer
            reply = error_reply(500, "", "the request could not be answered; the server has logged why")
            await reply(scope, receive, send_with_id)
        finally:
            self._record(scope, own_id, status, time.perf_counter() - start)

    def _record(self, scope: Scope, own_id: str, status: int, seconds: float) -> None:
        self.metrics.count_request(scope["path"], status, seconds)
        level = logging.WARNING if status >= 500 else logging.INFO
        if status < 400 and scope["path"] in QUIET_PATHS:
            level = logging.DEBUG
        if logger.isEnabledFor(level):
            facts: dict[str, Any] = {
                "request_id": own_id,
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "ms": round(1e3 * seconds, 2),
            }
            logger.log(level, "request", extra={"fields": facts})
