"""What the API needs from the rest of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from zlayer_native.errors import CoreStopped


class Core(Protocol):
    """The server's core. Reads are JSON as bytes; `propose` is durable when it returns."""

    failed: asyncio.Future[CoreStopped]

    async def propose(self, command: dict[str, Any]) -> dict[str, Any]:
        """Commits a command; raises the error of its refusal."""

    async def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Asks something of the servers; raises why it was not done."""

    async def settle(self) -> None:
        """Waits until reads hold all that was acknowledged before the call."""

    def members(self) -> dict[str, Any]:
        """The servers as this one knows them."""

    def nodes(self, query: dict[str, Any]) -> bytes:
        """A page of nodes."""

    def node(self, node_id: int) -> bytes | None:
        """One node."""

    def tokens(self) -> bytes:
        """All tokens, without any secret."""

    def token(self, jti: str) -> bytes | None:
        """One token, without any secret."""

    def events(self, after: int, limit: int) -> bytes:
        """A page of events with `revision` (newest) and `first_kept` (oldest)."""

    async def wait_revision(self, after: int, timeout: float) -> int:
        """Waits at most `timeout` seconds for an event above `after`; returns the newest."""

    def status(self) -> bytes:
        """The cluster at a glance."""

    def metrics(self) -> dict[str, float]:
        """Counters and gauges by name."""


@dataclass(frozen=True, kw_only=True)
class TokenClaims:
    """What a bootstrap token admits. Times are Unix seconds."""

    jti: str
    created_s: int
    expires_s: int
    role: str = "worker"
    uses_max: int
    labels: Mapping[str, str]
    labels_allowed: Sequence[str]


class TokenIssuer(Protocol):
    """Signs bootstrap tokens."""

    @property
    def cluster_id(self) -> str:
        """The cluster that the tokens are for."""

    def issue(self, claims: TokenClaims) -> str:
        """The token line. It is a secret: it is returned once and stored nowhere."""


def _always() -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class ApiOptions:
    """How the API is reached and what it says about the cluster."""

    #: Host names (lower case, no port) that a request may name; loopback names are always allowed.
    hosts: frozenset[str] = frozenset()
    #: `host:port` that workers are told to dial; part of the answer to a new token.
    join_address: str = ""
    #: Folder for files on their way to a caller; private to the server's user.
    scratch: Path = Path()
    #: False while the server is still starting or already stopping.
    is_ready: Callable[[], bool] = _always
    #: Set when the server stops: open event streams end.
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
