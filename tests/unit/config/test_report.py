"""One report: every problem of every source, each with its place, in the order of the file."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from tests.unit.config.documents import refused
from zlayer_native.config import ClusterConfig, load_config
from zlayer_native.errors import ConfigError

YAML = """\
# A comment, and a blank line.

nme: srv-1
http:
  bind: 0.0.0.0:3669
  advertise: [1]
log: {level: warn,
      format: jsn}
cluster:
  mode: worker-tier
  role: server
  node_id: 9
  peers:
    - {id: 1, raft_addr: 10.0.0.1:3671, api_addr: 10.0.0.1:3669}
    - id: 1
      raft_addr: 10.0.0.2:3671
    -
      id: x
      raft_addr: 10.0.0.3:3671
      api_addr: 10.0.0.3:3669
  heartbeat_mn_ttl: 15
  heartbeat_max_ttl: 5
  servers: [a:1]
  labels:
    Zone: x
"""

TOML = """\
# A comment, and a blank line.

nme = "srv-1"
http.bind = "0.0.0.0:3669"
http.advertise = [
  1,
]
[log]
level = "warn" # behind
"format" = 'jsn'
[cluster]
mode = "worker-tier"
role = "server"
node_id = 9
heartbeat_mn_ttl = 15
heartbeat_max_ttl = 5
servers = ["a:1"]
[[cluster.peers]]
id = 1
raft_addr = "10.0.0.1:3671"
api_addr = "10.0.0.1:3669"
[[cluster.peers]]
id = 1
raft_addr = "10.0.0.2:3671"
[[cluster.peers]]
id = "x"
raft_addr = "10.0.0.3:3671"
api_addr = "10.0.0.3:3669"
[cluster.labels]
Zone = "x"
"""

JSON = """\
{
 "nme": "srv-1",
 "http": {"bind": "0.0.0.0:3669",
          "advertise": [1]},
 "log": {"level": "warn",
         "format": "jsn"},
 "cluster": {
  "mode": "worker-tier", "role": "server",
  "node_id": 9,
  "peers": [
   {"id": 1, "raft_addr": "10.0.0.1:3671", "api_addr": "10.0.0.1:3669"},
   {"id": 1,
    "raft_addr": "10.0.0.2:3671"},
   {
    "id": "x", "raft_addr": "10.0.0.3:3671", "api_addr": "10.0.0.3:3669"}
  ],
  "heartbeat_mn_ttl": 15,
  "heartbeat_max_ttl": 5,
  "servers": ["a:1"],
  "labels": {"Zone": "x"}
 }
}
"""

#: What is told, and the line of each in YAML, TOML and JSON.
LINES = [
    ("nme: unknown key, did you mean name? (expected a key of the document)", 3, 3, 2),
    ("http.bind: 0.0.0.0 is not loopback, and bearer tokens would cross", 5, 4, 3),
    ("http.advertise: got a list (expected host:port, such as 10.0.0.1:3670", 6, 5, 4),
    ("log.level: got 'warn', did you mean warning? (expected one of debug, ", 7, 9, 5),
    ("log.format: got 'jsn', did you mean json? (expected one of auto, text", 8, 10, 6),
    ("cluster.peers: no peer has this node's id 9 (expected 9 among 1, 1)", 13, 18, 10),
    ("cluster.peers[1].api_addr: missing (expected a value, a peer needs it)", 15, 22, 12),
    ("cluster.peers[1].id: two peers have the id 1 (expected one each)", 15, 23, 12),
    ("cluster.peers[2].id: got 'x' (expected an integer in 1..999)", 18, 26, 15),
    ("cluster.heartbeat_mn_ttl: unknown key, did you mean heartbeat_min_ttl?", 21, 15, 17),
    ("cluster.heartbeat_max_ttl: 5 s is below heartbeat_min_ttl (10 s) (exp", 22, 16, 18),
    ("cluster.servers: unknown key here, it belongs to mode worker-tier, ro", 23, 17, 19),
    ("cluster.labels.Zone: not a label's key (expected 1-63 of a-z 0-9 - _ ", 25, 30, 20),
]


@pytest.mark.parametrize(("column", "name", "text"), [(1, "a.yaml", YAML), (2, "a.toml", TOML),
                                                      (3, "a.json", JSON)])  # fmt: skip
def test_every_problem_with_its_line(tmp_path: Path, column: int, name: str, text: str) -> None:
    found = refused(tmp_path / name, text)
    wanted = sorted((row[column], row[0]) for row in LINES)
    assert len(found) == len(wanted), found
    for (number, told), line in zip(wanted, found, strict=True):
        assert line.startswith(f"{name}:{number}: {told}"), line


def test_all_sources_are_in_one_report_the_file_first(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    found = refused(
        path,
        "name: A\nname: b\nlog: {level: x}\ncluster: {mode: raft, peers: []}\n",
        env={"ZLAYER_HTPP__BIND": "x", "ZLAYER_HTTP__BIND": "x", "ZLAYER_CLUSTER__LABELS": "x"},
        flags={"data_dir": 5},
    )
    assert [line.split(": ")[0] for line in found] == [
        "a.yaml:1",
        "a.yaml:2",
        "a.yaml:3",
        "a.yaml:4",
        "a.yaml:4",
        "ZLAYER_CLUSTER__LABELS",
        "ZLAYER_HTPP__BIND",
        "ZLAYER_HTTP__BIND",
        "flag data_dir",
    ]
    assert "given twice, first in line 1 (expected each key once)" in found[1]


def test_a_contradiction_stands_where_its_other_half_was_written(tmp_path: Path) -> None:
    (line,) = refused(
        tmp_path / "a.yaml",
        "cluster:\n  mode: worker-tier\n  role: worker\n  servers: [a:1]\n"
        "  heartbeat_min_ttl: 700\n",
    )
    assert line.startswith("a.yaml:5: cluster.heartbeat_max_ttl: 600 s is below heartbeat_min_ttl")


def test_the_message_counts_and_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, env={})
    assert str(caught.value).splitlines()[0] == f"{path}: 1 problem"
    path.write_text("a: 1\nb: 1\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, env={})
    assert str(caught.value).splitlines()[0] == f"{path}: 2 problems"
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.problems) == (str(caught.value), caught.value.problems)


def test_more_problems_than_a_person_reads_are_cut(tmp_path: Path) -> None:
    found = refused(tmp_path / "a.yaml", "".join(f"k{n}: 1\n" for n in range(150)))
    assert len(found) == 101
    assert found[0].startswith("a.yaml:1: k0: unknown key")
    assert found[-1] == "… and more"


def test_without_a_file_the_report_has_keys_only() -> None:
    with pytest.raises(ConfigError) as caught:
        ClusterConfig.parse({"mode": "raft", "node_id": "x"})
    assert str(caught.value).splitlines() == [
        "ClusterConfig: 2 problems",
        "node_id: got 'x' (expected an integer in 1..9007199254740991)",
        "peers: missing (expected a value, mode raft needs it)",
    ]


@pytest.mark.parametrize("word", ["heartbeat-min-ttl", "HeartbeatMinTtl", "heartbeat_min_tll"])
def test_near_misses_are_seen_through_case_and_hyphens(word: str) -> None:
    with pytest.raises(ConfigError, match="did you mean heartbeat_min_ttl"):
        ClusterConfig.parse({"mode": "worker-tier", "role": "worker", "servers": ["a:1"], word: 1})


def test_the_problems_that_are_told_are_the_first_ones(tmp_path: Path) -> None:
    unknown = "".join(f"k{n}: 1\n" for n in range(110))
    peers = "".join(f"    - {{id: x{n}, api_addr: h{n}:1}}\n" for n in range(110))
    found = refused(
        tmp_path / "a.yaml",
        f"{unknown}cluster:\n  mode: static\n  node_id: 1\n  peers:\n{peers}",
    )
    assert [line.split(":")[1] for line in found[:100]] == [str(n) for n in range(1, 101)]


def test_a_value_that_was_replaced_is_no_place(tmp_path: Path) -> None:
    (line,) = refused(
        tmp_path / "a.yaml",
        "cluster:\n  mode: static\n  node_id: 1\n  peers:\n    - {id: 1, api_addr: a:1}\n",
        env={"ZLAYER_CLUSTER__PEERS": '[{"id": 1}]'},
    )
    assert line.startswith("ZLAYER_CLUSTER__PEERS: cluster.peers[0].api_addr: missing")
