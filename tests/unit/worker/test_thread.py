"""The helper thread of a plain `Worker`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from zlayer_native.worker.thread import LoopThread

WITHIN = 10


class Work:
    """A coroutine that runs until it is told to return or to raise."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.end = asyncio.Event()
        self.error: Exception | None = None
        self.was_cancelled = False
        self.loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        self.loop = asyncio.get_running_loop()
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        if self.error is not None:
            raise self.error

    def call(self, what: Callable[[], object]) -> None:
        assert self.loop is not None
        self.loop.call_soon_threadsafe(what)


async def tasks_left() -> int:
    """How many tasks are on this loop besides this one, once it has done what waits to be done."""
    for _ in range(3):
        await asyncio.sleep(0)
    return len(asyncio.all_tasks()) - 1


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def thread(work: Work) -> Iterator[LoopThread]:
    thread = LoopThread(work.run)
    thread.start()
    yield thread
    thread.cancel()
    assert thread.join(WITHIN)


def test_an_event_that_comes_is_seen(work: Work, thread: LoopThread):
    work.call(work.event.set)
    assert thread.wait_for(work.event, WITHIN)
    assert thread.wait_for(work.event, WITHIN)


def test_the_time_is_kept_and_nothing_stays_on_the_loop(work: Work, thread: LoopThread):
    for _ in range(20):
        assert not thread.wait_for(work.event, 0.01)
    assert not thread.ended.done()
    assert work.loop is not None
    left = asyncio.run_coroutine_threadsafe(tasks_left(), work.loop)
    assert left.result(WITHIN) == 1  # The work itself.


@pytest.mark.parametrize("error", [None, LookupError("mine")])
def test_an_end_ends_the_wait_and_is_there_by_then(
    work: Work, thread: LoopThread, error: Exception | None
):
    work.error = error
    work.call(lambda: work.loop.call_later(0.05, work.end.set))
    assert not thread.wait_for(work.event)
    assert thread.ended.done()
    assert thread.ended.exception() is error
    assert not thread.wait_for(work.event, WITHIN)  # Also when the loop is closed.


def test_to_cancel_it_is_no_error(work: Work, thread: LoopThread):
    assert not thread.wait_for(work.event, 0)
    thread.cancel()
    assert thread.join(WITHIN)
    assert work.was_cancelled
    assert thread.ended.result() is None
    thread.cancel()


def test_a_coroutine_that_can_t_even_start_is_an_end():
    def broken() -> Awaitable[None]:
        raise LookupError("mine")

    thread = LoopThread(broken)
    thread.start()
    assert thread.join(WITHIN)
    assert isinstance(thread.ended.exception(), LookupError)
