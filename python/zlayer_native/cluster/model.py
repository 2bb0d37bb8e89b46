"""What a cluster says: plain, frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class LeaderInfo:
    """Who leads.

    Attributes:
        id: its node id.
        api_addr: `host:port` of its HTTP API; empty where it has none.
        term: grows with every election.
    """

    id: int
    api_addr: str
    term: int


@dataclass(frozen=True)
class Node:
    """A member.

    Attributes:
        id: allotted by the cluster, never reused.
        name: for people.
        state: `Ready`, `Suspect`, `Unreachable`, `Draining` or `Left`.
        reason: why it is in that state.
        since_ms: since when, Unix milliseconds of the leader's clock.
        labels: what work is placed by.
        incarnation: random number of the process that was seen last; 0 before there was one.
    """

    id: int
    name: str
    state: str
    reason: str
    since_ms: int
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    incarnation: int = 0

    @classmethod
    def of(cls, view: Mapping[str, Any]) -> Node:
        """From the core's view of a node."""
        return cls(
            id=int(view["id"]),
            name=str(view["name"]),
            state=str(view["state"]),
            reason=str(view["reason"]),
            since_ms=int(view["since_ms"]),
            labels=MappingProxyType(dict(view["labels"])),
            incarnation=int(view["incarnation"]),
        )

    def __reduce__(self) -> Any:
        """Can be pickled: a read-only view of a dict by itself can't."""
        fields = (self.id, self.name, self.state, self.reason, self.since_ms)
        return (Node, (*fields, dict(self.labels), self.incarnation))
