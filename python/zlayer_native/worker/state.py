"""A look at a worker."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Phase(StrEnum):
    """What a worker is doing. The values of a running session are the core's own words."""

    ENROLLING = "enrolling"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    LEAVING = "leaving"
    REFUSED = "refused"
    REMOVED = "removed"
    STOPPED = "stopped"


@dataclass(frozen=True, kw_only=True)
class WorkerState:
    """How a worker stands; what is unknown is None.

    Attributes:
        phase: what it is doing.
        node_id: of this member.
        server: `host:port` of the server that it is connected to.
        is_draining: nothing new is placed on it.
        ttl_ms: milliseconds from one heartbeat to the next, at most.
        next_beat_in_ms: milliseconds until the next heartbeat.
        lease_left_ms: milliseconds for which the cluster keeps the lease at least.
        beats: heartbeats sent.
        acks: heartbeats answered.
        reconnects: sessions after the first.
        certificate_not_after: end of the certificate's life; it is renewed at half of it.
        last_error: why the last dial, session or membership ended.
    """

    phase: Phase
    node_id: int | None = None
    server: str | None = None
    is_draining: bool = False
    ttl_ms: int | None = None
    next_beat_in_ms: int | None = None
    lease_left_ms: int | None = None
    beats: int = 0
    acks: int = 0
    reconnects: int = 0
    certificate_not_after: datetime | None = None
    last_error: str | None = None
