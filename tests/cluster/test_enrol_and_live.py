"""One server, twenty real workers, one token: who joins, who dies, who is never touched."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.cluster.harness import Cluster, cluster, event_kinds, eventually

pytestmark = pytest.mark.cluster

TTL, GRACE = 2, 1
WORKERS = 20


@pytest.fixture
def running(tmp_path: Path):
    with cluster(tmp_path, heartbeat_min_ttl=TTL, heartbeat_grace=GRACE) as cluster_:
        yield cluster_


def start_workers(running: Cluster, count: int) -> dict[str, object]:
    token = running.token(uses=count)
    workers = {f"w{i:02d}": running.start_worker(f"w{i:02d}", token) for i in range(count)}
    running.wait_states(dict.fromkeys(workers, "Ready"), within=60)
    return workers


@pytest.mark.timeout(300)
def test_twenty_workers_five_deaths_and_a_killed_server(running: Cluster):
    token = running.token(uses=WORKERS)
    names = [f"w{i:02d}" for i in range(WORKERS)]
    workers = {name: running.start_worker(name, token) for name in names}
    running.wait_states(dict.fromkeys(names, "Ready"), within=90)

    # The 21st is refused, with a reason, and becomes nothing.
    extra = running.start_worker("w20", token)
    assert extra.wait(within=30) == 5, extra.text()
    assert "no uses left" in extra.text()
    assert "w20" not in running.nodes()

    # Five die: Suspect within a second, Unreachable by TTL + grace + 1 s; the others stay Ready.
    revision = running.revision()
    dead, alive = names[:5], names[5:]
    killed_at = time.monotonic()
    for name in dead:
        workers[name].popen.kill()
    running.wait_states(dict.fromkeys(dead, "Suspect"), within=1.0)
    suspect_after = time.monotonic() - killed_at
    running.wait_states(dict.fromkeys(dead, "Unreachable"), within=TTL + GRACE + 1)
    assert suspect_after <= 1.0
    assert {e["node_name"] for e in running.events(revision)} == set(dead)

    # The server is killed and started again: nothing is lost and nobody is marked down.
    ids = {name: node["id"] for name, node in running.nodes().items()}
    events_before = running.events()
    revision = running.revision()
    running.server.kill()
    running.start_server()
    assert {name: node["id"] for name, node in running.nodes().items()} == ids
    assert running.events()[: len(events_before)] == events_before
    eventually(
        lambda: running.status()["workers"]["connected"] == len(alive),
        within=30,
        what="the live workers are connected again",
    )
    running.wait_states(dict.fromkeys(alive, "Ready"), within=10)
    after = [e for e in running.events(revision) if e["node_name"] in alive]
    assert not [e for e in after if e["kind"] in ("unreachable", "left", "removed")], after

    # The used-up token still is.
    again = running.start_worker("w21", token)
    assert again.wait(within=30) == 5
    assert "no uses left" in again.text()


@pytest.mark.timeout(180)
def test_a_stopped_worker_expires_in_time_and_recovers_with_the_same_id(running: Cluster):
    workers = start_workers(running, 3)
    before = running.nodes()["w00"]
    revision = running.revision()
    workers["w00"].signal(signal.SIGSTOP)
    running.wait_states({"w00": "Unreachable"}, within=TTL + TTL + GRACE + 1)
    workers["w00"].signal(signal.SIGCONT)
    running.wait_states({"w00": "Ready"}, within=20)
    assert running.nodes()["w00"]["id"] == before["id"]
    assert event_kinds(running.events(revision), "w01") == []


@pytest.mark.timeout(180)
def test_sigterm_is_a_farewell_and_a_restart_needs_no_token(running: Cluster):
    workers = start_workers(running, 2)
    node_id = running.nodes()["w00"]["id"]
    revision = running.revision()
    assert workers["w00"].terminate() == 0
    running.wait_states({"w00": "Left"}, within=2)
    assert event_kinds(running.events(revision), "w00") == ["left"]

    running.start_worker("w00", None)
    running.wait_states({"w00": "Ready"}, within=20)
    assert running.nodes()["w00"]["id"] == node_id
    assert event_kinds(running.events(revision), "w00") == ["left", "joined"]


@pytest.mark.timeout(180)
def test_a_removed_node_is_cut_off_within_five_seconds_and_stays_out(running: Cluster):
    workers = start_workers(running, 2)
    node = running.nodes()["w00"]
    running.cli("node", "remove", str(node["id"]), "--yes")
    assert "w00" not in running.nodes()
    eventually(
        lambda: running.status()["workers"]["connected"] == 1,
        within=5,
        what="the removed worker's connection is closed",
    )
    assert workers["w00"].wait(within=30) == 5, workers["w00"].text()

    again = running.start_worker("w00", None)
    assert again.wait(within=30) == 5, again.text()
    assert "w00" not in running.nodes()
    assert running.states()["w01"] == "Ready"
