"""What every mode's `Cluster` does: one suite, told to each."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.contract.clusters import MODES, configs, running
from zlayer_native import Cluster, Config, EventsLost, NodeChanged, NodeEvent, NodeJoined
from zlayer_native.errors import (
    ConfigError,
    InvalidRequest,
    LockLost,
    LockTimeout,
    NoLeader,
    NotSupported,
    RevisionMismatch,
)

#: Beyond anything here, also on a busy machine.
PATIENCE = 60.0


@pytest.fixture(params=MODES)
async def clusters(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[Cluster]]:
    async with running(request.param, tmp_path) as found:
        yield found


async def looks() -> AsyncIterator[None]:
    """Times to look again, until it has lasted too long."""
    end = asyncio.get_running_loop().time() + PATIENCE
    while asyncio.get_running_loop().time() < end:
        yield
        await asyncio.sleep(0.01)
    raise TimeoutError


async def until(check: Callable[[], object]) -> None:
    async for _ in looks():
        if check():
            return


async def test_one_leads_and_all_know_who(clusters: list[Cluster]) -> None:
    await until(lambda: sum(cluster.is_leader() for cluster in clusters) == 1)
    leading = next(cluster for cluster in clusters if cluster.is_leader())
    for cluster in clusters:
        leader = None
        async with asyncio.timeout(PATIENCE):
            while leader is None:
                leader = await cluster.leader()
        assert (leader.id, leader.term >= 1) == (leading.node_id, True)


async def test_a_process_is_a_node_unless_only_workers_are(clusters: list[Cluster]) -> None:
    wanted = [] if clusters[0].mode == "worker-tier" else [c.node_id for c in clusters]
    for cluster in clusters:
        async for _ in looks():
            if [n.id for n in await cluster.nodes() if n.state == "Ready"] == wanted:
                break
        nodes = await cluster.nodes()
        assert [node.name for node in nodes] == [f"node-{number}" for number in wanted]
        assert pickle.loads(pickle.dumps(nodes)) == nodes
        assert await cluster.nodes("zone=a") == []
    with pytest.raises(ConfigError, match=r"selector 'a=='"):
        await clusters[0].nodes("a==")


async def test_a_watch_begins_where_the_nodes_end(clusters: list[Cluster]) -> None:
    nodes, events = await clusters[-1].watch_nodes()
    known = {node.id: node.state for node in nodes}
    wanted = {c.node_id: "Ready" for c in clusters}
    if clusters[0].mode == "worker-tier":
        # Its nodes are workers; one that only enrolled will do.
        wanted = {9: "Suspect"}
        joined = {"type": "join_peer", "id": 9, "name": "nine", "labels": {}}
        await clusters[0].core.propose(joined)  # type: ignore[attr-defined]
    seen: list[NodeEvent | EventsLost] = []
    async with asyncio.timeout(PATIENCE):
        while known != wanted:
            event = await anext(events)
            seen.append(event)
            assert isinstance(event, NodeChanged | NodeJoined)
            known[event.node.id] = event.node.state
    revisions = [event.revision for event in seen if isinstance(event, NodeEvent)]
    assert revisions == sorted(set(revisions))


async def test_values_are_compared_and_swapped(clusters: list[Cluster]) -> None:
    first, last = clusters[0].values, clusters[-1].values
    revision = await first.put("config/a", "one", if_revision=0)
    entry = await last.get("config/a")
    assert entry is not None
    assert (entry.value, entry.revision, entry.created_revision) == (b"one", revision, revision)
    with pytest.raises(RevisionMismatch) as refused:
        await last.put("config/a", "two", if_revision=0)
    assert refused.value.revision == revision
    newer = await last.put("config/a", bytes(range(256)), if_revision=revision)
    assert newer > revision
    await first.put("config/b", "")
    await first.put("other", "x")
    found = [entry.key async for entry in last.items("config/")]
    assert found == ["config/a", "config/b"]
    assert await first.delete("config/a", if_revision=newer) == newer
    assert await last.get("config/a") is None
    assert await first.delete("config/a") == 0
    with pytest.raises(InvalidRequest, match="key"):
        await first.put("a b", "x")


async def test_swaps_that_race_have_one_winner(clusters: list[Cluster]) -> None:
    async def add_one(cluster: Cluster) -> int:
        tries = 0
        while True:
            tries += 1
            entry = await cluster.values.get("count")
            count, revision = (int(entry.value), entry.revision) if entry else (0, 0)
            try:
                await cluster.values.put("count", str(count + 1), if_revision=revision)
            except RevisionMismatch:
                continue
            return tries

    racers = [clusters[number % len(clusters)] for number in range(20)]
    await asyncio.gather(*map(add_one, racers))
    entry = await clusters[0].values.get("count")
    assert entry is not None
    assert entry.value == b"20"


async def test_a_lock_has_one_holder_and_a_fence_that_grows(clusters: list[Cluster]) -> None:
    inside, fences = 0, []

    async def work(cluster: Cluster) -> None:
        nonlocal inside
        async with cluster.lock("migrate", ttl=5) as lock:
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            fences.append(lock.fence)
            inside -= 1

    await asyncio.gather(*(work(clusters[number % len(clusters)]) for number in range(6)))
    assert fences == sorted(set(fences))
    async with clusters[0].lock("migrate", ttl="10s"):
        with pytest.raises(LockTimeout) as late:
            async with clusters[-1].lock("migrate", wait=0.2):
                pytest.fail("two hold it")
        assert isinstance(late.value, TimeoutError)
        assert late.value.owner
    async with clusters[-1].lock("migrate", wait=0):
        pass


async def test_a_body_is_cancelled_when_its_lock_is_lost(clusters: list[Cluster]) -> None:
    cluster = clusters[-1]

    async def lose_it() -> None:
        async with cluster.lock("a", ttl=1) as lock:
            await _take_away(cluster, "a", lock.fence)
            await asyncio.sleep(PATIENCE)

    with pytest.raises(LockLost, match="the cluster let go of it"):
        await lose_it()
    # The task itself goes on: only the body was cancelled.
    async with asyncio.timeout(PATIENCE), cluster.lock("a", ttl=1):
        pass
    # What the body raises says more than the loss.
    with pytest.raises(ZeroDivisionError):
        await _failing(cluster)


async def test_a_cancelled_waiter_leaves_no_lock_behind(clusters: list[Cluster]) -> None:
    async def wait() -> None:
        async with clusters[-1].lock("a"):
            pytest.fail("it was not free")

    async with clusters[0].lock("a", ttl=5):
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with clusters[0].lock("a", wait=PATIENCE):
        pass


async def test_an_election_has_one_term_at_a_time(clusters: list[Cluster]) -> None:
    fences: list[int] = []
    in_office = 0

    async def stand(cluster: Cluster) -> None:
        nonlocal in_office
        async for term in cluster.elect("reports", ttl=5):
            async with term:
                in_office += 1
                assert in_office == 1
                fences.append(term.fence)
                await asyncio.sleep(0)
                in_office -= 1
            if len(fences) >= 6:
                return

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*map(stand, clusters))
    assert fences == sorted(set(fences))


async def test_a_term_that_is_lost_ends_and_the_next_one_comes(clusters: list[Cluster]) -> None:
    cluster = clusters[0]
    fences: list[int] = []
    async with asyncio.timeout(PATIENCE):
        async for term in cluster.elect("reports", ttl=1):
            async with term:
                fences.append(term.fence)
                if len(fences) == 2:
                    break
                await _take_away(cluster, "elect/reports", term.fence)
                await asyncio.sleep(PATIENCE)
                pytest.fail("it went on without the office")
    assert fences[0] < fences[1]


async def test_what_was_acknowledged_is_there_after_a_restart(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    for mode in MODES:
        root = tmp_path / mode
        root.mkdir()
        async with running(mode, root) as clusters:
            await clusters[0].values.put("kept", "yes")
        again = configs_of(root, mode)
        async with asyncio.timeout(PATIENCE):
            await _check_kept(again)


def configs_of(root: Path, mode: str) -> list[Config]:
    """The same folders, on new ports where that is allowed: a mode of one server."""
    if mode == "raft":
        return []  # Three restarts on the same ports are shown by the tests with processes.
    return configs(mode, root)


async def _check_kept(found: list[Config]) -> None:
    for config in found:
        async with Cluster.open(config) as cluster:
            entry = await cluster.values.get("kept")
            assert entry is not None
            assert entry.value == b"yes"


async def test_without_a_quorum_the_missing_are_named(tmp_path: Path) -> None:
    config = configs("raft", tmp_path)[1]
    async with Cluster.open(config) as cluster:
        with pytest.raises(NoLeader, match=r"no leader after 0\.3 s"):
            await cluster.wait_ready(timeout=0.3)
        assert await cluster.leader() is None
        assert not cluster.is_leader()
        assert await cluster.nodes(stale=True) == []
        with pytest.raises(NoLeader):
            await cluster.values.put("a", "b")


async def test_a_worker_has_no_cluster(tmp_path: Path) -> None:
    block = {"mode": "worker-tier", "role": "worker", "servers": ["127.0.0.1:3670"]}
    with pytest.raises(NotSupported, match="Worker"):
        async with Cluster.open(Config(data_dir=tmp_path, cluster=block)):
            pass


async def _take_away(cluster: Cluster, name: str, fence: int) -> None:
    """As the leader does when a lease was not renewed."""
    command = {"type": "release_locks", "items": [{"name": name, "fence": fence}]}
    await cluster.core.propose(command)  # type: ignore[attr-defined]


async def _failing(cluster: Cluster) -> None:
    async with cluster.lock("a", ttl=1):
        raise ZeroDivisionError
