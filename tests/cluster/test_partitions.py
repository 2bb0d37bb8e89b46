"""Servers that are cut from each other: one side goes on, and nobody says what is not so."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cluster.harness import ZLAYERD, eventually
from tests.cluster.ledger import LINEARIZABLE, TOKENS, Trail, check_tokens, check_trails, now
from tests.cluster.namespaces import Network, why_not
from tests.cluster.servers import OneServer, Servers, servers
from tests.cluster.write_load import WriteLoad

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

SERVERS = 3
#: Their host hears all servers, whatever is cut between those.
WORKERS = 4
#: The host of more workers, which is cut off from a server together with the other servers.
SIDE = 5
WRITERS = 3
PAUSE = 0.06
#: Writes that are acknowledged before the next step: the load is steady.
STEADY = 20
#: Seconds for which two servers hear each other no more.
BRIDGED = 12
#: Seconds between two cuts.
FLAP = 0.4
#: On each host, at most.
MOST_WORKERS = 10


@pytest.fixture(scope="module")
def _host_can_cut() -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(f"not run, hosts can't be cut from each other here: {reason}")


@pytest.fixture
def network(_host_can_cut: None) -> Iterator[Network]:
    with Network(SIDE) as made:
        yield made


def alone(network: Network, server: int, others: list[int]) -> None:
    network.split([server], others)


def deaf(network: Network, server: int, others: list[int]) -> None:
    """It sends on, and hears nobody."""
    for other in others:
        network.cut(other, server)


def mute(network: Network, server: int, others: list[int]) -> None:
    """It hears all, and nobody hears it."""
    for other in others:
        network.cut(server, other)


@pytest.mark.parametrize("cut", [alone, deaf, pytest.param(mute, marks=pytest.mark.slow)])
def test_a_leader_that_is_cut_off_acknowledges_nothing_and_another_one_leads(
    tmp_path: Path, network: Network, cut: Callable[[Network, int, list[int]], None]
):
    with servers(tmp_path, SERVERS, network) as running, ThreadPoolExecutor() as threads:
        trails = [Trail(server) for server in running.all]
        old = running.leader()
        others = running.others(old)
        term = old.status()["term"]
        with WriteLoad(running, writers=WRITERS, pause=PAUSE) as load:
            load.ledger.wait_count(STEADY, within=60)
            cut(network, old.node_id, ids(others))
            # It has not noticed yet: this one gets into its log, and no further.
            unnoticed = threads.submit(write, old, "unnoticed")
            new = running.leader(among=others)
            assert new.status()["term"] > term
            load.ledger.first_sent_after(now(), within=60)

            # It hears of no commit any more, so what its log has committed is its own doing.
            committed = old.status()["log"]["commit_index"]
            asked = [threads.submit(write, old, f"cut-off-{number}") for number in range(3)]
            asked += [threads.submit(read, old, path) for path in ("/api/v1/status", TOKENS)]
            assert {each.result() for each in [unnoticed, *asked]} == {503}
            assert old.get(TOKENS), "it still says what it knows to who is content with that"
            status = old.status()
            assert status["leader"] is None
            assert cut is mute or status["log"]["commit_index"] == committed
            load.ledger.wait_count(load.ledger.count() + STEADY, within=60)

            network.heal()
            running.leader()
            load.ledger.first_sent_after(now(), within=60)
        check_all(running, trails, load)
        made = [token["name"] for token in old.get(TOKENS, consistency=LINEARIZABLE)["items"]]
        assert made.count("unnoticed") <= 1
        assert not [name for name in made if name.startswith("cut-off-")]


def test_a_bridge_between_two_servers_that_do_not_hear_each_other_is_enough(
    tmp_path: Path, network: Network
):
    with servers(tmp_path, SERVERS, network) as running:
        trails = [Trail(server) for server in running.all]
        # The leader is one end: the other end hears nobody who leads, and wants to.
        end = running.leader()
        bridge, other = running.others(end)
        before = elections(bridge)
        with WriteLoad(running, writers=WRITERS, pause=PAUSE) as load:
            load.ledger.wait_count(STEADY, within=60)
            network.split([end.node_id], [other.node_id])
            until = now() + BRIDGED
            while now() < until:
                load.ledger.first_sent_after(now(), within=20)
                load.go_on(0.1)
            assert elections(bridge) - before <= BRIDGED / 2
            network.heal()
            running.leader()
            load.ledger.first_sent_after(now(), within=60)
        check_all(running, trails, load)


def elections(server: OneServer) -> int:
    """Leaders that it has seen so far."""
    return int(server.status()["elections"])


@pytest.mark.parametrize(
    ("ttl", "grace", "seconds"),
    [
        pytest.param(5, 5, 20, id="share"),
        pytest.param(10, 10, 60, marks=pytest.mark.slow, id="whole"),
    ],
)
def test_workers_of_a_leader_that_is_cut_off_go_on_with_another_server(
    tmp_path: Path, network: Network, ttl: int, grace: int, seconds: int
):
    lease = {
        "heartbeat_min_ttl": ttl,
        "heartbeat_grace": grace,
        "failover_heartbeat_ttl": ttl + grace,
    }
    assert seconds >= 2 * (ttl + grace), "no lease could end"
    with servers(tmp_path, SERVERS, network, **lease) as running:
        trails = [Trail(server) for server in running.all]
        token = running.token(uses=2 * MOST_WORKERS)
        old = running.leader()
        others = running.others(old)
        names: list[str] = []
        # Each begins with a server of its choice: some with the leader, from both hosts.
        while not all(network.connections(host, old.workers) for host in (WORKERS, SIDE)):
            assert len(names) < 2 * MOST_WORKERS, "nobody chooses the leader"
            for host in (WORKERS, SIDE):
                names.append(f"w{len(names)}")
                running.start_worker(names[-1], token, program=network.program(host, ZLAYERD))
            wait_ready(running, running.all, len(names))

        network.split([old.node_id], [*ids(others), SIDE])
        until = now() + seconds
        while now() < until:
            wait_ready(running, others, len(names))
            time.sleep(0.1)  # From look to look.
        assert not network.connections(SIDE, old.workers), "it is said to be cut off"
        network.heal()
        running.leader()
        wait_ready(running, running.all, len(names))
        running.settle()
        for trail in trails:
            trail.advance()
            assert trail.events == trails[0].events
    kinds = {event["kind"] for event in trails[0].events if event["node_name"] in names}
    assert {"enrolled", "joined"} <= kinds <= {"enrolled", "joined", "suspect", "recovered"}, kinds


def wait_ready(running: Servers, among: list[OneServer], count: int) -> None:
    """Waits until the leader of these counts a session for each worker, and all are Ready."""

    def counted() -> bool:
        seen = running.leader(among=among).status()["workers"]
        return (seen["connected"], seen["Ready"]) == (count, count)

    eventually(counted, within=60, what=f"{count} workers are connected and Ready")


@pytest.mark.parametrize("seconds", [20, pytest.param(120, marks=pytest.mark.slow)])
def test_cuts_that_come_and_go_cost_no_acknowledged_write(
    tmp_path: Path, network: Network, seconds: int
):
    with servers(tmp_path, SERVERS, network) as running:
        trails = [Trail(server) for server in running.all]
        with WriteLoad(running, writers=WRITERS, pause=PAUSE) as load:
            load.ledger.wait_count(STEADY, within=60)
            until = now() + seconds
            for server in itertools.cycle(running.all):
                if now() > until:
                    break
                # As long as an election, and longer, so that some end in the middle of one.
                network.split([server.node_id], ids(running.others(server)))
                load.go_on(FLAP * server.node_id)
                network.heal()
                load.go_on(FLAP)
            running.leader()
            load.ledger.first_sent_after(now(), within=60)
        check_all(running, trails, load)


def write(server: OneServer, name: str) -> int:
    """Makes a token there; returns the answer's status."""
    with server.new_client(30) as client:
        return client.post(TOKENS, json={"name": name, "ttl_secs": 3600}).status_code


def read(server: OneServer, path: str) -> int:
    """Reads there, linearizable; returns the answer's status."""
    with server.new_client(30) as client:
        return client.get(path, params={"consistency": LINEARIZABLE}).status_code


def ids(some: list[OneServer]) -> list[int]:
    return [server.node_id for server in some]


def check_all(running: Servers, trails: list[Trail], load: WriteLoad) -> None:
    """Checks, once the load has ended, that all servers hold one history with all acknowledged."""
    running.settle()
    check_trails(trails, load.ledger)
    check_tokens(running.all, load.ledger)
    assert load.reads > 0, "nothing was read that could have been old"
