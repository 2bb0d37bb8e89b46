"""`zlayerd raft`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.book import server_view
from tests.unit.cli.fake_cluster import FakeCluster
from tests.unit.cli.running import Zlayerd
from zlayer_native.errors import NoLeader, ServersUnchanged


def test_peers_are_listed_with_who_leads(zlayerd: Zlayerd, cluster: FakeCluster) -> None:
    cluster.book.servers["items"] = [
        server_view(1, None),
        server_view(2, 90),
        server_view(3, 4000, lag=12, refused="server 3 has not the disk that it joined with"),
        server_view(4, 20, voter=False),
    ]
    rows = zlayerd("raft", "peers").rows
    assert rows[0] == ["ID", "ROLE", "RAFT", "API", "HEARD", "LAG", "NOTE"]
    assert [row[:2] for row in rows[1:]] == [
        ["1", "leader"], ["2", "voter"], ["3", "voter"], ["4", "learner"],
    ]  # fmt: skip
    assert rows[3][4:] == ["4s ago", "12", "server 3 has not the disk that it joined with"]
    assert json.loads(zlayerd("raft", "peers", "-o", "json").out) == cluster.book.servers
    assert zlayerd("raft", "peers", "-o", "name").out == "1\n2\n3\n4\n"


def test_without_a_leader_the_list_says_so(zlayerd: Zlayerd, cluster: FakeCluster) -> None:
    cluster.book.refusal = NoLeader("no server leads just now")
    assert "no server leads" in zlayerd("raft", "peers").err


def test_a_server_is_added(zlayerd: Zlayerd, cluster: FakeCluster) -> None:
    args = ["raft", "add", "4", "--raft", "10.0.0.4:3671", "--api", "10.0.0.4:3669"]
    assert zlayerd(*args).out == "server 4 votes\n"
    member = {"id": 4, "raft_addr": "10.0.0.4:3671", "api_addr": "10.0.0.4:3669"}
    assert cluster.book.asked == [{"add": member}, {"promote": {"ids": [4]}}]
    assert zlayerd(*args, "--learner").out == "server 4 gets the log\n"
    assert cluster.book.asked[2:] == [{"add": member}]


def test_a_server_is_removed_when_that_is_meant(zlayerd: Zlayerd, cluster: FakeCluster) -> None:
    assert "needs --yes" in zlayerd("raft", "remove", "3", code=2).err
    assert cluster.book.asked == []
    assert zlayerd("raft", "remove", "3", "-y").out == "removed server 3\n"
    assert cluster.book.asked == [{"remove": {"id": 3}}]


def test_leadership_is_handed_over(zlayerd: Zlayerd, cluster: FakeCluster) -> None:
    assert zlayerd("raft", "transfer-leadership", "--to", "2").out == "server 2 leads\n"
    assert cluster.book.asked == [{"transfer": {"to": 2}}]


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (ServersUnchanged("server 9 is not a member", code="not_member"), 1, "not a member"),
        (NoLeader("no server leads just now"), 6, "no server leads"),
    ],
)
def test_why_not_is_said(
    zlayerd: Zlayerd, cluster: FakeCluster, error: Exception, code: int, says: str
) -> None:
    cluster.book.refusal = error
    assert says in zlayerd("raft", "remove", "9", "-y", code=code).err


def test_a_backup_replaces_nothing(zlayerd: Zlayerd, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    file.write_text("mine")
    assert "is there already" in zlayerd("raft", "snapshot", "save", file, code=1).err
    assert file.read_text() == "mine"
