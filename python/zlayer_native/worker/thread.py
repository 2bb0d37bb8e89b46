"""A daemon thread with an event loop of its own, for a program that has none.

Nothing on this loop uses grpc.aio (see `errand`), so it may exist beside any other loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
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
        if self._loop is not None and self._task is not None and not self.ended.done():
            try:
                self._loop.call_soon_threadsafe(self._task.cancel)
            except RuntimeError:  # It ended in this very moment.
                return

    def wait_for(self, event: asyncio.Event, timeout: float | None = None) -> bool:
        """Waits for an event of the loop, or for the coroutine's end; whether the event came.

        Args:
            event: belongs to the loop.
            timeout: seconds; None waits for ever.
        """
        if self._loop is None:
            return False
        waiting = event.wait()
        try:
            seen = asyncio.run_coroutine_threadsafe(waiting, self._loop)
        except RuntimeError:  # The loop is closed.
            waiting.close()
            return False
        either = {seen, self.ended}
        try:
            concurrent.futures.wait(either, timeout, concurrent.futures.FIRST_COMPLETED)
            return seen.done() and not seen.cancelled()
        finally:
            seen.cancel()

    def join(self, timeout: float | None = None) -> bool:
        """Waits for the thread; whether it has ended in time (seconds)."""
        self._thread.join(timeout)
        return not self._thread.is_alive()
