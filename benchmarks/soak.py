"""Whether the server runs for long: no error, every answer of the edition that it names, and no growing memory.

    python benchmarks/soak.py [--run RUN] [--minutes 30] [--publish]

`cost-hf serve` runs as a process of its own on a copy of the recommender of RUN, a small made-up one by default. Eight
threads of this process ask again and again, each over a connection of its own. Meanwhile this process changes the
catalog every 10 s (an item goes, and comes back with the next change) and every minute the weights, so that the server
loads all of the model again. What every edition answers is computed here before it is saved. An answer of another
status, of another list than that of the edition in its headers, or of an edition that was never saved ends the soak.

Resident memory of the server is read every half second. The first third of the time is its warm-up; of what follows,
the median of the last third may be at most 5 % above that of the first.
"""

import argparse
import http.client
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from serve_load import server
from timing import new_parser, save

from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.example import example_recommender
from cost_hf.recommenders.repository import locate

TOP_K = 3
HISTORIES = 16
LONGEST = 2  # items of a history
TOLERANCE = 1e-3  # of scores: batches of other sizes round differently
SAMPLE_SECONDS = 0.5
MOST_GROWTH = 0.05
NOISE = 0.3  # of the weights' standard deviation, so that editions differ


@dataclass
class Plan:
    """What happens, and for how long.

    Attributes:
        seconds: of the whole soak.
        change: seconds between two changes of the catalog.
        reload: seconds between two changes of the weights.
        threads: that ask.
    """

    seconds: float = 1800.0
    change: float = 10.0
    reload: float = 60.0
    threads: int = 8


@dataclass
class Record:
    """What was seen.

    Attributes:
        editions: what every edition answers, by digests of model and catalog: items and scores, for every history.
        answers: counted by edition.
        memory: (seconds since the start, resident MB of the server).
        fault: why the soak ended early.
    """

    editions: dict[tuple[str, str], list[list[tuple[str, float]]]] = field(default_factory=dict)
    answers: dict[tuple[str, str], int] = field(default_factory=dict)
    memory: list[tuple[float, float]] = field(default_factory=list)
    fault: str | None = None

    def growth(self, warm_up: float) -> float:
        """Return by what share the memory has grown after a warm-up of so many seconds."""
        after = [size for moment, size in self.memory if moment >= warm_up]
        third = len(after) // 3
        if third == 0:
            raise SystemExit(f"{len(after)} samples of the memory after {warm_up:.0f} s; give more --minutes")
        return float(np.median(after[-third:]) / np.median(after[:third]) - 1)


class Clients:
    """Threads that ask until they are stopped.

    Args:
        port: of the server.
        histories: asked for in turns.
        record: takes what is seen.
        count: of threads.
    """

    def __init__(self, port: int, histories: Sequence[Sequence[str]], record: Record, count: int):
        self.port = port
        self.histories = histories
        self.record = record
        self._counting = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(count)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            while not self._stopping.is_set() and self.record.fault is None:
                number = (number + 1) % len(self.histories)
                self._ask(connection, number)
        except Exception as error:
            self.record.fault = f"a client failed: {type(error).__name__}: {error}"
        finally:
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection, number: int) -> None:
        body = json.dumps({"inputs": self.histories[number], "parameters": {"top_k": TOP_K}})
        connection.request("POST", "/recommend", body)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            self.record.fault = f"status {answer.status}: {content[:200]!r}"
            return
        edition = answer.getheader("X-Model-Digest", ""), answer.getheader("X-Catalog-Digest", "")
        (listed,) = json.loads(content)["recommendations"]
        expected = self.record.editions.get(edition)
        if expected is None:
            self.record.fault = f"an answer of the edition {edition}, which was never saved"
        elif not is_same_list([(item["item_id"], item["score"]) for item in listed], expected[number]):
            self.record.fault = f"history {number} has another list than its edition {edition}: {listed}"
        with self._counting:
            self.record.answers[edition] = self.record.answers.get(edition, 0) + 1


def is_same_list(listed: Sequence[tuple[str, float]], expected: Sequence[tuple[str, float]]) -> bool:
    """Return whether two lists are equal, but for items that differ by less than rounding."""
    if len(listed) != len(expected) or len({item for item, _ in listed}) != len(listed):
        return False
    if any(abs(one[1] - other[1]) > TOLERANCE for one, other in zip(listed, expected, strict=True)):
        return False
    scores = dict(expected)
    last = expected[-1][1] if expected else 0.0
    # an item that stands in one list alone ties with the end of the other
    return all(abs(scores.get(item, last) - score) <= 2 * TOLERANCE for item, score in listed)


class Writer:
    """Another process's view of the directory: it changes catalog and weights and knows what each edition answers.

    Args:
        directory: that is served.
        record: takes the editions.
    """

    def __init__(self, directory: Path, record: Record):
        self.directory = directory
        self.record = record
        self.recommender = Recommender.from_pretrained(directory)
        if self.recommender.network is None:
            raise SystemExit(f"{self.recommender.kind} has no network whose weights can change; give another --run")
        snapshot = self.recommender.snapshot
        ids = self.recommender.catalog.item_ids
        popular = [ids[row] for row in snapshot.popularity_order if not self.recommender.catalog.removed[row]]
        draw = np.random.default_rng(0)
        self.histories = [
            [popular[row] for row in draw.integers(0, min(len(popular), 200), 1 + number % LONGEST)]
            for number in range(HISTORIES)
        ]
        self.popular = popular
        self.removed: str | None = None
        self.changes = 0
        self.reloads = 0
        self._weights = torch.Generator().manual_seed(0)
        self._note(self.recommender)

    def change_catalog(self) -> None:
        """Remove an item that is listed, or bring it back, and save."""
        if self.removed is None:
            self.removed = self.popular[self.changes % min(len(self.popular), 20)]
            self.recommender.remove_items([self.removed])
        else:
            self.recommender.rollback()
            self.removed = None
        self.changes += 1
        self._note(self.recommender)
        self.recommender.save_catalog(self.directory)

    def change_weights(self) -> None:
        """Move all weights a little, and save the model."""
        with torch.no_grad():
            for weight in self.recommender.network.parameters():
                if weight.is_floating_point() and weight.numel() > 1:
                    noise = torch.randn(weight.shape, generator=self._weights)
                    weight.add_((NOISE * weight.std() * noise).to(weight.dtype))
        with tempfile.TemporaryDirectory() as scratch:  # what is computed of the weights may be held by the recommender
            self.recommender.save_pretrained(scratch)
            self._note(Recommender.from_pretrained(scratch))
        self.recommender.save_pretrained(self.directory)
        self.recommender = Recommender.from_pretrained(self.directory)
        self.reloads += 1

    def _note(self, recommender: Recommender) -> None:
        """Compute what the edition answers that is saved next."""
        lists = recommender.recommend(self.histories, top_k=TOP_K)
        found = [[(answer.item_id, float(answer.score)) for answer in answers] for answers in lists]
        self.record.editions[recommender.model_digest, recommender.catalog.version] = found


def soak(directory: Path, plan: Plan) -> dict[str, Any]:
    """Serve a directory, which is changed, for a while; return what was seen.

    Raises:
        SystemExit: for a wrong answer, an edition that never answered, or memory that grew.
    """
    record = Record()
    writer = Writer(directory, record)
    with (
        server(directory, "--poll", "0.5", "--timeout", "60") as process,
        Clients(process.port, writer.histories, record, plan.threads),
    ):
        resident = psutil.Process(process.pid)
        start = time.monotonic()
        next_change = plan.change
        next_reload = plan.reload
        while (now := time.monotonic() - start) < plan.seconds and record.fault is None:
            record.memory.append((now, resident.memory_info().rss / 1e6))
            if now >= next_reload:
                writer.change_weights()
                next_reload += plan.reload
            elif now >= next_change:
                writer.change_catalog()
                next_change += plan.change
            time.sleep(SAMPLE_SECONDS)
    if record.fault is not None:
        raise SystemExit(record.fault)
    models = {model for model, _ in record.answers}
    if len(models) < 1 + writer.reloads or len(record.answers) < 2 + writer.reloads:
        raise SystemExit(
            f"{writer.reloads} models and {writer.changes} catalogs were saved; {len(models)} models and "
            f"{len(record.answers)} editions answered"
        )
    growth = record.growth(plan.seconds / 3)
    found = {
        "minutes": plan.seconds / 60,
        "threads": plan.threads,
        "requests": sum(record.answers.values()),
        "errors": 0,  # another answer ends the soak
        "changes of the catalog": writer.changes,
        "reloads of the model": writer.reloads,
        "editions that answered": len(record.answers),
        "MB at the end": record.memory[-1][1],
        "growth": growth,
    }
    if growth > MOST_GROWTH:
        raise SystemExit(f"memory grew by {growth:.1%}, expected at most {MOST_GROWTH:.0%}: {found}")
    return found


def main() -> None:
    """Run a soak."""
    parser = new_parser(__doc__)
    parser.add_argument("--run", type=Path, default=None, help="finished run [a small made-up recommender]")
    parser.add_argument("--minutes", type=float, default=30.0)
    options: argparse.Namespace = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "recommender"
        if options.run is None:
            example_recommender().save_pretrained(directory)
        else:
            shutil.copytree(locate(options.run), directory)
        found = soak(directory, Plan(seconds=60 * options.minutes))
    save("soak", [found], publish=options.publish, run="example" if options.run is None else "trained")


if __name__ == "__main__":
    main()
