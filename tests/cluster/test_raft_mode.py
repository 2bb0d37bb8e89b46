"""Mode `raft`: servers that are nodes themselves, and no workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.cluster.harness import eventually
from tests.cluster.servers import PATIENCE, OneServer, Servers


class Voters(Servers):
    """Servers of mode `raft`."""

    def cluster_block(self, server: OneServer) -> dict[str, Any]:
        return {
            "mode": "raft",
            "node_id": server.node_id,
            "peers": [each.peer for each in self.all],
        }


def states(server: OneServer) -> dict[str, str]:
    items = server.get("/api/v1/cluster/nodes")["items"]
    return {item["name"]: item["state"] for item in items}


def test_peers_are_nodes_and_one_that_dies_is_noticed(tmp_path: Path) -> None:
    voters = Voters(tmp_path, 3)
    try:
        leader = voters.form()
        ready = {f"server-{number}": "Ready" for number in (1, 2, 3)}
        eventually(lambda: states(leader) == ready, within=PATIENCE, what="all are Ready")
        refused = leader.cli("token", "create")
        assert refused.returncode == 1
        assert "no workers" in refused.stderr

        gone = voters.follower()
        gone.kill()
        name = f"server-{gone.node_id}"
        eventually(lambda: states(leader)[name] == "Suspect", within=PATIENCE, what="Suspect")
        voters.restart(gone)
        eventually(lambda: states(leader) == ready, within=PATIENCE, what="all are back")

        # The leader's own death is noticed by the next one, and nobody else is taken for dead.
        leader.kill()
        name = f"server-{leader.node_id}"
        next_one = voters.leader()
        eventually(lambda: states(next_one)[name] != "Ready", within=PATIENCE, what="it is missed")
        others = {each: state for each, state in states(next_one).items() if each != name}
        assert set(others.values()) == {"Ready"}
    finally:
        voters.close()


def test_a_single_node_is_its_own_leader(tmp_path: Path) -> None:
    class Alone(Servers):
        def cluster_block(self, server: OneServer) -> dict[str, Any]:
            return {"mode": "single-node"}

    alone = Alone(tmp_path, 1)
    try:
        server = alone.form()
        assert server.status()["role"] == "leader"
        eventually(lambda: states(server) == {"server-1": "Ready"}, within=PATIENCE, what="Ready")
        server.kill()
        alone.restart(server)
        eventually(lambda: states(server) == {"server-1": "Ready"}, within=PATIENCE, what="again")
    finally:
        alone.close()
