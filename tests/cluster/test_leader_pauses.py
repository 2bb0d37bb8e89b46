"""A leader sleeps in the middle of a load: what it was told to do, and what it says, afterwards."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.cluster.harness import eventually
from tests.cluster.ledger import (
    LINEARIZABLE,
    TOKENS,
    Ledger,
    Trail,
    Write,
    check_tokens,
    check_trails,
    now,
)
from tests.cluster.servers import OneServer, Servers, servers
from tests.cluster.write_load import WriteLoad

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

#: Seconds; together less than the pauses from 5 s on, so that a pause could end a lease.
TTL = GRACE = 2
NAMES = [f"w{number}" for number in range(4)]
#: Seconds for an answer of a leader that sleeps: more than any sleep and its own patience.
ANSWER = 120
#: Writes, and reads, that wait for it when it wakes.
WAITING = 4
_NOT_DONE = {"no_leader", "not_leader", "overloaded"}


@pytest.mark.parametrize("pause", [1, 5, pytest.param(60, marks=pytest.mark.slow)])
def test_a_leader_that_slept_does_nothing_on_its_own(tmp_path: Path, pause: int):
    lease = {
        "heartbeat_min_ttl": TTL,
        "heartbeat_grace": GRACE,
        "failover_heartbeat_ttl": TTL + GRACE,
    }
    with servers(tmp_path, **lease) as running, ThreadPoolExecutor() as threads:
        trails = [Trail(server) for server in running.all]
        token = running.token(uses=len(NAMES))
        for name in NAMES:
            running.start_worker(name, token)
        wait_ready(running, running.all)
        old = running.leader()
        others = running.others(old)
        term = old.status()["term"]
        with WriteLoad(running.only(others), writers=3, pause=0.06) as load:
            load.ledger.wait_count(20, within=60)
            until = now() + pause
            old.process.signal(signal.SIGSTOP)
            asked = [
                threads.submit(write, old, load.ledger, f"asleep-{number}")
                for number in range(WAITING)
            ]
            asked += [threads.submit(read, old, load.ledger) for _ in range(WAITING)]
            if pause >= 5:
                assert running.leader(among=others).status()["term"] > term
                load.ledger.first_sent_after(now(), within=60)
                wait_ready(running, others)
            load.go_on(max(0.0, until - now()))
            # What they wait for is not older than what was acknowledged while it slept.
            asked += [threads.submit(read, old, load.ledger) for _ in range(WAITING)]
            old.process.signal(signal.SIGCONT)
            for each in asked:
                each.result()
            eventually(lambda: read(old, load.ledger), within=60, what="it reads again, up to date")
            running.leader()
            load.ledger.first_sent_after(now(), within=60)
            wait_ready(running, running.all)
        running.settle()
        check_trails(trails, load.ledger)
        check_tokens(running.all, load.ledger)
        assert load.reads > 0, "nothing was read that could have been old"
    kinds = {event["kind"] for event in trails[0].events if event["node_name"] in NAMES}
    assert kinds <= {"enrolled", "joined", "suspect", "recovered"}, kinds


def write(server: OneServer, ledger: Ledger, name: str) -> None:
    """Makes a token there, and notes what came of it."""
    sent = now()
    with server.new_client(ANSWER) as client:
        answer = client.post(TOKENS, json={"name": name, "ttl_secs": 3600})
    if answer.is_success:
        of, jti = ledger.acked, str(answer.json()["jti"])
    else:
        assert answer.status_code == 503, answer.text
        code = answer.json()["error"]["code"]
        of, jti = ledger.refused if code in _NOT_DONE else ledger.unknown, ""
    ledger.note(of, Write("create", name, sent, now(), jti))


def read(server: OneServer, ledger: Ledger) -> bool:
    """Reads there, linearizable: what was acknowledged before, or nothing at all."""
    floor = ledger.count()  # Each is an event at least.
    with server.new_client(ANSWER) as client:
        answer: httpx.Response = client.get("/api/v1/status", params={"consistency": LINEARIZABLE})
    if answer.status_code == 503:
        return False
    assert answer.status_code == 200, answer.text
    assert answer.json()["revision"] >= floor, f"stale: {answer.json()['revision']} < {floor}"
    return True


def wait_ready(running: Servers, among: list[OneServer]) -> None:
    """Waits until the leader of these counts a session for each worker."""

    def counted() -> bool:
        seen = running.leader(among=among).status()["workers"]
        return (seen["connected"], seen["Ready"]) == (len(NAMES), len(NAMES))

    eventually(counted, within=60, what="all workers are connected and Ready")
