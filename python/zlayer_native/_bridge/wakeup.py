"""One wake-up for a Rust queue: an eventfd that the event loop watches.

Rust never calls a Python function. It fills a bounded queue and makes a file descriptor readable;
the loop then drains the queue in one go.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from zlayer_native.errors import ForkedProcess


class Wakeup:
    """Calls `drain` on the running loop whenever `fd` becomes readable, until `close`."""

    def __init__(self, fd: int, drain: Callable[[], None]) -> None:
        self._process = os.getpid()
        self._fd = fd
        self._drain = drain
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._readable)

    def _readable(self) -> None:
        try:
            os.read(self._fd, 8)  # Before the drain: what is queued after it wakes us again.
        except BlockingIOError:
            return
        self._drain()

    def check(self) -> None:
        """Refuses to be waited for in a forked child, where the queue's threads do not exist.

        Raises:
            ForkedProcess: this is not the process that it was made in.
        """
        if (here := os.getpid()) != self._process:
            raise ForkedProcess(
                f"this handle was made in process {self._process} and used in its child {here}:"
                " make it after the fork"
            )

    def close(self) -> None:
        """Stops watching; the descriptor stays with its owner.

        Does nothing in a forked child, whose selector is the parent's, nor on a closed loop.
        """
        if os.getpid() == self._process and not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
