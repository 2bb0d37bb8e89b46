"""Elections: of all processes that ask, one has a term in office at a time."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from zlayer_native._bridge.server import Server
from zlayer_native.cluster.lock import Duration, Lock
from zlayer_native.errors import LockLost, ZLayerError

#: Elections and locks of the same name have nothing to do with each other.
_PREFIX = "elect/"


class Term:
    """A time in office: `async with term` runs while it lasts, and is cancelled when it ends.

    Attributes:
        name: of the election.
        fence: grows from term to term; show it to whatever must not be done twice.
    """

    def __init__(self, name: str, lock: Lock) -> None:
        self.name = name
        self._lock = lock
        self._is_over = False

    @property
    def fence(self) -> int:
        """See the class."""
        return self._lock.fence

    async def __aenter__(self) -> Self:
        """Begins; the office was won already."""
        self._lock.guard()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        """Ends the term. A body that was cancelled because the office was lost just ends."""
        self._is_over = True
        try:
            await self._lock.__aexit__(kind, error, trace)
        except LockLost:
            return True
        return None

    async def resign(self) -> None:
        """Gives the office up, unless it is over."""
        if not self._is_over:
            self._is_over = True
            await self._lock.release()


async def campaign(core: Server, name: str, ttl: Duration) -> AsyncIterator[Term]:
    """Terms of this process, one after another, for as long as it is asked for the next.

    Raises:
        ZLayerError: as a lock does; campaign again then, or give up.
    """
    while True:
        lock = Lock(core, _PREFIX + name, ttl=ttl, wait=None)
        await lock.acquire()
        term = Term(name, lock)
        try:
            yield term
        finally:
            with contextlib.suppress(ZLayerError):  # Lost, or its lease ends by itself.
                await term.resign()
