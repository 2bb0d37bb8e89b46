"""A clock that a test moves, and a session and a registrar that do what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from zlayer_native.errors import CoreStopped, ZLayerError
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.keys import key_pem, new_key
from zlayer_native.identity.profiles import new_serial, pem
from zlayer_native.identity.store import Identity, IdentityStore
from zlayer_native.worker.renewal import Timing

START = datetime(2030, 1, 1, tzinfo=UTC)


class Clock:
    """Wall and monotonic time. Whoever sleeps moves it; `naps` holds each sleep, seconds."""

    def __init__(self, now: datetime = START, draw: float = 0.5) -> None:
        self.at = now
        self.naps: list[float] = []
        self.drawn = draw
        self.stop_after: datetime | None = None

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    def draw(self) -> float:
        return self.drawn

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.at += timedelta(seconds=seconds)
        if self.stop_after is not None and self.at > self.stop_after:
            raise asyncio.CancelledError
        await asyncio.sleep(0)

    @property
    def timing(self) -> Timing:
        return Timing(now=self.now, sleep=self.sleep, draw=self.draw)


class Issuer:
    """Makes identities of one cluster."""

    def __init__(self, root: Path) -> None:
        self.authority = Authority.create(root / "cluster")

    def identity(self, life: timedelta = timedelta(days=1), *, node_id: int = 1000) -> Identity:
        key = new_key()
        certificate = self.authority.sign_worker(
            node_id,
            key.public_key(),
            serial=new_serial(),
            not_after=self.authority.worker_not_after(life),
        )
        return Identity.of(pem(certificate).decode(), key_pem(key).decode(), self.authority.ca_pem)


class FakeRegistrar:
    """Saves the identities that it is given, in turn; raises what is an error among them."""

    def __init__(self, store: IdentityStore, *answers: Identity | ZLayerError) -> None:
        self._store = store
        self._answers = list(answers)
        self.asked: list[tuple[str, str | None]] = []
        self.failures: list[ZLayerError] = []
        self.labels: dict[str, str] = {}

    async def enrol(
        self,
        token: str,
        machine: Mapping[str, Any],
        secs: float | None,
        on_failure: Callable[[ZLayerError], None],
    ) -> dict[str, str]:
        self.asked.append(("enrol", token))
        self._answer(on_failure)
        return {**machine["labels"], **self.labels}

    async def renew(self, secs: float | None, on_failure: Callable[[ZLayerError], None]) -> None:
        self.asked.append(("renew", None))
        self._answer(on_failure)

    def _answer(self, on_failure: Callable[[ZLayerError], None]) -> None:
        for error in self.failures:
            on_failure(error)
        answer = self._answers.pop(0)
        if isinstance(answer, ZLayerError):
            raise answer
        self._store.save(answer)


class FakeSession:
    """Records what the agent does with it."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.phase = "connecting"
        self.last_error: str | None = None
        self.resources: list[tuple[int, int, int]] = []
        self.identities: list[str] = []
        self.renewed = asyncio.Event()
        self.goodbyes: list[float] = []
        self.is_stopped = False
        self.hears_goodbye = True
        self._events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def tell(self, **event: Any) -> None:
        match event:
            case {"type": "connected"}:
                self.phase = "connected"
            case {"type": "refused", "removed": True}:
                self.phase = "removed"
        self._events.put_nowait(event)

    def end(self) -> None:
        self.phase = "stopped"
        self._events.put_nowait(None)

    async def next_event(self) -> dict[str, Any]:
        event = await self._events.get()
        if event is None:
            raise CoreStopped("the session has ended")
        return event

    def state(self) -> dict[str, Any]:
        return {
            "state": "stopped" if self.is_stopped else self.phase,
            "server": "a:1" if self.phase == "connected" else None,
            "ttl_ms": 10_000,
            "next_beat_in_ms": 4_000,
            "lease_remaining_ms": 14_000,
            "beats": 3,
            "acks": 2,
            "reconnects": 1,
            "draining": False,
            "last_error": self.last_error,
        }

    def set_resources(self, cpu_millicores: int, memory_bytes: int, disk_bytes: int) -> None:
        self.resources.append((cpu_millicores, memory_bytes, disk_bytes))

    def set_identity(self, certificate_pem: str, key_pem: str, ca_pem: str) -> None:
        self.identities.append(certificate_pem)
        self.renewed.set()

    async def leave(self, timeout: float = 5.0) -> bool:
        return self.leave_blocking(timeout)

    def leave_blocking(self, timeout: float = 5.0) -> bool:
        self.goodbyes.append(timeout)
        return self.hears_goodbye

    def stop(self) -> None:
        self.is_stopped = True
