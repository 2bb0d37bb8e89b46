"""Follows a session: what it tells becomes log lines, readiness, and the end of a removed node."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from zlayer_native.worker.entry import removed
from zlayer_native.worker.log import Log, Repeats

#: Seconds between two looks at a session that does not stand.
_LOOK_SECS = 5.0

_log = Log("zlayer.worker")


class Events(Protocol):
    """The session as it is followed."""

    async def next_event(self) -> dict[str, Any]:
        """Waits for the next event."""

    def state(self) -> dict[str, Any]:
        """How it stands."""


class Follower:
    """`is_connected` is set while the cluster answers; `on_change` is called when there is news."""

    def __init__(self, identity_dir: Path, on_change: Callable[[], None] = lambda: None) -> None:
        self.is_connected = asyncio.Event()
        self._identity_dir = identity_dir
        self._on_change = on_change

    async def run(self, session: Events) -> None:
        """Follows until it is cancelled.

        Raises:
            NodeRemoved: the cluster has removed this node.
            CoreStopped: the session's thread has ended.
        """
        while True:
            self._take(await session.next_event())
            self._on_change()

    async def complain(
        self,
        session: Events,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        repeats: Repeats | None = None,
    ) -> None:
        """Says from time to time why the session does not stand, until it is cancelled.

        The session tells of a lost connection, not of every dial that comes to nothing after it.
        """
        repeats = repeats or Repeats()
        while True:
            await sleep(_LOOK_SECS)
            why = session.state()["last_error"]
            if self.is_connected.is_set() or why is None:
                continue
            held_back = repeats.due(why)
            if held_back is not None:
                _log.warning("not connected, dialling on", why=why, repeats=held_back)
                self._on_change()

    def _take(self, event: dict[str, Any]) -> None:
        match event:
            case {"type": "connected", "server": server}:
                self.is_connected.set()
                _log.info("connected", server=server)
            case {"type": "disconnected", "why": why}:
                self.is_connected.clear()
                _log.warning("disconnected", why=why)
            case {"type": "refused", "why": why, "removed": True}:
                self.is_connected.clear()
                raise removed(self._identity_dir, str(why))
            case {"type": "refused", "why": why}:
                self.is_connected.clear()
                _log.error("the cluster refuses this worker; asking again at times", why=why)
            case {"type": "assignments", "revision": revision}:
                _log.debug("assignments", revision=revision)
            case _:
                _log.debug("an event that this version does not know", type=event.get("type"))
