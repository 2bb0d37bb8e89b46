"""Follows a session: what it tells becomes log lines, readiness, and the end of a removed node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from zlayer_native.worker.entry import removed
from zlayer_native.worker.log import get_logger

_log = get_logger("zlayer.worker")


class Events(Protocol):
    """The session as it is followed."""

    async def next_event(self) -> dict[str, Any]:
        """Waits for the next event."""


class Follower:
    """`is_connected` is set while the cluster answers; `on_change` is called after each event."""

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
                _log.error(
                    "the cluster refuses this worker; it is asked again from time to time", why=why
                )
            case {"type": "assignments", "revision": revision}:
                _log.debug("assignments", revision=revision)
            case _:
                _log.debug("an event that this version does not know", type=event.get("type"))
