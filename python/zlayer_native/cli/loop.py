"""The one event loop of a daemon: uvloop where there is one, and signals that stop it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

from zlayer_native.cli import exits

_Result = TypeVar("_Result")


def run(work: Callable[[asyncio.Event], Awaitable[_Result]]) -> _Result:
    """Runs `work` until it returns.

    Args:
        work: gets an event that the first SIGTERM or SIGINT sets; a second signal ends the process
            at once.
    """

    async def main() -> _Result:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_signal() -> None:
            if stopping.is_set():
                os._exit(exits.INTERRUPTED)
            stopping.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        return await work(stopping)

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # Not on every platform.
        return None
    return uvloop.new_event_loop
