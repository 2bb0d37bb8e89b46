"""Leaders die under a fleet of real mTLS workers, and not one live worker is marked down."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.harness import eventually
from tests.cluster.ledger import Trail, now
from tests.cluster.results import keep, quantile
from tests.cluster.servers import OneServer, Servers, servers
from tests.cluster.swarm import Swarm

pytestmark = pytest.mark.cluster

CAP = 50
#: Seconds in which a worker has to be back.
RECONNECT = 30.0


@pytest.mark.parametrize(
    ("workers", "kills"),
    [
        pytest.param(200, 2, marks=pytest.mark.timeout(300), id="share"),
        pytest.param(2000, 10, marks=[pytest.mark.slow, pytest.mark.timeout(1800)], id="whole"),
    ],
)
def test_a_killed_leader_costs_no_worker_its_life(tmp_path: Path, workers: int, kills: int):
    whole: list[float] = []
    hit: list[int] = []
    with servers(tmp_path, max_heartbeats_per_second=CAP) as running:
        trails = [Trail(server) for server in running.all]
        token = running.token(uses=workers).read_text().strip()
        with Swarm(running, workers, token) as swarm:
            wait_whole(running, swarm, workers, within=300)
            for _ in range(kills):
                leader, sessions = fullest(running)
                lead(running, leader)
                hit.append(sessions)
                before = now()
                leader.kill()
                wait_whole(running, swarm, workers, within=RECONNECT)
                whole.append(now() - before)
                running.restart(leader)
                for trail in trails:
                    trail.advance()
            calm = [dict(server.status()["workers"]) for server in running.all]
            last = running.leader().status()["revision"]
            report = swarm.end()
        for trail in trails:
            trail.advance()

    # The servers' view, which is one: nobody was given up, and nobody Suspect for long.
    events = [event for event in trails[0].events if event["revision"] <= last]
    for trail in trails:
        assert trail.events[: len(events)] == events
    kinds = {event["kind"] for event in events if event["node_id"] >= 1000}
    assert kinds <= {"enrolled", "joined", "suspect", "recovered"}, kinds
    suspected = suspicions(events)
    assert max(suspected, default=0.0) <= RECONNECT, suspected
    assert all(each["Ready"] == workers for each in calm), calm

    # The workers' view: all came back in time, none was refused or late with a beat.
    reconnects = report["reconnects"]
    # Of three servers the fullest has a third of the workers, at least.
    assert min(hit) >= workers // 3, hit
    assert reconnects["count"] >= kills * (workers // 3), reconnects
    assert reconnects["missing"] == 0, report
    assert reconnects["max_ms"] <= RECONNECT * 1000, report
    assert report["false_expiries"] == 0, report
    assert report["peak_beats_per_second"] <= 2 * CAP, report

    figures = {
        "workers": workers,
        "kills": kills,
        "sessions_hit": hit,
        "unreachable": 0,  # Anything else has failed above.
        "suspect": len(suspected),
        "suspect_max_s": round(max(suspected, default=0.0), 1),
        "cap": CAP,
        "peak_beats_per_second": report["peak_beats_per_second"],
        "heartbeats": report["heartbeats"],
        "ack_p99_ms": report["ack_p99_ms"],
        "false_expiries": report["false_expiries"],
        "reconnects": reconnects,
        "all_back_p50_s": round(quantile(whole, 0.5), 2),
        "all_back_max_s": round(max(whole), 2),
    }
    print(figures)
    if workers >= 2000:
        what = "workers over three servers while the leader is killed, real mTLS sessions"
        keep("swarm-failover", what, "tests/cluster/test_swarm_failover.py", figures)


def wait_whole(running: Servers, swarm: Swarm, workers: int, *, within: float) -> None:
    """Waits until the leader of now counts a session for each worker."""

    def counted() -> bool:
        swarm.check()
        seen = running.leader().status()["workers"]
        return seen["connected"] == workers and seen["Ready"] == workers

    eventually(counted, within=within, what=f"{workers} workers are connected and Ready")


def fullest(running: Servers) -> tuple[OneServer, int]:
    """The server with most of the workers' connections, and how many those are."""
    counts = {server.node_id: connections(server) for server in running.all}
    most = max(counts, key=counts.__getitem__)
    return running[most], counts[most]


def connections(server: OneServer) -> int:
    text = server.client.get("/metrics").text
    (line,) = (each for each in text.splitlines() if each.startswith("zlayer_open_connections "))
    return int(float(line.split()[1]))


def lead(running: Servers, server: OneServer) -> None:
    """Hands the leadership to a server, so that its death hits leader and workers at once."""
    if running.leader() is not server:
        answer = server.client.post("/api/v1/raft/leader", json={"to": server.node_id})
        assert answer.status_code == 200, answer.text
    eventually(lambda: running.leader() is server, within=30, what="it leads")


def suspicions(events: list[dict]) -> list[float]:
    """Seconds for which nodes were Suspect, by the leaders' clocks; all have ended."""
    since: dict[int, int] = {}
    lasted = []
    for event in events:
        if event["kind"] == "suspect":
            since.setdefault(event["node_id"], event["at_ms"])
        elif event["node_id"] in since:
            lasted.append((event["at_ms"] - since.pop(event["node_id"])) / 1000)
    assert not since, f"still Suspect: {sorted(since)}"
    return lasted
