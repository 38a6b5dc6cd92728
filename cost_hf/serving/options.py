"""Options of the server."""

from dataclasses import dataclass, field
from pathlib import Path

from cost_hf.serving.access import Tokens
from cost_hf.serving.request_log import LogOptions


@dataclass(frozen=True)
class ServeOptions:
    """How a server answers.

    Attributes:
        host: address that it listens at.
        port: 0 for any free one.
        max_batch: most histories that are answered together.
        max_wait: seconds that a request waits at most for others while the model is idle.
        max_queue: most histories that wait; requests beyond are refused (503).
        timeout: seconds that a request may take (504).
        drain: seconds between SIGTERM, after which `/ready` is 503, and the end of the listening.
        poll: seconds between two looks at the directory.
        request_log: directory of the request log; None for none.
        log: how it is written.
        variant: arm of an A/B test that this server is, for the log.
        tokens: of the requests.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    max_batch: int = 64
    max_wait: float = 0.005
    max_queue: int = 512
    timeout: float = 10.0
    drain: float = 2.0
    poll: float = 1.0
    request_log: Path | None = None
    log: LogOptions = field(default_factory=LogOptions)
    variant: str | None = None
    tokens: Tokens = field(default_factory=Tokens)
