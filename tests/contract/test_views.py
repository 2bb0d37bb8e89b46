"""Every document that the core shows has the fields of its golden shape."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.boundary.real_core import RealCore, real_core
from tests.contract.golden import load, mismatch
from zlayer_native._bridge import Server, Session

VIEWS = load("views")
#: Of a node that has reported nothing yet.
SILENT = {**VIEWS["node"], "resources": "text or null"}


TTL_OF_A_SECOND = {
    "min_ttl_secs": 1,
    "max_ttl_secs": 1,
    "grace_secs": 10,
    "max_heartbeats_per_second": 50,
    "failover_ttl_secs": 30,
}


async def test_records_and_events(tmp_path: Path) -> None:
    async with real_core(tmp_path) as core:
        jti = await core.token(name="ci", uses=2, labels={"zone": "a"}, labels_allowed=["disk"])
        node_id = await core.node(jti, labels={"disk": "ssd"})
        await core.server.propose({"type": "set_draining", "node_id": node_id, "draining": True})
        for page, view, more in (
            (core.server.nodes({}), SILENT, {}),
            (core.server.tokens(), VIEWS["token"], {}),
            (core.server.events(0, 100), VIEWS["event"], {"first_kept": "whole"}),
        ):
            document = json.loads(page)
            assert document["items"]
            assert mismatch(document, {"items": [view], "revision": "whole", **more}) == []
        assert mismatch(json.loads(core.server.node(node_id) or b""), SILENT) == []
        assert mismatch(json.loads(core.server.token(jti) or b""), VIEWS["token"]) == []


async def test_a_worker_that_is_there(tmp_path: Path) -> None:
    async with real_core(tmp_path, ttl=TTL_OF_A_SECOND) as core:
        session = await connected(core)
        node = await reported(core.server)
        assert mismatch(node, VIEWS["node"]) == []
        assert node["resources"] == {
            "cpu_millicores": 1500,
            "memory_bytes": 2**33,
            "disk_bytes": 2**40,
        }
        for field in ("address", "next_beat_in_ms", "lease_remaining_ms", "last_beat_ago_ms"):
            assert node[field] is not None
        assert int(node["incarnation"]) > 0  # Text: it has more bits than JSON numbers keep.
        assert mismatch(json.loads(core.server.status()), VIEWS["status"]) == []
        assert mismatch(session.state(), VIEWS["session"]) == []
        metrics = core.server.metrics()
        assert all(type(value) is int and value >= 0 for value in metrics.values())
        session.stop()


async def connected(core: RealCore) -> Session:
    session = Session.start(await core.session_options())
    session.set_resources(1500, 2**33, 2**40)
    while (await session.next_event())["type"] != "connected":
        pass
    return session


async def reported(server: Server) -> dict[str, Any]:
    """The node once its use has come with a beat and its arrival is recorded."""
    async with asyncio.timeout(20):
        while True:
            (node,) = json.loads(server.nodes({}))["items"]
            if node["resources"] is not None and node["state"] == "Ready":
                return dict(node)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "1000"},
        {"id": -1},
        {"id": True},
        {"draining": 0},
        {"labels": {"a": 1}},
        {"labels": []},
        {"certificate_not_after_ms": None},
        {"address": 5},
        {"more": 1},
        {"resources": {"cpu_millicores": 1}},
    ],
    ids=str,
)
async def test_a_difference_would_be_seen(tmp_path: Path, change: dict[str, Any]) -> None:
    async with real_core(tmp_path) as core:
        node = json.loads(core.server.node(await core.node()) or b"")
    assert mismatch(node, SILENT) == []
    assert mismatch({**node, **change}, SILENT)
    assert mismatch({key: node[key] for key in node if key != "name"}, SILENT)
