"""Threads that wait for the store: what they pass on, and how many there are."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NoReturn

import pytest

from job_engine.api.concurrency.threads import Threads
from job_engine.log import bound, bound_field


@pytest.fixture
def threads() -> Iterator[Threads]:
    pool = Threads(most=3)
    yield pool
    pool.close()


def test_work_is_done_elsewhere_in_the_context_of_its_caller(threads: Threads) -> None:
    async def asks() -> tuple[object, str]:
        with bound(request_id="mine"):
            return await threads.run(
                lambda: (bound_field("request_id"), threading.current_thread().name)
            )

    assert asyncio.run(asks()) == ("mine", "api-1")


@pytest.mark.parametrize(
    ("raised", "seen"),
    [(KeyError("k"), KeyError), (StopIteration(1), RuntimeError)],
)
def test_an_error_of_the_work_is_raised_in_its_caller(
    threads: Threads, raised: BaseException, seen: type[BaseException]
) -> None:
    def fails() -> NoReturn:
        raise raised

    async def asks() -> str:
        with pytest.raises(seen):
            await asyncio.wait_for(threads.run(fails), 5)
        return await threads.run(lambda: "still there")

    assert asyncio.run(asks()) == "still there"


def test_no_more_threads_than_work_at_once_and_no_more_than_allowed(threads: Threads) -> None:
    names: list[str] = []
    gate = threading.Semaphore(0)

    def works() -> None:
        names.append(threading.current_thread().name)
        assert gate.acquire(timeout=10)

    async def asks(at_once: int) -> set[str]:
        names.clear()
        done = [asyncio.ensure_future(threads.run(works)) for _ in range(at_once)]
        for _ in done:
            await asyncio.sleep(0)
            gate.release()
        await asyncio.gather(*done)
        return set(names)

    async def asks_in_turn() -> tuple[int, int, int]:
        alone = {name for _ in range(5) for name in await asks(1)}
        return len(alone), len(await asks(2)), len(await asks(20))

    alone, two, many = asyncio.run(asks_in_turn())
    assert alone == 1
    assert two <= 2
    assert many <= 3


def test_work_goes_on_when_its_caller_is_gone(threads: Threads) -> None:
    begun, go, done = threading.Event(), threading.Event(), threading.Event()

    def works() -> None:
        begun.set()
        assert go.wait(10)
        done.set()

    async def asks() -> str:
        task = asyncio.ensure_future(threads.run(works))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        go.set()
        return await threads.run(lambda: "next")

    assert asyncio.run(asks()) == "next"
    assert done.wait(10)


def test_threads_end_with_what_they_were_given() -> None:
    pool = Threads()
    ran: list[threading.Thread] = []
    work: Callable[[], None] = lambda: ran.append(threading.current_thread())  # noqa: E731
    asyncio.run(pool.run(work))
    pool.close()
    ran[0].join(10)
    assert not ran[0].is_alive()
