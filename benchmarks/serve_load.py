"""How many requests a second the server answers, batched and one by one, while its catalog changes meanwhile.

    python train.py --recipe cost_industrial --data.path DIR/amazon_industrial --vectors.model ID_OR_DIR \\
        --evaluation.baselines '[]' --output_dir RUN
    python benchmarks/serve_load.py --run RUN [--seconds 60] [--publish]

`cost-hf serve` runs as a process of its own on a copy of the recommender; this process is its clients: each sends a
request of one history of the run's data over its own connection, waits for the answer, and sends the next. Ten items
are wanted, seen ones excluded. An answer of another status or length ends the benchmark. `EndpointHandler` is called in
a loop, without HTTP. `swapped`: another process changes a column of 100 items by `save_catalog` every 5 s, and the
server reloads. Clients and server share the cores.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from timing import new_parser, save

from cost_hf.data.tables import read_tables
from cost_hf.experiments.recipe import Recipe
from cost_hf.hub.handler import EndpointHandler
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.repository import locate

TOP_K = 10
CLIENTS = 64
SWAP_SECONDS = 5.0
WARM_UP = 2.0  # seconds that are not counted
SWAPPED = "load_test"  # the column that changes
SWAPPING = "swapping"  # what the process that changes it says when it has begun


class Client(asyncio.Protocol):
    """One connection: sends the next request when the last is answered, and keeps the times.

    It parses only what this server sends, so that it costs little of the cores that it shares with it.

    Args:
        load: what all clients share.
    """

    def __init__(self, load: "Load"):
        self.load = load
        self.received = b""
        self.started = 0.0

    def connection_made(self, transport: Any) -> None:
        """Send the first request."""
        self.transport = transport
        self.send()

    def send(self) -> None:
        """Send a request."""
        self.started = time.perf_counter()
        self.transport.write(self.load.next_request())

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer; send the next request after the last one."""
        self.received += data
        head, separator, body = self.received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self.received = b""
        if self.load.take(head, body, time.perf_counter() - self.started):
            self.send()
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """End the load where the server closed the connection."""
        self.load.leave(error)


class Load:
    """Requests of several clients for a while.

    Args:
        requests: as bytes, sent in turns.
        clients: at once.
        seconds: counted, after a warm-up.
    """

    def __init__(self, requests: Sequence[bytes], *, clients: int, seconds: float):
        self.requests = requests
        self.clients = clients
        self.seconds = seconds
        self.sent = 0
        self.latencies: list[float] = []
        self.catalogs: set[bytes] = set()
        self.fault: str | None = None

    def next_request(self) -> bytes:
        """Return the next request."""
        self.sent += 1
        return self.requests[self.sent % len(self.requests)]

    def take(self, head: bytes, body: bytes, seconds: float) -> bool:
        """Check and count an answer; return whether to go on."""
        if not head.startswith(b"HTTP/1.1 200") or body.count(b'"item_id"') != TOP_K:
            self.fault = f"expected {TOP_K} items, got {head[:60]!r} {body[:200]!r}"
        self.catalogs.add(head.partition(b"x-catalog-digest: ")[2][:64])
        now = time.perf_counter()
        if self.begin <= now:
            self.latencies.append(seconds)
        return now < self.end and self.fault is None

    def leave(self, error: Exception | None) -> None:
        """Note that a connection is closed."""
        if time.perf_counter() < self.end and self.fault is None:
            self.fault = f"the server closed a connection ({error})"
        self.open -= 1
        if not self.open:
            self.done.set()

    async def run(self, port: int) -> dict[str, Any]:
        """Send requests to a server; return rate and quantiles."""
        self.begin = time.perf_counter() + WARM_UP
        self.end = self.begin + self.seconds
        self.open = self.clients
        self.done = asyncio.Event()
        loop = asyncio.get_running_loop()
        await asyncio.gather(
            *(loop.create_connection(lambda: Client(self), "127.0.0.1", port) for _ in range(self.clients))
        )
        await self.done.wait()
        if self.fault is not None:
            raise SystemExit(self.fault)
        return summary(self.latencies, self.seconds) | {"catalogs": len(self.catalogs)}


def summary(latencies: Sequence[float], seconds: float) -> dict[str, Any]:
    """Return requests a second and quantiles in milliseconds."""
    p50, p99 = 1e3 * np.quantile(latencies, [0.5, 0.99])
    return {
        "requests": len(latencies),
        "errors": 0,  # another answer ends the benchmark
        "requests a second": len(latencies) / seconds,
        "p50 ms": float(p50),
        "p99 ms": float(p99),
    }


def histories_of(run: Path, count: int = 2_000) -> list[list[str]]:
    """Return histories of a run's users: their clicks but the last."""
    clicks = read_tables(Recipe.load(str(run / "recipe.yaml")).data).interactions
    sequences = clicks.groupby("user_id", sort=True)["item_id"].agg(list)
    sequences = sequences[sequences.map(len) > 1]
    drawn = np.random.default_rng(0).permutation(len(sequences))[:count]
    return [sequences.iloc[user][:-1] for user in drawn]


def request_bytes(history: Sequence[str]) -> bytes:
    """Return a whole request."""
    body = json.dumps({"inputs": history, "parameters": {"top_k": TOP_K}}).encode()
    head = f"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Process(NamedTuple):
    """A server that runs."""

    port: int
    pid: int

    @property
    def cpu_seconds(self) -> float:
        """CPU time that it has taken so far."""
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system

    def batches(self) -> tuple[float, float]:
        """Return how many histories and batches it has answered so far."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            lines = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[:1] != "#")
        return float(lines["cost_hf_batch_size_sum"]), float(lines["cost_hf_batch_size_count"])


@contextmanager
def server(directory: Path, *options: str) -> Iterator["Process"]:
    """Run `cost-hf serve`; it must end with status 0."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "cost_hf.cli", "serve", str(directory), "--port", str(port), *options]
    process = subprocess.Popen([*command, "--log-level", "warning"])
    try:
        while not _is_ready(port):
            if process.poll() is not None:
                raise SystemExit("the server did not start")
            time.sleep(0.2)
        yield Process(port, process.pid)
        process.send_signal(signal.SIGINT)
        if process.wait(60) != 0:
            raise SystemExit(f"the server ended with status {process.returncode}")
    finally:
        process.kill()


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready") as answer:
            return answer.status == 200
    except OSError:
        return False


@contextmanager
def swaps(directory: Path) -> Iterator[None]:
    """Change the catalog every few seconds in another process, which has done so once when the block begins."""
    process = subprocess.Popen([sys.executable, __file__, "--swap", str(directory)], stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout.readline().strip() != SWAPPING:
            raise SystemExit("the process that changes the catalog did not start")
        yield
        if process.poll() is not None:
            raise SystemExit("the process that changes the catalog ended early")
    finally:
        process.kill()
        process.wait()


def swap(directory: Path) -> None:
    """Change a column of 100 items every few seconds, until killed."""
    recommender = Recommender.from_pretrained(directory)
    ids = recommender.catalog.item_ids
    draw = np.random.default_rng(0)
    recommender.add_columns(ids, {SWAPPED: draw.integers(0, 1000, len(ids))})
    recommender.save_catalog(directory)
    print(SWAPPING, flush=True)
    while True:
        time.sleep(SWAP_SECONDS)
        chosen = [ids[row] for row in draw.choice(len(ids), min(100, len(ids)), replace=False)]
        recommender.update_items(chosen, columns={SWAPPED: draw.integers(0, 1000, len(chosen))})
        recommender.save_catalog(directory)


def called(directory: Path, histories: Sequence[Sequence[str]], *, seconds: float) -> dict[str, Any]:
    """Call `EndpointHandler` in a loop."""
    handler = EndpointHandler(str(directory))
    latencies: list[float] = []
    begin = time.perf_counter() + WARM_UP
    number = 0
    while (start := time.perf_counter()) < begin + seconds:
        history = histories[number % len(histories)]
        (answers,) = handler({"inputs": history, "parameters": {"top_k": TOP_K}})["recommendations"]
        if len(answers) != TOP_K:
            raise SystemExit(f"expected {TOP_K} items, got {len(answers)}")
        if start >= begin:
            latencies.append(time.perf_counter() - start)
        number += 1
    return summary(latencies, seconds)


def main() -> None:
    """Measure the handler, and the server under several loads."""
    parser = new_parser(__doc__)
    parser.add_argument("--run", type=Path, required="--swap" not in sys.argv, help="finished run")
    parser.add_argument("--seconds", type=float, default=60.0, help="of every row")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--server", nargs=argparse.REMAINDER, default=[], help="more arguments of cost-hf serve")
    parser.add_argument("--swap", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.swap is not None:
        swap(options.swap)
    histories = histories_of(options.run)
    requests = [request_bytes(history) for history in histories]
    rows: list[dict[str, Any]] = []

    def loaded(process: Process, clients: int) -> dict[str, Any]:
        load = Load(requests, clients=clients, seconds=options.seconds)
        before = process.cpu_seconds
        histories, batches = process.batches()
        found = asyncio.run(load.run(process.port))
        histories_after, batches_after = process.batches()
        return {
            "clients": clients,
            **found,
            "mean batch": (histories_after - histories) / (batches_after - batches),
            "CPU ms a request": 1e3 * (process.cpu_seconds - before) / load.sent,
        }

    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "recommender"
        shutil.copytree(locate(options.run), directory)
        found = called(directory, histories, seconds=options.seconds)
        rows.append({"system": "EndpointHandler, called in a loop", "clients": 1, **found})
        single = ["--max-batch", "1", *options.server]
        with server(directory, *single) as process:
            rows.append({"system": "server, one client", **loaded(process, 1)})
            rows.append({"system": "server, one by one", **loaded(process, options.clients)})
        with server(directory, *options.server) as process:
            rows.append({"system": "server, batches", **loaded(process, options.clients)})
            with swaps(directory):
                rows.append({"system": "server, batches, swapped", **loaded(process, options.clients)})
    fewest = int(options.seconds / SWAP_SECONDS)
    if rows[-1]["catalogs"] < fewest:
        raise SystemExit(f"answers were of {rows[-1]['catalogs']} states of the catalog, expected {fewest} or more")
    rates = {row["system"]: row["requests a second"] for row in rows}
    ratio = rates["server, batches"] / rates["server, one by one"]
    print(f"batched / one by one: {ratio:.2f}x")
    about = {"recipe": Recipe.load(str(options.run / "recipe.yaml")).name, "ratio": round(ratio, 2)}
    save("serve_load", rows, publish=options.publish, seconds=options.seconds, cores=os.cpu_count(), **about)


if __name__ == "__main__":
    main()
