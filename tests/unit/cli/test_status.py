"""`zlayerd status`, and when `--check` says that something is wrong."""

from __future__ import annotations

import json

import pytest
import yaml

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
    assert facts["fsync"] == "p50 0.3ms, p99 0.9ms"


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_documents_are_the_apis_own(zlayerd: Zlayerd, cluster: FakeCluster, form: str) -> None:
    read = {"json": json.loads, "yaml": yaml.safe_load}[form]
    assert read(zlayerd("status", "-o", form).out) == cluster.book.status()


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
