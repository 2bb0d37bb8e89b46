"""`zlayerd status`, and when `--check` says that something is wrong."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.unit.cli.book import server_view
from tests.unit.cli.fake_cluster import FakeCluster
from tests.unit.cli.running import Zlayerd


def test_at_a_glance(zlayerd: Zlayerd, cluster: FakeCluster) -> None:
    cluster.book.add_node(1000, "w00")
    cluster.book.add_node(1001, "w01", "Draining")
    facts = dict(zlayerd("status").rows)
    assert facts["health"] == "well"
    assert facts["server"] == "1 (leader, term 3), version 0.1.0, up 2h5m"
    assert facts["workers"] == "2, 2 connected"
    assert facts["states"] == "1 Ready, 1 Draining"
    assert facts["heartbeats"] == "2/s, at most 50/s"
    assert facts["servers"] == "1 of 1 answer, 1 needed; server 1 leads"
    assert facts["commit"] == "p50 0.4ms, p99 1.2ms"
    assert facts["fsync"] == "p50 0.3ms, p99 0.9ms"


def test_a_quorum_at_a_glance(zlayerd: Zlayerd, cluster: FakeCluster) -> None:
    servers = cluster.book.servers
    servers["items"] = [
        server_view(1, 90),
        server_view(2, None),
        server_view(3, 2500),
        server_view(4, 10, voter=False),
    ]
    servers["leader"] = 2
    done = zlayerd("status", "--check", code=3)
    said = "2 of 3 answer, 2 needed; server 2 leads, 1 learning"
    assert dict(done.rows)["servers"] == said
    assert done.err == "degraded: server 3 does not answer\n"
    servers["leader"] = None
    done = zlayerd("status", "--check", code=3)
    assert dict(done.rows)["servers"] == "none of 3 leads: 2 have to answer each other"
    assert done.err == "degraded: no server leads\n"


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_documents_are_the_apis_own(zlayerd: Zlayerd, cluster: FakeCluster, form: str) -> None:
    read = {"json": json.loads, "yaml": yaml.safe_load}[form]
    whole = {**cluster.book.status(), "servers": cluster.book.servers}
    assert read(zlayerd("status", "-o", form).out) == whole


@pytest.mark.parametrize("state", ["Ready", "Draining", "Left"])
def test_check_is_content(zlayerd: Zlayerd, cluster: FakeCluster, state: str) -> None:
    cluster.book.add_node(1000, "w00", state)
    assert zlayerd("status", "--check").err == ""


@pytest.mark.parametrize("state", ["Suspect", "Unreachable"])
def test_check_exits_3_for_a_node_that_is_not_well(
    zlayerd: Zlayerd, cluster: FakeCluster, state: str
) -> None:
    cluster.book.add_node(1000, "w00", state)
    done = zlayerd("status", "--check", "-o", "json", code=3)
    assert done.err == f"degraded: 1 {state}\n"
    assert json.loads(done.out)["workers"][state] == 1
    assert dict(zlayerd("status").rows)["health"] == f"1 {state}"


def test_check_exits_3_while_expiry_is_held(zlayerd: Zlayerd, cluster: FakeCluster) -> None:
    cluster.book.expiry_held = True
    assert "expiry is held" in zlayerd("status", "--check", code=3).err


def test_check_exits_3_while_the_server_is_not_ready(
    zlayerd: Zlayerd, cluster: FakeCluster
) -> None:
    cluster.book.is_ready = False
    assert zlayerd("status", "--check", code=3).err == "degraded: the server is not ready\n"


def test_check_exits_6_when_nothing_answers(zlayerd: Zlayerd, cluster: FakeCluster) -> None:
    cluster.stop()
    done = zlayerd("status", "--check", code=6)
    assert "connection refused" in done.err
    assert "hint: is `zlayerd server` running there?" in done.err
