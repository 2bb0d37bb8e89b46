"""The four modes: every field with its default, and every check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.config.documents import (
    LEAST,
    RAFT,
    SERVER,
    STATIC,
    WORKER,
    bent,
    check_manners,
    load_document,
    refused_document,
)
from zlayer_native import AdaptiveTtlConfig
from zlayer_native.config import (
    ClusterConfig,
    RaftConfig,
    RaftPeer,
    ServerPeer,
    SingleNodeConfig,
    StaticConfig,
    StaticPeer,
    WorkerLimits,
    WorkerTierConfig,
    WorkerTierServerConfig,
    WorkerTierWorkerConfig,
)
from zlayer_native.errors import ConfigError

_RAFT_PEERS = [(n, f"10.0.0.{n}:3671", f"10.0.0.{n}:3669") for n in (1, 2, 3)]
_SHARED = {
    "heartbeat_min_ttl": 10,
    "heartbeat_max_ttl": 600,
    "heartbeat_grace": 10,
    "max_heartbeats_per_second": 50,
    "failover_heartbeat_ttl": 300,
    "labels": {},
}

#: The contract of design.md, section 2, by the least document of each mode.
FIELDS: dict[str, tuple[type[ClusterConfig], dict[str, Any]]] = {
    "single-node": (SingleNodeConfig, {"mode": "single-node"}),
    "raft": (
        RaftConfig,
        {
            "mode": "raft",
            "node_id": 1,
            "peers": tuple(RaftPeer(id=n, raft_addr=r, api_addr=a) for n, r, a in _RAFT_PEERS),
            "raft_bind": None,
        },
    ),
    "static": (
        StaticConfig,
        {
            "mode": "static",
            "node_id": 2,
            "peers": tuple(
                StaticPeer(id=n, api_addr=f"10.0.0.{n}:3669", os="linux", labels={}) for n in (1, 2)
            ),
            "heartbeat_interval": 5,
            "failure_threshold": 15,
        },
    ),
    "server": (
        WorkerTierServerConfig,
        {
            **_SHARED,
            "mode": "worker-tier",
            "role": "server",
            "node_id": 1,
            "peers": tuple(ServerPeer(id=n, raft_addr=r, api_addr=a) for n, r, a in _RAFT_PEERS),
            "raft_bind": None,
            "worker_grpc_addr": "0.0.0.0:3670",
            "worker_advertise": None,
            "worker_limits": WorkerLimits(
                connections_max=20_000,
                connections_per_source_max=16_000,
                beats_per_second_per_worker=10,
                bytes_per_second_per_worker=65_536,
            ),
            "worker_ca_dir": Path("/srv/zl/cluster"),
        },
    ),
    "worker": (
        WorkerTierWorkerConfig,
        {
            **_SHARED,
            "mode": "worker-tier",
            "role": "worker",
            "servers": ("10.0.0.1:3670",),
            "token_file": None,
            "identity_dir": Path("/srv/zl/worker/identity"),
        },
    ),
}


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_has_the_default_of_the_contract(tmp_path: Path, name: str) -> None:
    cls, fields = FIELDS[name]
    config = load_document(tmp_path, {"data_dir": "/srv/zl", "cluster": LEAST[name]})
    assert type(config.cluster) is cls
    assert dict(config.cluster) == fields


def test_no_mode_is_a_single_node(tmp_path: Path) -> None:
    assert load_document(tmp_path, {}).cluster == SingleNodeConfig()
    assert load_document(tmp_path, {"cluster": {}}).cluster == SingleNodeConfig()
    assert ClusterConfig.parse({}) == SingleNodeConfig()


@pytest.mark.parametrize("name", FIELDS)
def test_a_block_alone_parses_to_what_its_class_makes(name: str) -> None:
    cls, _ = FIELDS[name]
    parsed = ClusterConfig.parse(LEAST[name])
    assert type(parsed) is cls
    assert parsed == cls(**LEAST[name])
    assert ClusterConfig.parse(dict(parsed)) == parsed


@pytest.mark.parametrize("name", FIELDS)
def test_helpers_of_the_union(name: str) -> None:
    cluster = ClusterConfig.parse(LEAST[name])
    assert cluster.is_worker_tier_server() is (name == "server")
    assert cluster.is_worker_tier_worker() is (name == "worker")
    ttl = cluster.adaptive_ttl_config()
    assert ttl == (AdaptiveTtlConfig() if name in ("server", "worker") else None)


def test_the_ttl_is_made_of_the_five_fields() -> None:
    cluster = ClusterConfig.parse(
        bent(
            SERVER,
            heartbeat_min_ttl=11,
            heartbeat_max_ttl="10m1s",
            heartbeat_grace=0,
            max_heartbeats_per_second=51,
            failover_heartbeat_ttl="5m",
        )
    )
    assert cluster.adaptive_ttl_config() == AdaptiveTtlConfig(11, 601, 0, 51, 300)


def test_the_base_of_the_modes_is_none_itself() -> None:
    with pytest.raises(TypeError, match="parse, load or a mode"):
        ClusterConfig()


@pytest.mark.parametrize("name", ["server", "worker"])
def test_folders_that_nobody_set_lie_below_the_data_dir(tmp_path: Path, name: str) -> None:
    field, rest = {
        "server": ("worker_ca_dir", "cluster"),
        "worker": ("identity_dir", "worker/identity"),
    }[name]
    document = {"data_dir": "/srv/zl", "cluster": LEAST[name]}
    assert getattr(load_document(tmp_path, document).cluster, field) == Path("/srv/zl") / rest

    document = {"data_dir": "/srv/zl", "cluster": bent(LEAST[name], **{field: "/etc/x"})}
    cluster = load_document(tmp_path, document).cluster
    assert getattr(cluster, field) == Path("/etc/x")
    assert cluster.below(Path("/elsewhere")) == cluster

    once = ClusterConfig.parse(LEAST[name]).below(Path("/a"))
    assert getattr(once, field) == Path("/a") / rest
    assert getattr(once.below(Path("/b")), field) == Path("/b") / rest


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("srv-1:3670", "srv-1:3670"),
        ("SRV-1.Example.com:03670", "srv-1.example.com:3670"),
        ("https://srv-1:3670", "srv-1:3670"),
        ("http://srv-1:3670/", "srv-1:3670"),
        ("[FD00:0::1]:3670", "[fd00::1]:3670"),
    ],
)
def test_servers_are_host_and_port_whatever_the_scheme(text: str, address: str) -> None:
    cluster = ClusterConfig.parse(bent(WORKER, servers=[text]))
    assert isinstance(cluster, WorkerTierWorkerConfig)
    assert cluster.servers == (address,)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(7, 7), ("7", 7), ("7s", 7), ("2m", 120), ("1h", 3600), ("1h1m1s", 3661), ("1d", 86400)],
)
def test_durations_are_whole_seconds(given: object, seconds: int) -> None:
    cluster = ClusterConfig.parse(bent(WORKER, heartbeat_max_ttl=300_000, heartbeat_grace=given))
    assert isinstance(cluster, WorkerTierConfig)
    assert cluster.heartbeat_grace == seconds


def _peer(n: int, **changes: Any) -> dict[str, Any]:
    return bent(RAFT["peers"][n - 1], **changes)


#: Least document, what is changed, and the lines of the report without their places.
CHECKS: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    # Modes and roles.
    ({}, {"mode": "worker_tier"}, ["mode: got 'worker_tier', did you mean worker-tier? (expected"]),
    ({}, {"mode": "cloud"}, ["mode: got 'cloud' (expected one of single-node, raft, static, work"]),
    ({}, {"mode": None}, ["mode: got null (expected one of"]),
    ({}, {"mode": 3}, ["mode: got 3 (expected one of"]),
    (WORKER, {"role": ...}, ["role: missing (expected one of server, worker)"]),
    (WORKER, {"role": "workr"}, ["role: got 'workr', did you mean worker? (expected one of"]),
    ({}, {"node_id": 1}, ["node_id: unknown key here, it belongs to mode raft and to mode static"]),
    (
        WORKER,
        {"peers": []},
        ["peers: unknown key here, it belongs to mode raft and to mode static"],
    ),
    (RAFT, {"labels": {}}, ["labels: unknown key here, it belongs to mode worker-tier, role serv"]),
    (RAFT, {"data_dir": "/x"}, ["data_dir: unknown key here, it belongs to the top of the docum"]),
    # What a mode needs.
    (RAFT, {"node_id": ...}, ["node_id: missing (expected a value, mode raft needs it)"]),
    (STATIC, {"peers": ...}, ["peers: missing (expected a value, mode static needs it)"]),
    (SERVER, {"node_id": ..., "peers": ...}, ["node_id: missing (exp", "peers: missing (exp"]),
    (WORKER, {"servers": ...}, ["servers: missing (expected a value, mode worker-tier, role work"]),
    (WORKER, {"servers": []}, ["servers: 0 servers (expected 1..64 of host:port)"]),
    (WORKER, {"servers": "a:1"}, ["servers: got 'a:1' (expected a list)"]),
    (WORKER, {"servers": ["a:1", "b:1", "A:1"]}, ["servers[2]: a:1 is listed twice (expected e"]),
    (WORKER, {"servers": [f"a{n}:1" for n in range(65)]}, ["servers: 65 servers (expected 1..64"]),
    # Peers.
    (RAFT, {"peers": []}, ["peers: 0 peers (expected 1..99)"]),
    (RAFT, {"peers": {}}, ["peers: got a map (expected a list)"]),
    (RAFT, {"peers": [1]}, ["peers[0]: got 1 (expected a block of keys)"]),
    (RAFT, {"node_id": 9}, ["peers: no peer has this node's id 9 (expected 9 among 1, 2, 3)"]),
    (
        RAFT,
        {"peers": [_peer(1), _peer(2), _peer(3, id=2)]},
        ["peers[2].id: two peers have the id 2 (expected one each)"],
    ),
    (
        RAFT,
        {"peers": [_peer(1), _peer(2, raft_addr="10.0.0.1:3671"), _peer(3)]},
        ["peers[1].raft_addr: two peers have the raft_addr '10.0.0.1:3671' (expected one each)"],
    ),
    (
        STATIC,
        {"peers": [{"id": 1, "api_addr": "[::1]:1"}, {"id": 2, "api_addr": "[0::1]:1"}]},
        ["peers[1].api_addr: two peers have the api_addr '[::1]:1' (expected one each)"],
    ),
    (
        RAFT,
        {"peers": [_peer(1, api_addr="10.0.0.1:3671"), _peer(2), _peer(3)]},
        ["peers[0].api_addr: the same address as raft_addr (expected a port for each)"],
    ),
    (
        RAFT,
        {"peers": [_peer(1), _peer(2, raft_addr=...), _peer(3, zone="x")]},
        [
            "peers[1].raft_addr: missing (expected a value, a peer needs it)",
            "peers[2].zone: unknown key (expected one of id,",
        ],
    ),
    (SERVER, {"peers": [_peer(1), _peer(2)]}, ["peers: 2 servers stop when one of them does ("]),
    (SERVER, {"peers": [_peer(1)] * 8}, ["peers: 8 peers (expected 1..7)"]),
    (SERVER, {"node_id": 1000}, ["node_id: 1000 is out of range (expected an integer in 1..999)"]),
    (
        STATIC,
        {"peers": [{"id": 0, "api_addr": "a:1"}]},
        ["peers: no peer", "peers[0].id: 0 is out"],
    ),
    # Addresses.
    (SERVER, {"worker_grpc_addr": "3670"}, ["worker_grpc_addr: '3670' is not an address: the por"]),
    (SERVER, {"worker_grpc_addr": ":3670"}, ["worker_grpc_addr: ':3670' is not an address: the h"]),
    (SERVER, {"worker_grpc_addr": "a:99999"}, ["worker_grpc_addr: 'a:99999' is not an address: "]),
    (SERVER, {"worker_grpc_addr": "fd00::1:1"}, ["worker_grpc_addr: 'fd00::1:1' is not an addre"]),
    (SERVER, {"worker_limits": {"connections_max": 0}}, ["worker_limits.connections_max: 0 is ou"]),
    (SERVER, {"worker_limits": {"beats": 1}}, ["worker_limits.beats: unknown key"]),
    (SERVER, {"worker_advertise": "0.0.0.0:1"}, ["worker_advertise: '0.0.0.0:1' is not an addre"]),
    (SERVER, {"worker_advertise": "a:0"}, ["worker_advertise: 'a:0' is not an address: port 0 "]),
    (WORKER, {"servers": ["u:p@h:1"]}, ["servers[0]: it is not an address: a user name does not"]),
    (WORKER, {"servers": ["ftp://h:1"]}, ["servers[0]: 'ftp://h:1' is not an address: a scheme "]),
    (WORKER, {"servers": ["10.0.0.999:1"]}, ["servers[0]: '10.0.0.999:1' is not an address: not"]),
    (WORKER, {"servers": ["a b:1"]}, ["servers[0]: 'a b:1' is not an address: not a host name ("]),
    # Durations and rates.
    (
        WORKER,
        {"heartbeat_min_ttl": 20, "heartbeat_max_ttl": 15},
        ["heartbeat_max_ttl: 15 s is below heartbeat_min_ttl (20 s) (expected at least 20"],
    ),
    (WORKER, {"heartbeat_min_ttl": 700}, ["heartbeat_max_ttl: 600 s is below heartbeat_min_ttl"]),
    (WORKER, {"heartbeat_min_ttl": 0}, ["heartbeat_min_ttl: 0 is out of range (expected 1..25920"]),
    (WORKER, {"heartbeat_grace": -1}, ["heartbeat_grace: a duration can't be negative: -1 (exp"]),
    (WORKER, {"heartbeat_grace": 1.5}, ["heartbeat_grace: a float is not a duration: 1.5 (a flo"]),
    (WORKER, {"heartbeat_grace": True}, ["heartbeat_grace: a boolean is not a duration: true ("]),
    (WORKER, {"heartbeat_grace": "10 s"}, ["heartbeat_grace: not a duration: '10 s' (expected wh"]),
    (WORKER, {"heartbeat_grace": "1s1m"}, ["heartbeat_grace: not a duration: '1s1m' (expected wh"]),
    (WORKER, {"heartbeat_grace": 10**30}, ["heartbeat_grace: 1000000000000000000000000000000 is "]),
    (WORKER, {"max_heartbeats_per_second": -1}, ["max_heartbeats_per_second: -1 is out of range"]),
    (WORKER, {"max_heartbeats_per_second": "50"}, ["max_heartbeats_per_second: got '50' (expect"]),
    (STATIC, {"failure_threshold": 5}, ["failure_threshold: 5 s is not above heartbeat_interval "]),
    # Labels, names and paths.
    (WORKER, {"labels": {"Zone": "a"}}, ["labels.Zone: not a label's key (expected 1-63 of a-z"]),
    (WORKER, {"labels": {"zone": "A"}}, ["labels.zone: 'A' is not a label's value (expected 1-6"]),
    (WORKER, {"labels": {"zone": 1}}, ["labels.zone: got 1, a label's value is text (expected 1"]),
    (WORKER, {"labels": {"zlayer.io/x": "a"}}, ['labels."zlayer.io/x": the prefix zlayer.io/ is']),
    (WORKER, {"labels": ["a"]}, ["labels: got a list (expected a map of label to value)"]),
    (WORKER, {"labels": {f"k{n}": "a" for n in range(33)}}, ["labels: 33 labels (expected at mo"]),
    (
        STATIC,
        {"peers": [{"id": 2, "api_addr": "a:1", "os": "Linux", "labels": {"a": ""}}]},
        ["peers[0].labels.a: '' is not a label's value", "peers[0].os: 'Linux' is not a name (exp"],
    ),
    (WORKER, {"token_file": ""}, ["token_file: an empty or endless path (expected 1..4096 bytes"]),
    (WORKER, {"token_file": "a\0b"}, ["token_file: 'a\\x00b' holds characters that no path sho"]),
    (WORKER, {"token_file": "\u202eetc"}, ["token_file: '\\u202eetc' holds characters that no p"]),
    (WORKER, {"identity_dir": None}, ["identity_dir: got null (expected a path)"]),
    (
        WORKER,
        {"identity_dir": "~no-such-user-/x"},
        ["identity_dir: '~no-such-user-/x': there is n"],
    ),
]


@pytest.mark.parametrize(("least", "changes", "lines"), CHECKS)
def test_every_check_names_key_problem_and_expectation(
    least: dict[str, Any], changes: dict[str, Any], lines: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        ClusterConfig.parse(bent(least, **changes))
    check_manners(caught.value)
    found = sorted(caught.value.problems)
    assert len(found) == len(lines), found
    for line, start in zip(found, sorted(lines), strict=True):
        assert line.startswith(start), line


@pytest.mark.parametrize("block", [None, 5, "raft", [], [RAFT], True])
def test_a_cluster_that_is_no_block_is_refused(tmp_path: Path, block: object) -> None:
    if block is None:  # All of its keys may be comments.
        assert load_document(tmp_path, {"cluster": block}).cluster == SingleNodeConfig()
        return
    (line,) = refused_document(tmp_path, {"cluster": block})
    assert line.startswith("zlayerd.json:2: cluster: got ")
    assert line.endswith("(expected a block of keys)")


def test_a_mode_made_by_hand_fails_with_our_error() -> None:
    with pytest.raises(ConfigError) as caught:
        WorkerTierWorkerConfig(servers=["x"], heartbeat_mn_ttl=1)  # type: ignore[call-arg,arg-type]
    assert len(caught.value.problems) == 2
    assert "did you mean heartbeat_min_ttl?" in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_a_value_can_not_be_changed() -> None:
    cluster = WorkerTierWorkerConfig(servers=("a:1",), labels={"a": "b"})
    with pytest.raises(ValueError, match="frozen"):
        cluster.heartbeat_grace = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        cluster.labels["a"] = "c"  # type: ignore[index]
    with pytest.raises(AttributeError):
        cluster.labels._items = {}
    assert cluster.labels == {"a": "b"}
