"""Dynamic batching: requests that wait together are answered together, by one thread that computes.

Whatever arrives while a batch is computed waits for the next one, so that batches grow with the load. A request that
finds the thread idle is answered at once where the batch before was a single request; after a larger one it waits a few
milliseconds for others.
"""

import asyncio
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

logger = logging.getLogger(__name__)
SMOOTHING = 0.2  # weight of the last batch in the mean seconds of a request
MAX_RETRY = 60  # seconds


class QueueFull(Exception):
    """As much waits as may; `retry_after` is in how many seconds it is likely to be answered."""

    def __init__(self, retry_after: int):
        super().__init__(f"too many requests wait; try again in {retry_after} s")
        self.retry_after = retry_after


class BatcherStopped(Exception):
    """The server stops and takes no more requests."""


class Waiting:
    """A request in the queue, what it counts as, and the future of its answer."""

    __slots__ = ("future", "request", "size")

    def __init__(self, request: Any, size: int, future: "asyncio.Future[Any]"):
        self.request = request
        self.size = size
        self.future = future


class Batcher:
    """Answers requests of an event loop in batches, in a thread of its own.

    Args:
        answer: returns one answer per request, in their order; an answer that is an exception is raised to its
            request. Where the call itself raises, the requests are answered one by one, so that only those fail that
            can't be answered.
        max_batch: largest batch, the sum of the sizes of its requests; a larger request is a batch of its own.
        max_wait: seconds that a request waits at most for others while the thread is idle.
        max_queue: most that waits, the sum of the sizes of the requests.
        on_batch: called in the thread with the size of every batch and its seconds.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Any]], Sequence[Any]],
        *,
        max_batch: int,
        max_wait: float,
        max_queue: int,
        on_batch: Callable[[int, float], None] = lambda size, seconds: None,
    ):
        self.max_batch = max_batch
        self.max_wait = max_wait
        self.max_queue = max_queue
        self._answer = answer
        self.on_batch = on_batch
        self._queue: OrderedDict[Waiting, None] = OrderedDict()  # an abandoned request leaves it in constant time
        self._waiting_size = 0
        self._changed = threading.Condition()
        self._is_stopping = False
        self._last_size = 1
        self._seconds_each = 0.0
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests, answer those that wait, and end the thread; blocks until then."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        self._thread.join()

    def __len__(self) -> int:
        """Return how much waits: the sum of the sizes of the requests."""
        return self._waiting_size

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def is_stopping(self) -> bool:
        """Whether no more requests are taken."""
        return self._is_stopping

    def submit(self, request: Any, size: int = 1) -> Waiting:
        """Put a request into the queue; for coroutines of one event loop.

        Args:
            size: what it counts as, such as its number of histories.

        Raises:
            QueueFull: where too many wait.
            BatcherStopped: after `stop`.
        """
        waiting = Waiting(request, size, asyncio.get_running_loop().create_future())
        with self._changed:
            if self._is_stopping:
                raise BatcherStopped("the server stops; send the request to another one")
            before = self._waiting_size
            if before and before + size > self.max_queue:
                raise QueueFull(self._retry_after(before))
            self._queue[waiting] = None
            self._waiting_size = before + size
            # in between, the thread sleeps: waking it for every request would cost more than it gains
            if before == 0 or before < self.max_batch <= self._waiting_size:
                self._changed.notify()
        return waiting

    def abandon(self, waiting: Waiting) -> None:
        """Forget a request whose answer nobody waits for; one that is being computed is computed, and not delivered."""
        with self._changed:
            if waiting in self._queue:
                del self._queue[waiting]
                self._waiting_size -= waiting.size
        waiting.future.cancel()

    def _retry_after(self, size: int) -> int:
        return min(MAX_RETRY, max(1, math.ceil(size * self._seconds_each)))

    def _work(self) -> None:
        while batch := self._take():
            start = time.perf_counter()
            results = self._results([waiting.request for waiting in batch])
            seconds = time.perf_counter() - start
            size = sum(waiting.size for waiting in batch)
            self._seconds_each += SMOOTHING * (seconds / size - self._seconds_each)
            self.on_batch(size, seconds)
            try:
                batch[0].future.get_loop().call_soon_threadsafe(_deliver, batch, results)
            except RuntimeError:  # the loop is closed: nobody waits
                logger.warning("the server ended before %d requests were answered", len(batch))

    def _take(self) -> list[Waiting]:
        """Return the next batch, at least one request; none where all are answered and no more come."""
        batch: list[Waiting] = []
        with self._changed:
            while not batch:
                while not self._queue and not self._is_stopping:
                    self._changed.wait()
                if self._last_size > 1:
                    self._fill(time.monotonic() + self.max_wait)
                batch = self._first()  # none where all of them were abandoned meanwhile
                if self._is_stopping:
                    break
        self._last_size = len(batch)
        return batch

    def _first(self) -> list[Waiting]:
        """Take the requests of a batch out of the queue."""
        batch: list[Waiting] = []
        size = 0
        while self._queue:
            waiting = next(iter(self._queue))
            if batch and size + waiting.size > self.max_batch:
                break
            del self._queue[waiting]
            batch.append(waiting)
            size += waiting.size
        self._waiting_size -= size
        return batch

    def _fill(self, deadline: float) -> None:
        """Wait until a batch is full, or the deadline."""
        while self._queue and self._waiting_size < self.max_batch and not self._is_stopping:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            self._changed.wait(left)

    def _results(self, requests: Sequence[Any]) -> Sequence[Any]:
        """Return the answer, or the exception, of every request."""
        try:
            results = self._answer(requests)
            if len(results) != len(requests):
                raise RuntimeError(f"expected {len(requests)} answers, got {len(results)}")
            return results
        except Exception as error:  # whatever it is, the thread goes on
            if len(requests) == 1:
                return [error]
            logger.warning("a batch of %d failed (%s); its requests are answered one by one", len(requests), error)
            return [result for request in requests for result in self._results([request])]


def _deliver(batch: Sequence[Waiting], results: Sequence[Any]) -> None:
    for waiting, result in zip(batch, results, strict=True):
        if waiting.future.done():  # abandoned
            continue
        if isinstance(result, Exception):
            waiting.future.set_exception(result)
        else:
            waiting.future.set_result(result)
