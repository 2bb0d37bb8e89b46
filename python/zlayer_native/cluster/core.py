"""A `Cluster` over a core in this process: what the modes that have a log share."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from zlayer_native._bridge.server import Server
from zlayer_native.cluster import selector as selectors
from zlayer_native.cluster.base import Cluster
from zlayer_native.cluster.election import Term, campaign
from zlayer_native.cluster.events import EventsLost, NodeEvent, follow
from zlayer_native.cluster.lock import Duration, Lock
from zlayer_native.cluster.model import LeaderInfo, Node
from zlayer_native.cluster.values import Values
from zlayer_native.errors import NoLeader
from zlayer_native.identity.authority import Authority

_PAGE = 1000
#: Seconds between two looks at who leads. Chosen.
_LOOK_SECS = 0.02


class CoreCluster(Cluster):
    """See the module. What else a mode runs is in `parts`: it is closed before the core."""

    def __init__(
        self,
        mode: str,
        node_id: int,
        core: Server,
        parts: contextlib.AsyncExitStack,
        authority: Authority,
    ) -> None:
        self.mode = mode
        self.node_id = node_id
        self.core = core
        self.authority = authority
        self.values = Values(core)
        self._parts = parts

    def is_leader(self) -> bool:
        """See `Cluster`."""
        return bool(self.core.metrics()["raft_leads"])

    async def leader(self) -> LeaderInfo | None:
        """See `Cluster`."""
        status = json.loads(self.core.status())
        leader = status["leader"]
        if leader is None:
            return None
        known = {item["id"]: item["api_addr"] for item in self.core.members()["items"]}
        return LeaderInfo(leader, known.get(leader, ""), status["term"])

    async def nodes(self, selector: str = "", *, stale: bool = False) -> list[Node]:
        """See `Cluster`."""
        selects = selectors.parse(selector)
        if not stale:
            await self.core.settle()
        return [node for node in self._read()[0] if selects(node.labels)]

    def _read(self) -> tuple[list[Node], int]:
        """All nodes, and the revision that the oldest part of them is of."""
        found: list[Node] = []
        revision: int | None = None
        after = 0
        while True:
            page = json.loads(self.core.nodes({"after_id": after, "limit": _PAGE}))
            revision = page["revision"] if revision is None else revision
            found += map(Node.of, page["items"])
            if len(page["items"]) < _PAGE:
                return found, revision
            after = page["items"][-1]["id"]

    async def watch_nodes(
        self, selector: str = ""
    ) -> tuple[list[Node], AsyncIterator[NodeEvent | EventsLost]]:
        """See `Cluster`."""
        selects = selectors.parse(selector)
        await self.core.settle()
        nodes, revision = self._read()
        events = follow(self.core, revision, lambda node: selects(node.labels))
        return [node for node in nodes if selects(node.labels)], events

    async def wait_ready(self, timeout: float | None = None) -> None:
        """See `Cluster`."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    with contextlib.suppress(NoLeader):
                        await self.core.settle()
                        return
                    await asyncio.sleep(_LOOK_SECS)
        except TimeoutError:
            raise NoLeader(f"no leader after {timeout:g} s; {self._who_is_missing()}") from None

    def _who_is_missing(self) -> str:
        status: dict[str, Any] = json.loads(self.core.status())
        others = status["peers"]
        if not others:
            return "this server belongs to no cluster yet"
        told = (
            f"{other['id']} at {other['raft_addr']}"
            + (f" ({other['refused']})" if other["refused"] else "")
            for other in others
        )
        return f"this server needs a majority with: {', '.join(told)}"

    def lock(self, name: str, ttl: Duration = 30, wait: Duration | None = None) -> Lock:
        """See `Cluster`."""
        return Lock(self.core, name, ttl=ttl, wait=wait)

    def elect(self, name: str, ttl: Duration = 15) -> AsyncIterator[Term]:
        """See `Cluster`."""
        return campaign(self.core, name, ttl)

    async def close(self) -> None:
        """See `Cluster`."""
        await self._parts.aclose()
