"""Commits driven from Rust on a running server's own log."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.boundary.real_core import server_options
from zlayer_native._native import ServerNode
from zlayer_native.errors import LoadError
from zlayer_native.identity.authority import Authority


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[ServerNode]:
    authority = Authority.open_or_create(tmp_path / "cluster")
    payload = json.dumps(server_options(authority, tmp_path)).encode()
    node = await asyncio.to_thread(ServerNode.start, payload)
    yield node
    await asyncio.to_thread(node.shutdown, 10)


async def load(node: ServerNode, **options: Any) -> dict[str, Any]:
    payload = json.dumps(options).encode()
    return dict(json.loads(await asyncio.to_thread(node.load_commits, payload)))


def log_index(node: ServerNode) -> int:
    return int(json.loads(node.status())["log"]["commit_index"])


def wait_index(node: ServerNode, index: int) -> None:
    deadline = time.monotonic() + 20
    while log_index(node) < index:
        assert time.monotonic() < deadline
        time.sleep(0.002)


async def test_every_commit_in_flight_is_an_entry_of_the_log(node: ServerNode) -> None:
    before = log_index(node)
    report = await load(
        node,
        kind="in_flight",
        in_flight=4,
        seconds=0.2,
        warm_up_seconds=0,
        server_pids=[os.getpid()],
    )
    assert report["commits"] > 4
    assert log_index(node) - before == report["commits"]
    assert 0 < report["p50_ms"] <= report["p99_ms"] <= report["max_ms"]


async def test_a_takeover_is_told_by_the_clock_of_the_machine(node: ServerNode) -> None:
    before = time.monotonic_ns()
    acked = await load(node, kind="takeover", timeout_seconds=20)
    assert before < acked["acked_ns"] < time.monotonic_ns()


async def test_holding_ends_with_the_time_or_the_server(node: ServerNode) -> None:
    ended = await load(node, kind="hold", every_ms=1, timeout_seconds=0.1)
    assert ended["commits"] > 0
    assert ended["why"] == "the time was up"
    holding = asyncio.create_task(load(node, kind="hold", every_ms=1))
    await asyncio.to_thread(wait_index, node, log_index(node) + 10)  # It writes.
    await asyncio.to_thread(node.shutdown, 10)
    assert "stopped" in (await holding)["why"]
    with pytest.raises(LoadError, match="stopped"):
        await load(node, kind="takeover")


async def test_what_is_no_load_is_named(node: ServerNode) -> None:
    with pytest.raises(LoadError, match="server_pids"):
        await load(node, kind="in_flight", server_pids=[])
    with pytest.raises(LoadError, match="nothing"):
        await load(node, kind="nothing")
