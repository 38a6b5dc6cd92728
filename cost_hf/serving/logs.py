"""Structured logs: one JSON object a line, with the id of the request that a line is about."""

import logging
import re
import uuid
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import orjson

VALID_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


class JsonFormatter(logging.Formatter):
    """Writes a record as JSON: `time`, `level`, `logger`, `message`, `request_id` and the `fields` of the record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        own = request_id.get()
        if own is not None:
            line["request_id"] = own
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def set_up_json_logs(level: str) -> None:
    """Log to standard error by `JsonFormatter`, whatever was set up before.

    Args:
        level: the lowest that is logged; requests are logged at `info`.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("uvicorn", "httpx", "httpx2", "sentence_transformers", "datasets", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def id_of(given: bytes | None) -> str:
    """Return the id that a client gave its request, or a new one where it gave none that can be logged."""
    if given is not None and VALID_ID.fullmatch(given):
        return given.decode("ascii")
    return uuid.uuid4().hex
