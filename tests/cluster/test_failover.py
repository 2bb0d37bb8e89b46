"""The leader dies under writes, again and again: how long nobody can write, and what is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.harness import eventually
from tests.cluster.ledger import Trail, check_tokens, check_trails, now
from tests.cluster.results import keep, quantile
from tests.cluster.servers import Servers, servers
from tests.cluster.write_load import WriteLoad

pytestmark = pytest.mark.cluster

WRITERS = 4
#: Seconds between two writes of a writer: 50 rounds fit into the tokens that a cluster keeps.
PAUSE = 0.06
#: Writes that are acknowledged before the next kill: the load is steady again.
STEADY = 20


@pytest.mark.parametrize(
    ("rounds", "p50_max", "p99_max"),
    [
        # Generous: other work may share the machine.
        pytest.param(3, 5.0, 5.0, marks=pytest.mark.timeout(300), id="share"),
        pytest.param(50, 0.7, 1.5, marks=[pytest.mark.slow, pytest.mark.timeout(1800)], id="whole"),
    ],
)
def test_a_killed_leader_costs_a_moment_and_no_acknowledged_write(
    tmp_path: Path, rounds: int, p50_max: float, p99_max: float
):
    took: list[float] = []
    with servers(tmp_path) as running:
        trails = [Trail(server) for server in running.all]
        with WriteLoad(running, writers=WRITERS, pause=PAUSE) as load:
            for _ in range(rounds):
                load.ledger.wait_count(load.ledger.count() + STEADY, within=60)
                leader = running.leader()
                before = now()
                leader.kill()
                first = load.ledger.first_sent_after(now(), within=60)
                took.append(first.ended - before)
                running.restart(leader)
                check_trails(trails, load.ledger)
                load.check()
        settle(running)
        check_trails(trails, load.ledger)
        check_tokens(running.all, load.ledger)

    # The reader had the chance to see something old.
    assert load.reads >= rounds * STEADY / 2
    p50, p99 = quantile(took, 0.5), quantile(took, 0.99)
    report = {
        "rounds": rounds,
        "p50_s": round(p50, 3),
        "p99_s": round(p99, 3),
        "max_s": round(max(took), 3),
        "took_s": [round(each, 3) for each in took],
        "acknowledged": len(load.ledger.acked),
        "lost": 0,  # Anything else has failed above.
        "unknown": len(load.ledger.unknown),
        "refused": len(load.ledger.refused),
        "linearizable_reads": load.reads,
    }
    if rounds >= 50:
        what = "from kill -9 of the leader of three servers to the first write that was sent later"
        keep("failover", what, "tests/cluster/test_failover.py", report)
    assert p50 <= p50_max, report
    assert p99 <= p99_max, report


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(15, marks=pytest.mark.timeout(180), id="share"),
        pytest.param(600, marks=[pytest.mark.slow, pytest.mark.timeout(1200)], id="whole"),
    ],
)
def test_nobody_is_elected_while_the_leader_is_only_busy(tmp_path: Path, seconds: int):
    with servers(tmp_path) as running:
        leader = running.leader()
        before = {server.node_id: ballot(server.status()) for server in running.all}
        index = leader.status()["log"]["commit_index"]
        with WriteLoad(running, writers=8, repeat=True) as load:
            load.go_on(seconds)
        acked = load.ledger.count()
        committed = leader.status()["log"]["commit_index"] - index
        assert {server.node_id: ballot(server.status()) for server in running.all} == before
        # Each of them was an entry, and none was in doubt.
        assert committed >= acked >= 20 * seconds, (committed, acked)
        assert (load.ledger.unknown, load.ledger.refused) == ([], [])
        print(f"{acked / seconds:.0f} writes a second for {seconds} s, no election")


def ballot(status: dict) -> tuple[int, int, int]:
    return status["term"], status["leader"], status["elections"]


def settle(running: Servers) -> None:
    """Waits until all logs end at the same entry."""

    def ends() -> bool:
        return len({server.status()["log"]["last_index"] for server in running.all}) == 1

    eventually(ends, within=30, what="all servers hold the same log")
