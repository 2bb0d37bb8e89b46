"""A daemon thread with an event loop of its own, for a program that has none.

Nothing on this loop uses grpc.aio (see `errand`), so it may exist beside any other loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any


class LoopThread:
    """Runs one coroutine until it ends or is cancelled.

    Args:
        main: makes the coroutine, on the thread.
    """

    def __init__(self, main: Callable[[], Awaitable[None]]) -> None:
        self._main = main
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._running = threading.Event()
        #: Done when the coroutine has ended; holds what it raised. None stands for a cancellation.
        self.ended: concurrent.futures.Future[Any] = concurrent.futures.Future()
        # A daemon thread: whoever forgets to stop a worker still gets an end of the program.
        self._thread = threading.Thread(target=self._run, name="zlayer-worker", daemon=True)

    def start(self) -> None:
        """Returns when the loop runs."""
        self._thread.start()
        self._running.wait()

    def _run(self) -> None:
        try:
            # Spelled out: a policy may stand for uvloop, and that one is the main thread's.
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._supervise())
        except asyncio.CancelledError:
            self.ended.set_result(None)
        except BaseException as error:
            self.ended.set_exception(error)
        else:
            self.ended.set_result(None)
        finally:
            self._running.set()

    async def _supervise(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._running.set()
        await self._main()

    def cancel(self) -> None:
        """Cancels the coroutine, if it still runs. Any thread."""
        task = self._task
        if task is not None:
            self._call(task.cancel)

    def wait_for(self, event: asyncio.Event, timeout: float | None = None) -> bool:
        """Waits for an event of the loop, or for the coroutine's end; whether the event came.

        If neither did, the time was up: `ended` is not done then.

        Args:
            event: belongs to the loop.
            timeout: seconds; None waits for ever.
        """
        seen: concurrent.futures.Future[bool] = concurrent.futures.Future()
        watching: list[asyncio.Task[Any]] = []

        def watch() -> None:
            task = asyncio.ensure_future(event.wait())
            task.add_done_callback(lambda task: seen.set_result(not task.cancelled()))
            watching.append(task)

        self._call(watch)
        try:
            first = concurrent.futures.FIRST_COMPLETED
            concurrent.futures.wait({seen, self.ended}, timeout, first)
            if seen.done() and not seen.result():
                # The loop cancels what is left on it: it is about to end.
                concurrent.futures.wait({self.ended})
            return seen.done() and seen.result()
        finally:
            self._call(lambda: [task.cancel() for task in watching])

    def _call(self, work: Callable[[], object]) -> None:
        """Calls `work` on the loop, unless that is closed: then `ended` is done, or about to be."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(work)

    def join(self, timeout: float | None = None) -> bool:
        """Waits for the thread; whether it has ended in time (seconds)."""
        self._thread.join(timeout)
        return not self._thread.is_alive()
