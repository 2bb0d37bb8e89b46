"""A cluster in one process: authority, in-memory control state, Enrollment service, join port."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.unit.enroll.in_memory_state import InMemoryState
from zlayer_native.enroll.retry import Patience
from zlayer_native.enroll.serve import serve
from zlayer_native.enroll.service import EnrollmentPolicy, EnrollmentService, LeaseTerms
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.claims import Token
from zlayer_native.identity.keypair import KeyPair


class Clock:
    """The wall clock and the monotonic clock of a test's server; both can be moved."""

    def __init__(self) -> None:
        self.offset_s = 0.0

    def now(self) -> float:
        return time.time() + self.offset_s

    def monotonic(self) -> float:
        return time.monotonic() + self.offset_s

    def utc(self) -> datetime:
        return datetime.fromtimestamp(self.now(), UTC)

    def now_ms(self) -> int:
        return int(self.now() * 1000)


@dataclass
class RunningCluster:
    authority: Authority
    state: InMemoryState
    service: EnrollmentService
    clock: Clock
    socket: Path
    address: str = ""

    @property
    def cluster_id(self) -> str:
        return self.authority.cluster_id

    async def token(
        self,
        *,
        uses: int = 1,
        ttl_s: int = 3600,
        role: str = "worker",
        labels: dict[str, str] | None = None,
        labels_allowed: list[str] | None = None,
    ) -> str:
        """Makes a token; returns its line."""
        claims = self.claims(
            uses=uses, ttl_s=ttl_s, labels=labels, labels_allowed=labels_allowed, role=role
        )
        await self.state.propose(
            {
                "type": "create_token",
                "jti": claims.jti,
                "expires_ms": claims.expires_s * 1000,
                "role": role,
                "uses_max": uses,
                "labels": dict(claims.labels),
                "labels_allowed": list(claims.labels_allowed),
            }
        )
        self.state.proposed.clear()
        return self.authority.token_signer.issue(claims)

    def claims(
        self,
        *,
        uses: int = 1,
        ttl_s: int = 3600,
        labels: dict[str, str] | None = None,
        labels_allowed: list[str] | None = None,
        **fields: Any,
    ) -> Token:
        created_s = int(self.clock.now())
        values: dict[str, Any] = {
            "cluster_id": self.cluster_id,
            "jti": secrets.token_hex(16),
            "created_s": created_s,
            "expires_s": created_s + ttl_s,
            "uses_max": uses,
            "labels": labels or {},
            "labels_allowed": tuple(labels_allowed or ()),
        }
        return Token(**{**values, **fields})


#: For tests of failures: two quick rounds, then the error.
IMPATIENT = Patience(total_secs=0.2, attempt_secs=10.0, pause_secs=0.01)


@contextlib.asynccontextmanager
async def running_cluster(
    root: Path,
    *,
    policy: EnrollmentPolicy | None = None,
    certificate: Callable[[Authority], KeyPair] | None = None,
    raft_addresses: Callable[[], Sequence[str]] = tuple,
) -> AsyncIterator[RunningCluster]:
    """A cluster whose join port listens on loopback TCP."""
    clock = Clock()
    authority = Authority.create(root / "cluster", now=clock.utc)
    state = InMemoryState(clock.now_ms)
    service = EnrollmentService(
        authority,
        state,
        lambda: LeaseTerms(10, 10),
        policy,
        raft_addresses=raft_addresses,
        now=clock.now,
        monotonic=clock.monotonic,
    )
    pair = certificate(authority) if certificate else authority.issue_join(1)
    socket = root / "run" / "j"
    server = await serve(socket, service, lambda: pair)
    cluster = RunningCluster(authority, state, service, clock, socket)
    try:
        async with splice(socket) as cluster.address:
            yield cluster
    finally:
        await server.stop(0.5)


@contextlib.asynccontextmanager
async def splice(socket: Path) -> AsyncIterator[str]:
    """Passes bytes between a free TCP port and the service's socket, as the worker port does."""

    async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_unix_connection(socket)
        except OSError:
            return
        await both_ways(reader, inner_writer, inner_reader, writer)

    async with listening(joined) as address:
        yield address


async def both_ways(
    reader: asyncio.StreamReader,
    inner_writer: asyncio.StreamWriter,
    inner_reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await source.read(8192):
                sink.write(chunk)
                await sink.drain()
        with contextlib.suppress(OSError, RuntimeError):
            sink.close()

    try:
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))
    finally:
        inner_writer.close()


@contextlib.asynccontextmanager
async def listening(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], **options: Any
) -> AsyncIterator[str]:
    """A TCP server on a free loopback port; its open connections end with the block."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, **options)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        yield f"{host}:{port}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def later(days: float) -> timedelta:
    return timedelta(days=days)
