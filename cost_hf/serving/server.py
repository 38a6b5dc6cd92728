"""The process: it listens, answers until a signal comes, and ends when everything is answered."""

import logging
import signal
import socket
import time
from pathlib import Path
from types import FrameType

import torch
import uvicorn

from cost_hf.command_line import port_error
from cost_hf.serving.app import build_app
from cost_hf.serving.options import ServeOptions
from cost_hf.serving.state import ServerState

logger = logging.getLogger(__name__)


class GracefulServer(uvicorn.Server):
    """A server that ends with status 0 after SIGTERM, when it has answered all that it accepted.

    From the signal on `/ready` is 503, so that balancers stop sending requests here; it listens for `drain` more
    seconds, since they notice late. SIGINT ends it without this delay, and a second signal at once.
    """

    def __init__(self, config: uvicorn.Config, state: ServerState):
        super().__init__(config)
        self.state = state
        self._stop_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and log where."""
        await super().startup(sockets)
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            logger.info("listening", extra={"fields": {"address": address, **self.state.live.served.facts}})

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop."""
        if self._stop_at is not None:
            self.should_exit = True
            self.force_exit = True
            return
        self.state.is_draining = True
        self._stop_at = time.monotonic() + (self.state.options.drain if sig == signal.SIGTERM else 0.0)

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop listening now; called ten times a second."""
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            return True
        return await super().on_tick(counter)


def set_threads(threads: int | None) -> None:
    """Let torch use this many threads; as many as it takes by itself where None is given."""
    if threads is not None:
        torch.set_num_threads(threads)


def serve(source: str | Path, options: ServeOptions) -> None:
    """Serve a recommender until a signal comes.

    Args:
        source: run directory, recommender directory, or Hub id.
        options: of the server.

    Raises:
        OSError: where nothing is found, or the port is not free.
        ValueError: for a recommender that can't be loaded.
    """
    with bound_socket(options.host, options.port) as listener:
        server = new_server(source, options)
        server.run(sockets=[listener])
    logger.info("stopped")


def new_server(source: str | Path, options: ServeOptions) -> GracefulServer:
    """Return the server of a recommender, which is loaded here; `run` it with a `bound_socket`.

    Raises:
        OSError, ValueError: where the recommender can't be loaded.
    """
    app = build_app(source, options)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=max(1, round(options.timeout)),
    )
    return GracefulServer(config, app.state.serving)


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket that has the port, but does not listen yet; a port that is taken is an error before the load."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise port_error(host, port, error) from error
    return bound
