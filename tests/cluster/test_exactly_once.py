"""A token's uses are counted once for each key, whoever leads and whoever dies meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.cluster.ledger import LINEARIZABLE, TOKENS
from tests.cluster.registrations import Registrations, lanes, raise_failures
from tests.cluster.results import keep
from tests.cluster.servers import servers

pytestmark = pytest.mark.cluster

USES = 100
#: Machines: some come too late.
KEYS = 130
LANES = 8


@pytest.mark.parametrize(
    ("attempts", "kills"),
    [
        pytest.param(400, 2, marks=pytest.mark.timeout(300), id="share"),
        pytest.param(10_000, 20, marks=[pytest.mark.slow, pytest.mark.timeout(1800)], id="whole"),
    ],
)
async def test_a_token_admits_as_many_machines_as_it_says_whatever_dies(
    tmp_path: Path, attempts: int, kills: int
):
    with servers(tmp_path) as running:
        token = running.token(uses=USES).read_text().strip()
        for server in running.all:  # All of them know it.
            assert len(server.get(TOKENS, consistency=LINEARIZABLE)["items"]) == 1
        machines = Registrations(running.all, token, KEYS)
        # New machines with every kill, so that it meets some, and uses are counted to the end.
        batch = -(-KEYS // (kills + 1))
        machines.release(batch)
        with lanes(machines, LANES) as tasks:
            for step in range(1, kills + 2):
                await answered(machines, tasks, attempts * step // (kills + 1))
                if step <= kills:
                    leader = await asyncio.to_thread(running.leader)
                    machines.release(batch)
                    await asyncio.to_thread(leader.kill)
                    await asyncio.to_thread(running.restart, leader)
        await asyncio.wait(tasks)
        raise_failures(tasks)
        await machines.settle()

        # One id for a key however often it asked, no id for two, and as many as there are uses.
        assert all(len(ids) == 1 for ids in machines.ids.values()), machines.ids
        ids = {node_id for each in machines.ids.values() for node_id in each}
        assert len(machines.ids) == len(ids) == USES
        assert not machines.late & machines.ids.keys(), "refused for good, and let in all the same"
        assert machines.late | machines.ids.keys() == set(range(KEYS))
        for server in running.all:
            (record,) = server.get(TOKENS, consistency=LINEARIZABLE)["items"]
            assert len(record["uses"]) == USES
            nodes = server.get("/api/v1/cluster/nodes", limit=1000, consistency=LINEARIZABLE)
            assert {node["id"] for node in nodes["items"]} == ids
        report = {
            "attempts": machines.attempts,
            "answered": machines.answered,
            "kills": kills,
            "keys": KEYS,
            "uses": USES,
            "ids": len(ids),
            "outcomes": dict(machines.outcomes),
        }
        assert machines.answered >= attempts
        if kills >= 20:
            what = "Register with a token of 100 uses while the leader is killed 20 times"
            keep("exactly-once", what, "tests/cluster/test_exactly_once.py", report)
        print(report)


async def answered(machines: Registrations, tasks: list[asyncio.Task[None]], count: int) -> None:
    """Waits until so many attempts are answered, or a lane fails."""
    waiting = asyncio.ensure_future(machines.wait_answered(count, within=300))
    await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    raise_failures(tasks)
    await waiting
