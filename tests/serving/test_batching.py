"""The batcher alone: who is answered with whom, what is refused, and what is never computed."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence

import pytest

from cost_hf.serving.batching import Batcher, BatcherStopped, QueueFull


class Recorder:
    """Answers numbers by their doubles, batch by batch; waits where a test wants to see what piles up meanwhile."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.entered = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, requests: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(requests))
        self.entered.release()
        assert self.go_on.wait(20)
        if 13 in requests:
            raise ValueError("13 can't be doubled")
        return [KeyError("7") if request == 7 else 2 * request for request in requests]

    async def is_busy(self) -> None:
        assert await asyncio.to_thread(self.entered.acquire, timeout=20)


def run(test: Callable[[Batcher, Recorder], Awaitable[None]], **limits) -> Recorder:
    recorder = Recorder()

    async def main() -> None:
        batcher = Batcher(recorder, **({"max_batch": 8, "max_wait": 0.005, "max_queue": 100} | limits))
        batcher.start()
        try:
            await asyncio.wait_for(test(batcher, recorder), 30)
        finally:
            recorder.go_on.set()
            await asyncio.to_thread(batcher.stop)
        assert not batcher.is_alive

    asyncio.run(main())
    return recorder


async def answer_of(batcher: Batcher, request: int, size: int = 1) -> int:
    return await batcher.submit(request, size).future


def test_what_waits_while_a_batch_is_computed_is_answered_together():
    async def test(batcher: Batcher, recorder: Recorder) -> None:
        recorder.go_on.clear()
        first = batcher.submit(0)
        await recorder.is_busy()
        others = [batcher.submit(number) for number in (1, 2, 3)]
        assert len(batcher) == 3
        recorder.go_on.set()

        assert [await waiting.future for waiting in (first, *others)] == [0, 2, 4, 6]

    assert run(test).batches == [[0], [1, 2, 3]]


def test_a_batch_is_no_larger_than_allowed_and_a_larger_request_is_one_of_its_own():
    async def test(batcher: Batcher, recorder: Recorder) -> None:
        recorder.go_on.clear()
        first = batcher.submit(0)
        await recorder.is_busy()
        sizes = {1: 3, 2: 5, 3: 1, 4: 20, 5: 1, 6: 7}
        others = [batcher.submit(number, size) for number, size in sizes.items()]
        recorder.go_on.set()

        await asyncio.gather(first.future, *(waiting.future for waiting in others))

    assert run(test).batches == [[0], [1, 2], [3], [4], [5, 6]]


def test_after_a_batch_of_several_a_request_waits_for_others():
    async def test(batcher: Batcher, recorder: Recorder) -> None:
        recorder.go_on.clear()
        first = [batcher.submit(0)]
        await recorder.is_busy()
        first += [batcher.submit(1), batcher.submit(2)]
        recorder.go_on.set()
        await asyncio.gather(*(waiting.future for waiting in first))
        second = [batcher.submit(number) for number in range(20, 28)]  # the eighth ends the wait

        assert [await waiting.future for waiting in second] == [2 * number for number in range(20, 28)]

    assert run(test, max_wait=25.0).batches == [[0], [1, 2], list(range(20, 28))]


def test_only_the_request_fails_that_can_not_be_answered():
    async def test(batcher: Batcher, recorder: Recorder) -> None:
        recorder.go_on.clear()
        first = batcher.submit(0)
        await recorder.is_busy()
        others = [batcher.submit(number) for number in (1, 13, 7, 2)]
        recorder.go_on.set()
        results = await asyncio.gather(first.future, *(waiting.future for waiting in others), return_exceptions=True)

        assert results[:2] == [0, 2] and results[-1] == 4
        assert isinstance(results[2], ValueError) and isinstance(results[3], KeyError)
        assert await answer_of(batcher, 5) == 10

    run(test)


def test_an_answer_too_few_is_an_error_of_those_requests():
    async def main() -> None:
        batcher = Batcher(lambda requests: [], max_batch=4, max_wait=0.0, max_queue=10)
        batcher.start()
        with pytest.raises(RuntimeError, match="expected 1 answers, got 0"):
            await batcher.submit(1).future
        await asyncio.to_thread(batcher.stop)

    asyncio.run(main())


def test_a_full_queue_refuses_and_says_when_to_try_again():
    async def test(batcher: Batcher, recorder: Recorder) -> None:
        recorder.go_on.clear()
        first = batcher.submit(0)
        await recorder.is_busy()
        waiting = [batcher.submit(1), batcher.submit(2, size=3)]
        with pytest.raises(QueueFull) as refused:
            batcher.submit(3)
        assert 1 <= refused.value.retry_after <= 60
        batcher.abandon(waiting[1])
        again = batcher.submit(3, size=3)
        recorder.go_on.set()

        assert await asyncio.gather(first.future, waiting[0].future, again.future) == [0, 2, 6]
        assert len(batcher) == 0
        # more than the queue holds is answered where nothing waits
        assert await answer_of(batcher, 4, size=50) == 8

    assert all(2 not in batch for batch in run(test, max_queue=4).batches)


def test_an_abandoned_request_is_not_computed():
    async def test(batcher: Batcher, recorder: Recorder) -> None:
        recorder.go_on.clear()
        first = batcher.submit(0)
        await recorder.is_busy()
        only = batcher.submit(1)
        batcher.abandon(only)
        batcher.abandon(first)  # it is computed already, and delivered to nobody
        recorder.go_on.set()

        assert await answer_of(batcher, 2) == 4
        assert only.future.cancelled() and first.future.cancelled()

    assert run(test).batches == [[0], [2]]


def test_stopping_answers_what_waits_and_refuses_the_rest():
    async def test(batcher: Batcher, recorder: Recorder) -> None:
        recorder.go_on.clear()
        waiting = [batcher.submit(0)]
        await recorder.is_busy()
        waiting += [batcher.submit(number) for number in range(1, 20) if number not in (7, 13)]
        stopping = asyncio.create_task(asyncio.to_thread(batcher.stop))
        while not batcher.is_stopping:
            await asyncio.sleep(0.001)
        with pytest.raises(BatcherStopped):
            batcher.submit(30)
        recorder.go_on.set()
        await stopping

        assert [await entry.future for entry in waiting] == [
            2 * number for number in range(20) if number not in (7, 13)
        ]

    run(test)
