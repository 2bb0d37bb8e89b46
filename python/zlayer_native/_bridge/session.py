"""The worker's session as an asyncio citizen. Its heartbeats need neither the loop nor the GIL."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import deque
from typing import Any, cast

from zlayer_native._bridge.wakeup import Wakeup
from zlayer_native._native import WorkerSession, inherited_sockets
from zlayer_native.errors import CoreStopped

#: As many as the session keeps: one drain takes them all.
_EVENTS_MAX = 1024


def _close_inherited() -> None:
    """A killed parent's connection must end with it, also while a forked child lives on."""
    for descriptor in inherited_sockets():
        with contextlib.suppress(OSError):
            os.close(descriptor)


os.register_at_fork(after_in_child=_close_inherited)


class Session:
    """Owns a `WorkerSession`; `next_event` needs a running event loop, everything else does not."""

    def __init__(self, session: WorkerSession) -> None:
        self._session = session
        self._events: deque[dict[str, Any]] = deque()
        self._arrived = asyncio.Event()
        self._wakeup: Wakeup | None = None
        self._has_ended = False

    @classmethod
    def start(cls, options: dict[str, Any]) -> Session:
        """Starts the session's thread and returns at once; it dials until it is stopped.

        Args:
            options: `zlayer_node::session::SessionOptions` as a dict.

        Raises:
            CoreError: a certificate, an address or an option can't be used.
        """
        return cls(WorkerSession.start(json.dumps(options).encode()))

    def state(self) -> dict[str, Any]:
        """What the session is doing now."""
        return cast("dict[str, Any]", json.loads(self._session.state()))

    def set_resources(self, cpu_millicores: int, memory_bytes: int, disk_bytes: int) -> None:
        """Replaces the use that the next reports carry."""
        self._session.set_resources(cpu_millicores, memory_bytes, disk_bytes)

    def set_identity(self, certificate_pem: str, key_pem: str, ca_pem: str) -> None:
        """Opens a connection with the new certificate, then closes the old one: no gap."""
        self._session.set_identity(certificate_pem, key_pem, ca_pem)

    async def next_event(self) -> dict[str, Any]:
        """Waits for the next session event, such as `{"type": "connected", "server": "…"}`.

        The first call binds the session's events to the running loop.

        Raises:
            CoreStopped: the session has ended, and every event was taken.
            ForkedProcess: this is a forked child.
        """
        if self._wakeup is None:
            self._wakeup = Wakeup(self._session.wake_fd(), self._drain)
        self._wakeup.check()
        self._drain()
        while not self._events:
            if self._has_ended:
                raise CoreStopped("the session has ended")
            self._arrived.clear()
            await self._arrived.wait()
        return self._events.popleft()

    def _drain(self) -> None:
        # Asked first: an event that comes after this is followed by another wake-up.
        self._has_ended = self.state()["state"] == "stopped"
        self._events.extend(json.loads(event) for event in self._session.drain(_EVENTS_MAX))
        if self._has_ended and self._wakeup is not None:
            self._wakeup.close()
        self._arrived.set()

    async def leave(self, timeout: float = 5.0) -> bool:
        """Says goodbye and waits for the server's answer; True if it came in time (seconds)."""
        return await asyncio.to_thread(self._session.leave, timeout)

    def leave_blocking(self, timeout: float = 5.0) -> bool:
        """`leave` for code without asyncio."""
        return self._session.leave(timeout)

    def stop(self) -> None:
        """Ends the session's thread without a word to the server; `next_event` says so.

        Raises:
            ForkedProcess: this is a forked child; the parent's session goes on.
        """
        self._session.stop()
