"""Servers in a thread of the test process, clients, and a recommender that waits where a test wants it to."""

import http.client
import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from cost_hf.recommenders.example import example_recommender
from cost_hf.serving.options import ServeOptions
from cost_hf.serving.server import GracefulServer, bound_socket, new_server
from cost_hf.serving.state import ServerState

SECONDS = 30.0  # to wait for what must come


@dataclass(frozen=True)
class Reply:
    """An answer: its status, its headers by lower-case names, and its bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[str, str]:
        """Field and message of an error."""
        error = self.json["error"]
        return error["field"], error["message"]


class HttpClient:
    """Requests to a server at a port of this machine."""

    def __init__(self, port: int):
        self.port = port

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """Send a request over a connection of its own; a body that is no bytes is sent as JSON."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, content, named)
            answer = connection.getresponse()
            return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def post(self, path: str, body: Any, **headers: str) -> Reply:
        return self.ask("POST", path, body, **headers)

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, **headers)

    def recommend(self, history: Sequence[str], **parameters: Any) -> Reply:
        return self.post("/recommend", {"inputs": list(history), "parameters": parameters})


class Running(HttpClient):
    """A server that runs, and requests to it."""

    def __init__(self, port: int, server: GracefulServer):
        super().__init__(port)
        self.server = server

    @property
    def state(self) -> ServerState:
        return self.server.state

    def metric(self, name: str) -> float:
        """Return the value of one series, by its name with labels."""
        for line in self.get("/metrics").body.decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[-1])
        return 0.0


@contextmanager
def running(directory: Path, **options: Any) -> Iterator[Running]:
    """Serve a recommender in a thread; `poll` is long unless it is given, so that tests decide when to look."""
    chosen = ServeOptions(**({"port": 0, "poll": 3600.0, "drain": 0.0} | options))
    with bound_socket(chosen.host, chosen.port) as listener:
        server = new_server(directory, chosen)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        wait_until(lambda: server.started)
        try:
            yield Running(listener.getsockname()[1], server)
        finally:
            server.should_exit = True
            thread.join(SECONDS)
            assert not thread.is_alive()


class Gate:
    """A service that waits before it answers, until the test lets it."""

    def __init__(self, service: Any):
        self._service = service
        self.requests: list[Any] = []
        self.entered = threading.Semaphore(0)
        self.go_on = threading.Event()

    def recommend_many(self, requests: Sequence[Any]) -> Any:
        self.requests += requests
        self.entered.release()
        assert self.go_on.wait(SECONDS)
        return self._service.recommend_many(requests)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)

    @property
    def histories(self) -> list[tuple[str, ...]]:
        """All histories that it was asked for."""
        return [history for request in self.requests for history in request.histories]


@contextmanager
def gated(server: Running) -> Iterator[Gate]:
    """Let a server answer through a gate, which is open afterwards."""
    live = server.state.live
    before = live.served
    gate = Gate(before.service)
    live.served = replace(before, service=gate)
    try:
        yield gate
    finally:
        gate.go_on.set()
        live.served = before


class Clients(ABC):
    """Threads that ask for histories in turns until they are stopped.

    Args:
        histories: number of them.
        count: of threads.
        seconds: to wait for the last answers.
    """

    def __init__(self, histories: int, count: int = 4, *, seconds: float = SECONDS):
        self.histories = histories
        self.seconds = seconds
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(self.seconds)

    @abstractmethod
    def ask(self, number: int) -> None:
        """Ask for a history by its number, and keep the answer."""

    def _run(self, number: int) -> None:
        while not self._stopping.is_set():
            number = (number + 1) % self.histories
            self.ask(number)


def saved_example(directory: Path) -> Path:
    """Save the example recommender."""
    example_recommender().save_pretrained(directory)
    return directory


def wait_until(holds: Callable[[], Any], *, seconds: float = SECONDS) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.005)
