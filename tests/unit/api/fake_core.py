"""A core whose answers a test sets: what the API reads, and a list of what it proposes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from zlayer_native.errors import CoreStopped


class FakeCore:
    """Follows `zlayer_native.api.protocol.Core`. Make it in a running loop."""

    def __init__(self) -> None:
        self.failed: asyncio.Future[CoreStopped] = asyncio.get_running_loop().create_future()
        self.proposed: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.backup = b"a backup"
        self.servers_view: dict[str, Any] = {"items": [], "leader": None}
        self.refusal: Exception | None = None
        self.queries: list[dict[str, Any]] = []
        self.node_views: dict[int, dict[str, Any]] = {}
        self.token_views: dict[str, dict[str, Any]] = {}
        self.kept: list[dict[str, Any]] = []
        self.revision = 0
        self.status_view: dict[str, Any] = {"workers": {"Ready": 2, "connected": 2}, "revision": 0}
        self.metric_values: dict[str, float] = {"beats_total": 3}
        #: Pages of events that were read: (after, limit).
        self.pages: list[tuple[int, int]] = []
        self._changed = asyncio.Event()

    # --- what a test does -----------------------------------------------------------------------

    def happen(self, kind: str = "joined", **fields: Any) -> int:
        """Appends an event; returns its revision."""
        self.revision += 1
        self.kept.append({"revision": self.revision, "kind": kind, "node_id": 1000, **fields})
        self._changed.set()
        self._changed = asyncio.Event()
        return self.revision

    def forget(self, before: int) -> None:
        """Drops the events below revision `before`."""
        self.kept = [event for event in self.kept if event["revision"] >= before]

    # --- what the API does ----------------------------------------------------------------------

    async def propose(self, command: dict[str, Any]) -> dict[str, Any]:
        self.proposed.append(json.loads(json.dumps(command)))
        await asyncio.sleep(0)
        if self.refusal is not None:
            raise self.refusal
        return {"type": "done"}

    async def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(json.loads(json.dumps(question)))
        await asyncio.sleep(0)
        if self.refusal is not None:
            raise self.refusal
        if "snapshot" in question:
            await asyncio.to_thread(Path(question["snapshot"]["path"]).write_bytes, self.backup)
        if "transfer" in question:
            return {"leader": question["transfer"]["to"] or 3}
        return self.servers_view if "members" in question else {"type": "done"}

    async def settle(self) -> None:
        await self.ask({"barrier": {}})

    def members(self) -> dict[str, Any]:
        return {"items": self.servers_view["items"], "is_changing": False}

    def nodes(self, query: dict[str, Any]) -> bytes:
        self.queries.append(query)
        return _bytes({"items": list(self.node_views.values()), "revision": self.revision})

    def node(self, node_id: int) -> bytes | None:
        view = self.node_views.get(node_id)
        return None if view is None else _bytes(view)

    def tokens(self) -> bytes:
        return _bytes({"items": list(self.token_views.values()), "revision": self.revision})

    def token(self, jti: str) -> bytes | None:
        view = self.token_views.get(jti)
        return None if view is None else _bytes(view)

    def events(self, after: int, limit: int) -> bytes:
        self.pages.append((after, limit))
        items = [event for event in self.kept if event["revision"] > after][:limit]
        first_kept = self.kept[0]["revision"] if self.kept else self.revision + 1
        return _bytes({"items": items, "revision": self.revision, "first_kept": first_kept})

    async def wait_revision(self, after: int, timeout: float) -> int:
        try:
            async with asyncio.timeout(timeout):
                while self.revision <= after:
                    await self._changed.wait()
        except TimeoutError:
            pass
        return self.revision

    def status(self) -> bytes:
        return _bytes(self.status_view)

    def metrics(self) -> dict[str, float]:
        return self.metric_values


def _bytes(document: object) -> bytes:
    return json.dumps(document).encode()
