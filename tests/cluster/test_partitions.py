"""Servers that are cut from each other: one side goes on, and nobody says what is not so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cluster.harness import eventually
from tests.cluster.ledger import LINEARIZABLE, TOKENS, Trail, check_tokens, check_trails, now
from tests.cluster.namespaces import Network, why_not
from tests.cluster.servers import OneServer, Servers, servers
from tests.cluster.write_load import WriteLoad

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

SERVERS = 3
#: The host of the workers, which hears all servers whatever is cut between those.
WORKERS = 4
WRITERS = 3
PAUSE = 0.06
#: Writes that are acknowledged before the next step: the load is steady.
STEADY = 20


@pytest.fixture(scope="module")
def _host_can_cut() -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(f"not run, hosts can't be cut from each other here: {reason}")


@pytest.fixture
def network(_host_can_cut: None) -> Iterator[Network]:
    with Network(WORKERS) as made:
        yield made


def test_a_leader_that_is_cut_off_alone_acknowledges_nothing(tmp_path: Path, network: Network):
    with servers(tmp_path, SERVERS, network) as running:
        trails = [Trail(server) for server in running.all]
        old = running.leader()
        others = running.others(old)
        term = old.status()["term"]
        with WriteLoad(running, writers=WRITERS, pause=PAUSE) as load:
            load.ledger.wait_count(STEADY, within=60)
            network.split([old.node_id], ids(others))
            # It has not noticed yet: this one gets into its log, and no further.
            refuses_all(old, "unnoticed")
            new = running.leader(among=others)
            assert new.status()["term"] > term
            ended = load.ledger.first_sent_after(now(), within=60).ended
            committed = old.status()["log"]["commit_index"]
            for number in range(3):
                refuses_all(old, f"alone-{number}")
            load.ledger.wait_count(load.ledger.count() + STEADY, within=60)
            assert load.ledger.acked[-1].ended > ended
            assert old.status()["log"]["commit_index"] == committed
            network.heal()
            running.leader()
            load.ledger.first_sent_after(now(), within=60)
        check_all(running, trails, load)
        made = [token["name"] for token in old.get(TOKENS, consistency=LINEARIZABLE)["items"]]
        assert made.count("unnoticed") <= 1
        assert not [name for name in made if name.startswith("alone-")]


def refuses_all(server: OneServer, name: str) -> None:
    """Fails unless the server answers a write and a linearizable read with 503, and stale ones."""
    with server.new_client(30) as client:
        answers = [
            client.post(TOKENS, json={"name": name, "ttl_secs": 3600}),
            client.get("/api/v1/status", params={"consistency": LINEARIZABLE}),
            client.get(TOKENS, params={"consistency": LINEARIZABLE}),
        ]
        assert [answer.status_code for answer in answers] == [503] * 3, said(answers)
        assert client.get(TOKENS).status_code == 200


def said(answers: list[httpx.Response]) -> list[str]:
    return [answer.text for answer in answers]


def ids(some: list[OneServer]) -> list[int]:
    return [server.node_id for server in some]


def check_all(running: Servers, trails: list[Trail], load: WriteLoad) -> None:
    """Checks, once the load has ended, that all servers hold one history with all acknowledged."""

    def settled() -> bool:
        return len({server.status()["log"]["last_index"] for server in running.all}) == 1

    eventually(settled, within=60, what="all servers hold the same log")
    check_trails(trails, load.ledger)
    check_tokens(running.all, load.ledger)
    assert load.reads > 0, "nothing was read that could have been old"
