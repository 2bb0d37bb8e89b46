"""`zlayerd node`: what it prints in each form, and what it changes."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.unit.cli.book import node_view
from tests.unit.cli.fake_cluster import FakeCluster
from tests.unit.cli.running import Zlayerd
from zlayer_native.cli import nodes
from zlayer_native.cli.node import State


@pytest.fixture(autouse=True)
def three_nodes(cluster: FakeCluster) -> None:
    cluster.book.add_node(1000, "w00", labels={"gpu": "a100", "zone": "eu-1"})
    cluster.book.add_node(1001, "w01", "Suspect", reason="connection_lost", labels={"gpu": "h100"})
    cluster.book.add_node(
        1002,
        "w02",
        "Unreachable",
        reason="lease_expired",
        address=None,
        next_beat_in_ms=None,
        lease_remaining_ms=None,
        last_beat_ago_ms=None,
        resources=None,
    )


def test_a_list_is_aligned_columns_in_a_pipe(zlayerd: Zlayerd) -> None:
    header, first, second, third = zlayerd("node", "ls").rows
    assert header == ["ID", "NAME", "STATE", "REASON", "SINCE", "LAST BEAT", "TTL", "LABELS"]
    assert first[:4] == ["1000", "w00", "Ready", "session_opened"]
    assert first[4:] == ["12s ago", "1s ago", "10s", "gpu=a100,zone=eu-1"]
    assert second[1:4] == ["w01", "Suspect", "connection_lost"]
    assert third[1:6] == ["w02", "Unreachable", "lease_expired", "12s ago", "-"]


def test_columns_start_at_the_same_place_in_every_line(zlayerd: Zlayerd) -> None:
    lines = zlayerd("node", "ls").out.splitlines()
    at = lines[0].index("STATE")
    assert [line[at - 1 :].split()[0] for line in lines] == [
        "STATE", "Ready", "Suspect", "Unreachable",
    ]  # fmt: skip
    assert all(line[at - 2 : at] == "  " for line in lines)


def test_wide_says_more_and_cuts_nothing(zlayerd: Zlayerd, cluster: FakeCluster) -> None:
    cluster.book.add_node(1003, "n" * 63, labels={f"key-{i}": "v" * 63 for i in range(32)})
    out = zlayerd("node", "ls", "-o", "wide").out
    assert "n" * 63 in out
    assert out.count("v" * 63) == 32
    assert "127.0.0.1:50000" in out
    assert "ab" * 16 in out
    assert len(out.splitlines()) == 5


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_documents_are_the_apis_own(zlayerd: Zlayerd, cluster: FakeCluster, form: str) -> None:
    read = {"json": json.loads, "yaml": yaml.safe_load}[form]
    assert read(zlayerd("node", "ls", "-o", form).out) == {
        "items": list(cluster.book.nodes.values()),
        "revision": 0,
    }
    assert read(zlayerd("node", "inspect", 1000, "-o", form).out) == cluster.book.nodes[1000]


def test_names_are_ids_one_a_line(zlayerd: Zlayerd) -> None:
    assert zlayerd("node", "ls", "-o", "name").out == "1000\n1001\n1002\n"


def test_lists_can_be_narrowed(zlayerd: Zlayerd) -> None:
    def ids(*args: object) -> list[str]:
        return zlayerd("node", "ls", "-o", "name", *args).out.split()

    assert ids("-l", "gpu=a100") == ["1000"]
    assert ids("--label", "gpu=a100", "-l", "zone=us-1") == []
    assert ids("--status", "suspect") == ["1001"]
    assert ids("--status", "Left") == []
    assert ids("--limit", 2) == ["1000", "1001"]


def test_every_state_of_the_api_can_be_asked_for() -> None:
    from zlayer_native.api.nodes import STATES

    assert tuple(state.value for state in State) == STATES


def test_an_empty_list_has_its_header_and_a_remark(zlayerd: Zlayerd) -> None:
    done = zlayerd("node", "ls", "--status", "left")
    assert done.out.startswith("ID ")
    assert done.err == "no nodes\n"


def test_all_pages_are_read(
    zlayerd: Zlayerd, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "PAGE_MAX", 2)
    for node_id in (1003, 1010, 5000):
        cluster.book.add_node(node_id, f"w{node_id}")
    page = json.loads(zlayerd("node", "ls", "-o", "json").out)
    assert [item["id"] for item in page["items"]] == [1000, 1001, 1002, 1003, 1010, 5000]
    limited = zlayerd("node", "ls", "-o", "name", "--limit", 3).out.split()
    assert limited == ["1000", "1001", "1002"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["-l", "gpu"], "'gpu' is not key=value"),
        (["-l", "a=1", "-l", "a=2"], "a is given twice"),
        (["--status", "dead"], "'dead' is not one of"),
        (["--limit", "0"], "greater than or equal to 1"),
        (["-o", "xml"], "'xml' is not one of"),
    ],
)
def test_wrong_usage_exits_2(zlayerd: Zlayerd, args: list[str], says: str) -> None:
    assert says in zlayerd("node", "ls", *args, code=2).err


def test_what_the_api_refuses_is_told_with_its_reason(zlayerd: Zlayerd) -> None:
    assert "label: expected 1" in zlayerd("node", "ls", "-l", "GPU=x", code=1).err


def test_inspect_says_what_is_known(zlayerd: Zlayerd) -> None:
    facts = dict(zlayerd("node", "inspect", 1000).rows)
    assert facts["state"] == "Ready"
    assert facts["since"].startswith("12s ago (20")
    assert facts["last beat"] == "1s ago"
    assert facts["lease left"] == "18s"
    assert facts["cpu"] == "1.50 of 8 cores"
    assert facts["memory"] == "3.0GiB of 16.0GiB"
    assert facts["incarnation"] == "18446744073709551615"
    silent = dict(zlayerd("node", "inspect", 1002).rows)
    assert (silent["address"], silent["last beat"], silent["cpu"]) == ("-", "-", "8 cores")


def test_a_name_is_as_good_as_an_id_while_one_node_has_it(
    zlayerd: Zlayerd, cluster: FakeCluster
) -> None:
    assert dict(zlayerd("node", "inspect", "w01").rows)["id"] == "1001"
    cluster.book.add_node(1007, "w01")
    done = zlayerd("node", "inspect", "w01", code=1)
    assert "2 nodes are named w01: 1001 (Suspect), 1007 (Ready)" in done.err
    assert "hint: give the id" in done.err


def test_digits_are_an_id_even_where_a_node_has_them_for_a_name(
    zlayerd: Zlayerd, cluster: FakeCluster
) -> None:
    cluster.book.add_node(1009, "1000")
    assert dict(zlayerd("node", "inspect", "1000").rows)["name"] == "w00"


@pytest.mark.parametrize("wanted", ["77", "nobody", "../tokens", "1e3", "-1", "²", "9" * 40])
@pytest.mark.parametrize("verb", ["inspect", "drain", "undrain"])
def test_a_node_that_is_not_there_exits_4(zlayerd: Zlayerd, verb: str, wanted: str) -> None:
    done = zlayerd("node", verb, "--", wanted, code=4)
    assert "no node" in done.err or "no such node" in done.err


def test_drain_and_undrain(zlayerd: Zlayerd, cluster: FakeCluster) -> None:
    assert zlayerd("node", "drain", 1000).out == "draining 1000 (w00)\n"
    assert cluster.book.nodes[1000]["draining"] is True
    done = zlayerd("node", "undrain", "w00", "-o", "json")
    assert json.loads(done.out) == {"id": 1000, "draining": False}
    assert cluster.book.nodes[1000]["draining"] is False


def test_remove_needs_a_yes_where_nobody_can_be_asked(
    zlayerd: Zlayerd, cluster: FakeCluster
) -> None:
    assert "it needs --yes" in zlayerd("node", "remove", 1000, stdin="y\n", code=2).err
    assert 1000 in cluster.book.nodes


def test_remove(zlayerd: Zlayerd, cluster: FakeCluster) -> None:
    assert zlayerd("node", "remove", 1000, "--yes").out == "removed 1000 (w00)\n"
    assert list(cluster.book.nodes) == [1001, 1002]
    done = zlayerd("node", "remove", "w01", "-y", "-o", "json")
    assert json.loads(done.out) == {"id": 1001, "removed": True}
    assert "hint: list the nodes" in zlayerd("node", "remove", 1000, "--yes", code=4).err


def test_views_have_the_fields_that_the_core_gives() -> None:
    """The fake's shape is that of `views.rs`; a cluster test runs the verbs against the core."""
    from pathlib import Path

    source = (Path(__file__).parents[3] / "rust/zlayer-node/src/server/views.rs").read_text()
    body = source.partition("struct NodeView {")[2].partition("}")[0]
    fields = [line.split(":")[0].strip() for line in body.splitlines() if ": " in line]
    assert [name for name in fields if not name.startswith("//")] == list(node_view(1, "w"))
