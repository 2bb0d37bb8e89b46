"""The blocking twin does what the asynchronous one does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.clusters import configs
from zlayer_native import blocking
from zlayer_native.errors import LockLost, LockTimeout, RevisionMismatch

PATIENCE = 60.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[blocking.Cluster]:
    (config,) = configs("single-node", tmp_path)
    with blocking.Cluster.open(config) as found:
        found.wait_ready(PATIENCE)
        yield found


def test_it_is_its_own_leader_and_node(cluster: blocking.Cluster) -> None:
    assert cluster.is_leader()
    leader = cluster.leader()
    assert leader is not None
    assert leader.id == cluster.node_id == 1
    nodes, events = cluster.watch_nodes()
    states = {node.id: node.state for node in nodes}
    while states != {1: "Ready"}:
        event = next(events)
        states[event.node.id] = event.node.state  # type: ignore[union-attr]
    assert [node.name for node in cluster.nodes()] == ["node-1"]


def test_values(cluster: blocking.Cluster) -> None:
    revision = cluster.values.put("a", "1")
    with pytest.raises(RevisionMismatch):
        cluster.values.put("a", "2", if_revision=0)
    assert [entry.value for entry in cluster.values.items()] == [b"1"]
    assert cluster.values.delete("a") == revision
    assert cluster.values.get("a") is None


def test_locks_between_threads(cluster: blocking.Cluster) -> None:
    fences: list[int] = []

    def work() -> None:
        with cluster.lock("a", ttl=5) as lock:
            fences.append(lock.fence)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(fences) == 4
    assert fences == sorted(set(fences))
    with cluster.lock("a"), pytest.raises(LockTimeout), cluster.lock("a", wait=0):
        pytest.fail("two hold it")


def take_away(cluster: blocking.Cluster, name: str, fence: int) -> None:
    command = {"type": "release_locks", "items": [{"name": name, "fence": fence}]}
    core = cluster._cluster.core  # type: ignore[attr-defined]
    cluster._loop.run(core.propose(command))


def test_a_loss_is_said_while_it_lasts_and_raised_at_the_end(cluster: blocking.Cluster) -> None:
    def lose_it() -> None:
        with cluster.lock("a", ttl=1) as lock:
            take_away(cluster, "a", lock.fence)
            assert lock.lost.wait(PATIENCE)

    with pytest.raises(LockLost):
        lose_it()
    fences = []
    for term in cluster.elect("reports", ttl=1):
        fences.append(term.fence)
        if len(fences) == 3:
            break
        if len(fences) == 1:
            take_away(cluster, "elect/reports", term.fence)
            assert term.lost.wait(PATIENCE)
    assert fences == sorted(set(fences))


async def test_it_can_be_used_beside_a_running_loop(tmp_path: Path) -> None:
    (config,) = configs("single-node", tmp_path)

    def use() -> bytes | None:
        with blocking.Cluster.open(config) as cluster:
            cluster.values.put("a", "1")
            entry = cluster.values.get("a")
            return None if entry is None else entry.value

    assert await asyncio.to_thread(use) == b"1"
