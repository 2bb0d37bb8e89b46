"""The API over the built core: what the fake core of the other tests stands for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.boundary.real_core import RealCore, create_token, redeem
from tests.unit.api.api import EVENTS, NODES, TOKENS, problem
from tests.unit.api.live import frames
from tests.unit.api.over_core import Running, api_over_core
from tests.unit.api.test_overview import duplicates
from zlayer_native._bridge import Session
from zlayer_native.errors import TokenInvalid
from zlayer_native.identity.token import decode


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with api_over_core(tmp_path) as running_:
        yield running_


async def test_a_token_that_the_api_made_admits_until_it_is_revoked(running: Running) -> None:
    body = {"name": "ci", "uses": 2, "labels": {"zone": "a"}, "labels_allowed": ["disk"]}
    made = (await running.client.post(TOKENS, json=body)).json()
    line = decode(made["token"])
    assert line.claims.jti == made["jti"]
    assert line.claims.cluster_id == made["cluster_id"] == running.core.cluster_id
    assert line.claims.expires_s * 1000 == made["expires_ms"]
    record = await running.get(f"{TOKENS}/{made['jti']}")
    assert record["name"] == "ci"
    assert (record["uses_max"], record["uses"]) == (2, {})
    assert record["expires_ms"] == made["expires_ms"]
    assert made["token"] not in str(record)

    node_id = await running.core.node(made["jti"], labels={"disk": "ssd"})
    assert (await running.get(f"{NODES}/{node_id}"))["labels"] == {"zone": "a", "disk": "ssd"}
    (listed,) = (await running.get(TOKENS))["items"]
    assert list(listed["uses"].values()) == [node_id]

    revoked = await running.client.delete(f"{TOKENS}/{made['jti']}")
    assert revoked.json() == {"jti": made["jti"], "revoked": True}
    assert (await running.get(f"{TOKENS}/{made['jti']}"))["revoked"] is True
    with pytest.raises(TokenInvalid):
        await running.core.node(made["jti"])


async def test_nodes_are_paged_and_selected(running: Running) -> None:
    jti = await running.core.token(uses=25, labels_allowed=["zone", "disk"])
    for n in range(25):
        labels = {"zone": "ab"[n % 2]} | ({"disk": "ssd"} if n % 5 == 0 else {})
        await running.core.node(jti, labels=labels)
    pages, after = [], 0
    while items := (await running.get(NODES, after=after, limit=10))["items"]:
        pages.append([node["id"] for node in items])
        after = pages[-1][-1]
    assert [len(page) for page in pages] == [10, 10, 5]
    assert [node_id for page in pages for node_id in page] == list(range(1000, 1025))

    async def ids(query: str) -> list[int]:
        return [node["id"] for node in (await running.get(f"{NODES}?{query}"))["items"]]

    assert await ids("label=zone=b") == list(range(1001, 1025, 2))
    assert await ids("label=zone=a&label=disk=ssd") == [1000, 1010, 1020]
    assert await ids("label=zone=a&label=disk=ssd&after=1000&limit=1") == [1010]
    assert await ids("label=rack=1") == []
    # It has an identity and has never been heard of: nothing is placed there yet.
    assert len(await ids("state=Suspect")) == 25
    assert await ids("state=Ready") == []


async def test_a_workers_life_as_the_api_tells_it(running: Running) -> None:
    session = Session.start(await running.core.session_options())
    assert (await session.next_event())["type"] == "connected"
    async with frames(f"{running.url}{EVENTS}?follow=true", running.headers) as stream:
        told = [frame.event for frame in await stream.events(3)]
        assert told == ["token_created", "enrolled", "joined"]
        node = await running.get(f"{NODES}/1000")
        assert (node["state"], node["connected"]) == ("Ready", True)

        drained = await running.client.put(f"{NODES}/1000/drain", json={"draining": True})
        assert drained.json() == {"id": 1000, "draining": True}
        assert [frame.event for frame in await stream.events(1)] == ["drain_started"]
        assert (await running.get(NODES, state="Draining"))["items"][0]["id"] == 1000
        assert (await running.get("/api/v1/status"))["workers"]["Draining"] == 1

        removed = await running.client.delete(f"{NODES}/1000")
        assert removed.json() == {"id": 1000, "removed": True}
        (gone,) = await stream.events(1)
        assert (gone.event, gone.data["node_id"]) == ("removed", 1000)
    while (event := await session.next_event())["type"] != "refused":
        assert event["type"] in ("assignments", "disconnected")
    assert event["removed"] is True
    for call in (running.client.get, running.client.delete):
        assert problem(await call(f"{NODES}/1000"), 404) == "node_not_found"
    drain = await running.client.put(f"{NODES}/1000/drain", json={"draining": False})
    assert problem(drain, 404) == "node_not_found"
    session.stop()


async def test_no_gap_and_no_repeat_between_nodes_and_their_events(running: Running) -> None:
    """A page of nodes carries the revision that it shows: whatever is above it comes as events."""
    jti = await running.core.token(uses=300)
    writing = asyncio.create_task(write_nodes(running.core, jti, 300))

    async def read() -> None:
        page = await running.get(NODES, limit=1000)
        known = {node["id"] for node in page["items"]}
        query = f"{EVENTS}?follow=true&after={page['revision']}"
        async with frames(f"{running.url}{query}", running.headers) as stream:
            while len(known) < 300:
                (frame,) = await stream.events(1)
                assert frame.event == "enrolled"
                assert frame.data["node_id"] not in known
                known.add(frame.data["node_id"])
        assert known == set(range(1000, 1300))

    await asyncio.gather(*(read() for _ in range(6)))
    await writing


async def write_nodes(core: RealCore, jti: str, count: int) -> None:
    for key in range(count):
        await core.server.propose(redeem(jti, 1 + key))


async def test_metrics_of_the_built_core(running: Running) -> None:
    """With every counter by reason that a bad connection makes."""
    host, port = running.core.server.address.split(":")
    for junk in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello"):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(junk)
        await reader.read()
        writer.close()
    text = (await running.client.get("/metrics")).text
    assert duplicates(text) == []
    families = {family.name: family for family in text_string_to_metric_families(text)}
    by_reason = families["zlayer_handshakes_failed_by_reason"]
    assert sum(sample.value for sample in by_reason.samples) == 2
    assert families["zlayer_accepted_connections"].samples[0].value == 2
    assert all(family.type in ("counter", "gauge") for family in families.values())


async def test_a_stopped_core_is_said_and_nothing_hangs(running: Running) -> None:
    await running.core.server.propose(create_token())
    async with frames(f"{running.url}{EVENTS}?follow=true", running.headers) as stream:
        assert [frame.event for frame in await stream.events(1)] == ["token_created"]
        await running.core.server.stop()
        response = await running.client.post(TOKENS, json={})
        assert problem(response, 503) == "core_stopped"
        assert response.headers["retry-after"] == "1"
        # What is known can still be read.
        assert len((await running.get(TOKENS))["items"]) == 1
