"""Locks: one holder at a time, each with a number that grows, and a body that ends with its lock.

The lease of a lock is renewed by Rust: a busy event loop or a held GIL loses none. When it can't be
renewed, its holder is told before anybody else can have it, by the holder's own clock; then the
body is cancelled. What the lock protects should still refuse a smaller `fence` than it has seen: a
process that sleeps in between learns of it only when it wakes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import secrets
from types import TracebackType
from typing import Any, Self

from zlayer_native._bridge.server import Held, Server
from zlayer_native.config.durations import parse_duration
from zlayer_native.errors import LockHeld, LockLost, LockTimeout, ZLayerError

Duration = float | int | str


def seconds(value: Duration, what: str) -> float:
    """A duration as `30`, `0.5` or `"30s"`.

    Raises:
        ValueError: it is none; the message names `what`.
    """
    try:
        found = float(parse_duration(value)) if isinstance(value, str) else float(value)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
    if not found >= 0:
        raise ValueError(f"{what}: {value!r} is not a time")
    return found


def owner() -> str:
    """Who holds what this process holds, for people."""
    return f"{platform.node() or 'localhost'}:{os.getpid()}"


class Lock:
    """A lock of the cluster: `async with cluster.lock("migrate", ttl=30) as lock`. For one use.

    Attributes:
        name: which.
        fence: of this holding; grows from holder to holder.
    """

    def __init__(self, core: Server, name: str, *, ttl: Duration, wait: Duration | None) -> None:
        self.name = name
        self._core = core
        self._ttl_ms = round(seconds(ttl, "ttl") * 1000)
        self._wait_ms = None if wait is None else round(seconds(wait, "wait") * 1000)
        self._held: Held | None = None
        self._body: asyncio.Task[Any] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._lost: str | None = None
        self._has_cancelled = False

    @property
    def fence(self) -> int:
        """The number to show to whatever the lock protects.

        Raises:
            ZLayerError: it is not held.
        """
        if self._held is None:
            raise ZLayerError(f"lock {self.name} is not held")
        return self._held.fence

    async def acquire(self) -> None:
        """Acquires; `guard` says whom to cancel when it is lost. Raises as `__aenter__`."""
        try:
            self._held = await self._core.hold(
                {
                    "name": self.name,
                    "holder": secrets.token_hex(16),
                    "owner": owner(),
                    "ttl_ms": self._ttl_ms,
                    "wait_ms": self._wait_ms,
                }
            )
        except LockHeld as error:
            raise LockTimeout(str(error), owner=error.owner, fence=error.fence) from None
        self._watch = asyncio.create_task(self._notice_the_end(self._held))

    async def _notice_the_end(self, held: Held) -> None:
        self._lost = await held.ended
        self._cancel_body()

    def guard(self) -> None:
        """Lets the loss of the lock cancel the current task, until `release`."""
        self._body = asyncio.current_task()
        self._cancel_body()

    def _cancel_body(self) -> None:
        if self._lost is not None and self._body is not None and not self._has_cancelled:
            self._has_cancelled = True
            self._body.cancel()

    async def release(self) -> None:
        """Lets go, if it is held. Nobody is cancelled from here on.

        Raises:
            LockLost: it was lost before.
        """
        held, self._body = self._held, None
        if held is None:
            return
        if self._lost is None:
            # Rust lets go of it, and the cluster after its time, also where this is not heard.
            with contextlib.suppress(ZLayerError):
                await asyncio.shield(self._core.release(self.name, held.fence))
        if self._watch is not None:
            self._watch.cancel()
        self._held = None
        if self._lost is not None:
            raise LockLost(f"lock {self.name}: {self._lost}")

    async def __aenter__(self) -> Self:
        """Acquires.

        Raises:
            LockTimeout: another one held it all the time.
            InvalidRequest: the name or the ttl is out of its range.
            NoLeader: no server leads.
        """
        await self.acquire()
        self.guard()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Lets go.

        Raises:
            LockLost: it could not be kept, and the body was cancelled for that.
        """
        body = self._body
        try:
            await self.release()
        except LockLost as lost:
            is_cancelled = body is not None and self._has_cancelled
            others = body.uncancel() if body is not None and is_cancelled else 0
            if kind is not None and not (is_cancelled and kind is asyncio.CancelledError):
                return  # What the body raised says more.
            if others:
                return  # Somebody else wants the task to end, too.
            raise lost from error
