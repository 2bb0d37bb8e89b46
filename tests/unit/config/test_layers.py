"""Defaults < implied < file < environment < flags, and where each value says it came from."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.config.documents import SERVER, STATIC, WORKER, bent, check_manners
from zlayer_native.config import (
    ClusterConfig,
    Flag,
    RaftConfig,
    SingleNodeConfig,
    StaticConfig,
    WorkerLimits,
    WorkerTierServerConfig,
    WorkerTierWorkerConfig,
    load_config,
    resolve,
)
from zlayer_native.config.environment import CLIENT_VARIABLES
from zlayer_native.config.keys import kinds
from zlayer_native.errors import ConfigError

IMPLIED = {"cluster.mode": "worker-tier", "cluster.role": "worker"}
GRACE = ("cluster", "heartbeat_grace")


def _file(tmp_path: Path, cluster: dict[str, Any] = WORKER, **document: Any) -> Path:
    path = tmp_path / "zlayerd.json"
    path.write_text(json.dumps({**document, "cluster": cluster}, indent=1))
    return path


def _problems(*args: Any, **layers: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(*args, **{"env": {}, **layers})
    check_manners(caught.value)
    return list(caught.value.problems)


def test_each_layer_is_over_the_one_below(tmp_path: Path) -> None:
    path = _file(tmp_path, bent(WORKER, heartbeat_grace=11))
    env = {"ZLAYER_CLUSTER__HEARTBEAT_GRACE": "12s"}
    flags = {"cluster.heartbeat_grace": "13"}
    layers: list[tuple[dict[str, Any], int, str]] = [
        ({"path": _file(tmp_path / ".."), "env": {}}, 10, "default"),
        ({"path": path, "env": {}}, 11, f"{path}:8"),
        ({"path": path, "env": env}, 12, "ZLAYER_CLUSTER__HEARTBEAT_GRACE"),
        ({"path": path, "env": env, "flags": flags}, 13, "flag cluster.heartbeat_grace"),
        ({"path": path, "env": env, "flags": {"cluster.heartbeat_grace": None}}, 12, "ZLAYER_CLU"),
    ]
    for given, seconds, origin in layers:
        resolved = resolve(**given)
        assert isinstance(resolved.config.cluster, WorkerTierWorkerConfig)
        assert resolved.config.cluster.heartbeat_grace == seconds
        assert str(resolved.origin_of(GRACE)).startswith(origin)
        assert resolved.config == load_config(**given)


def test_without_a_path_the_environment_of_the_process_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ZLAYER_NAME", "from-env")
    assert load_config().name == "from-env"
    assert load_config(env={}).name != "from-env"


@pytest.mark.parametrize("source", ["file", "env", "flag"])
def test_what_is_implied_counts_only_when_nothing_sets_the_mode(
    tmp_path: Path, source: str
) -> None:
    least = {"env": {}, "flags": {"cluster.servers": ["a:1"]}, "implied": IMPLIED}
    assert isinstance(load_config(**least).cluster, WorkerTierWorkerConfig)
    assert str(resolve(**least).origin_of(("cluster", "role"))) == "implied"
    given: dict[str, Any] = {"env": {}, "implied": {**IMPLIED, "cluster.servers": ["a:1"]}}
    if source == "file":
        given["path"] = _file(tmp_path, {"mode": "single-node"})
    elif source == "env":
        given["env"] = {"ZLAYER_CLUSTER__MODE": "single-node"}
    else:
        given["flags"] = {"cluster.mode": "single-node"}
    assert load_config(**given).cluster == SingleNodeConfig()


def test_what_is_implied_is_under_everything_else(tmp_path: Path) -> None:
    implied = {
        "cluster.mode": "worker-tier",
        "cluster.role": "server",
        "cluster.node_id": 7,
        "cluster.peers": [{"id": 7, "raft_addr": "a:1", "api_addr": "a:2"}],
        "log.level": "debug",
    }
    path = _file(tmp_path, {"node_id": 1, "peers": SERVER["peers"]}, log={"level": "error"})
    resolved = resolve(path, env={}, implied=implied)
    assert isinstance(resolved.config.cluster, WorkerTierServerConfig)
    assert resolved.config.cluster.node_id == 1
    assert len(resolved.config.cluster.peers) == 3
    assert resolved.config.log.level == "error"
    assert resolved.origin_of(("cluster", "mode")).kind == "implied"
    assert resolved.origin_of(("cluster", "node_id")).kind == "file"


# --- The environment -----------------------------------------------------------------------------


def test_every_key_of_every_mode_has_a_variable() -> None:
    names = {".".join(map(str, path)) for path in kinds()}
    modes = (SingleNodeConfig, RaftConfig, StaticConfig, WorkerTierServerConfig)
    for cls in (*modes, WorkerTierWorkerConfig):
        assert {f"cluster.{key}" for key in cls.model_fields if key != "worker_limits"} <= names
    assert {f"cluster.worker_limits.{key}" for key in WorkerLimits.model_fields} <= names
    assert not {"cluster", "http", "cluster.worker_limits"} & names
    assert {"name", "data_dir", "http.bind", "http.key_file", "log.level"} <= names


def test_a_whole_worker_from_variables() -> None:
    env = {
        "ZLAYER_NAME": "w-1",
        "ZLAYER_DATA_DIR": "/srv/w",
        "ZLAYER_LOG__LEVEL": "warning",
        "ZLAYER_CLUSTER__MODE": "worker-tier",
        "ZLAYER_CLUSTER__ROLE": "worker",
        "ZLAYER_CLUSTER__SERVERS": "10.0.0.1:3670, 10.0.0.2:3670",
        "ZLAYER_CLUSTER__TOKEN_FILE": "/run/token",
        "ZLAYER_CLUSTER__HEARTBEAT_MIN_TTL": "15s",
        "ZLAYER_CLUSTER__LABELS": "zone=eu-1, gpu=no",
        "PATH": "/bin",
        "XZLAYER_NAME": "x",
        **dict.fromkeys(CLIENT_VARIABLES, "anything"),
    }
    config = load_config(env=env)
    assert (config.name, config.data_dir, config.log.level) == ("w-1", Path("/srv/w"), "warning")
    assert config.cluster == WorkerTierWorkerConfig(
        servers=("10.0.0.1:3670", "10.0.0.2:3670"),
        token_file=Path("/run/token"),
        heartbeat_min_ttl=15,
        labels={"zone": "eu-1", "gpu": "no"},
        identity_dir=Path("/srv/w/worker/identity"),
    )


def test_lists_and_labels_may_be_json_and_peers_must() -> None:
    env = {
        "ZLAYER_CLUSTER__MODE": "static",
        "ZLAYER_CLUSTER__NODE_ID": "2",
        "ZLAYER_CLUSTER__PEERS": json.dumps(STATIC["peers"]),
    }
    assert load_config(env=env).cluster == ClusterConfig.parse(STATIC)
    (line,) = _problems(env={**env, "ZLAYER_CLUSTER__PEERS": "1,2"})
    assert line.startswith("ZLAYER_CLUSTER__PEERS: cluster.peers: ")
    worker = {
        "ZLAYER_CLUSTER__MODE": "worker-tier",
        "ZLAYER_CLUSTER__ROLE": "worker",
        "ZLAYER_CLUSTER__SERVERS": '["a:1", "b:1"]',
        "ZLAYER_CLUSTER__LABELS": '{"zone": "eu-1"}',
    }
    cluster = load_config(env=worker).cluster
    assert cluster == WorkerTierWorkerConfig(servers=("a:1", "b:1"), labels={"zone": "eu-1"})


def test_labels_of_a_variable_are_added_and_lists_replace(tmp_path: Path) -> None:
    path = _file(tmp_path, bent(WORKER, labels={"zone": "eu-1", "disk": "ssd"}))
    env = {"ZLAYER_CLUSTER__LABELS": "zone=eu-2,gpu=a100", "ZLAYER_CLUSTER__SERVERS": "b:1"}
    resolved = resolve(path, env=env, flags={"cluster.labels": {"rack": "7"}})
    assert isinstance(resolved.config.cluster, WorkerTierWorkerConfig)
    labels = {"disk": "ssd", "gpu": "a100", "rack": "7", "zone": "eu-2"}
    assert resolved.config.cluster.labels == labels
    assert resolved.config.cluster.servers == ("b:1",)
    kinds_of = {key: resolved.origin_of(("cluster", "labels", key)).kind for key in labels}
    assert kinds_of == {"disk": "file", "gpu": "env", "rack": "flag", "zone": "env"}


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        (
            "ZLAYER_CLUSTER__HEARTBEAT_MN_TTL",
            "1",
            "unknown variable, did you mean ZLAYER_CLUSTER__",
        ),
        ("ZLAYER_HEARTBEAT", "1", "unknown variable (expected a key of the configuration, such as"),
        ("ZLAYER_TOKENFILE", "x", "unknown variable, did you mean ZLAYER_TOKEN_FILE? (expected a"),
        ("ZLAYER_http__bind", "x", "unknown variable, did you mean ZLAYER_HTTP__BIND? (expected a"),
        ("ZLAYER_CLUSTER", "{}", "unknown variable, did you mean ZLAYER_CLUSTER__"),
        ("ZLAYER_", "x", "unknown variable (expected"),
        (
            "ZLAYER_LOG__LEVEL",
            "",
            "log.level: got nothing (expected one of debug, info, warning, e",
        ),
        ("ZLAYER_LOG__LEVEL", "inof", "log.level: got 'inof', did you mean info? (expected one of"),
        (
            "ZLAYER_CLUSTER__LABELS",
            "zone",
            "cluster.labels: a label without a value (expected key=",
        ),
        ("ZLAYER_CLUSTER__LABELS", "a=1,a=2", "cluster.labels: a label is given twice (expected e"),
        ("ZLAYER_CLUSTER__LABELS", '{"a": "1", "a": "2"}', "cluster.labels.a: given twice (expect"),
        ("ZLAYER_CLUSTER__LABELS", '{"a": ', "cluster.labels: the text ends early (expected a va"),
        ("ZLAYER_CLUSTER__LABELS", "[" * 99, "cluster.labels: nested deeper than 32"),
        ("ZLAYER_CLUSTER__LABELS", "{" + " " * 2**20, "cluster.labels: too long (expected at mo"),
        ("ZLAYER_CLUSTER__SERVERS", "", "cluster.servers: 0 servers (expected 1..64 of host:port)"),
        ("ZLAYER_CLUSTER__SERVERS", "a:1,,b", "cluster.servers[1]: got nothing (expected host:po"),
        ("ZLAYER_CLUSTER__NODE_ID", "1", "cluster.node_id: unknown key here, it belongs to mode r"),
    ],
)
def test_what_is_wrong_with_a_variable_names_it(
    tmp_path: Path, name: str, text: str, line: str
) -> None:
    found = _problems(_file(tmp_path), env={name: text})
    assert found[0].startswith(f"{name}: {line}"), found


def test_an_empty_variable_is_null_where_null_may_be(tmp_path: Path) -> None:
    path = _file(tmp_path, bent(WORKER, token_file="/run/token"))
    env = {"ZLAYER_CLUSTER__TOKEN_FILE": "", "ZLAYER_CLUSTER__LABELS": ""}
    cluster = load_config(path, env=env).cluster
    assert isinstance(cluster, WorkerTierWorkerConfig)
    assert cluster.token_file is None


# --- Flags ---------------------------------------------------------------------------------------


class _Level(enum.StrEnum):
    DEBUG = "debug"


def test_flags_are_typed_values_or_text(tmp_path: Path) -> None:
    flags = {
        "log.level": _Level.DEBUG,
        "data_dir": Path("/srv/f"),
        "cluster.heartbeat_grace": "1m",
        "cluster.heartbeat_min_ttl": 12,
        "cluster.servers": "a:1,b:1",
        "cluster.labels.zone": "7",
        "name": None,
    }
    resolved = resolve(_file(tmp_path, name="n"), env={}, flags=flags)
    assert resolved.config.name == "n"
    assert resolved.config.log.level == "debug"
    assert resolved.config.cluster == WorkerTierWorkerConfig(
        servers=("a:1", "b:1"),
        heartbeat_grace=60,
        heartbeat_min_ttl=12,
        labels={"zone": "7"},
        identity_dir=Path("/srv/f/worker/identity"),
    )


def test_a_flag_is_told_by_its_name(tmp_path: Path) -> None:
    flags = {"cluster.servers": Flag("--server", ["x"]), "cluster.heartbeat_grace": -1}
    first, second = _problems(_file(tmp_path), flags=flags)
    assert first.startswith("--server: cluster.servers[0]: 'x' is not an address")
    assert second.startswith("flag cluster.heartbeat_grace: a duration can't be negative")
    given = {"cluster.servers": Flag("--server", None)}
    assert load_config(_file(tmp_path), env={}, flags=given).cluster == ClusterConfig.load(
        _file(tmp_path), env={}
    )


@pytest.mark.parametrize("key", ["clster.mode", "cluster.mode.x", "", ".", "cluster.", "http"])
def test_a_flag_that_is_no_key_is_a_problem(tmp_path: Path, key: str) -> None:
    assert any("flag" in line for line in _problems(_file(tmp_path), flags={key: "x"}))


def test_a_block_over_a_value_does_not_hide_that_it_is_none(tmp_path: Path) -> None:
    path = tmp_path / "zlayerd.yaml"
    path.write_text("cluster: 5\n")
    env = {"ZLAYER_CLUSTER__SERVERS": "a:1"}
    (line,) = _problems(path, env=env, implied=IMPLIED)
    assert line == f"{path}:1: cluster: got '5' (expected a block of keys)"


def test_the_cluster_block_alone(tmp_path: Path) -> None:
    path = _file(tmp_path, data_dir="/srv/zl")
    loaded = ClusterConfig.load(path, env={}, flags={"cluster.heartbeat_min_ttl": "15s"})
    assert isinstance(loaded, WorkerTierWorkerConfig)
    assert (loaded.heartbeat_min_ttl, loaded.identity_dir) == (
        15,
        Path("/srv/zl/worker/identity"),
    )


def test_a_block_within_the_cluster_is_set_key_by_key(tmp_path: Path) -> None:
    limits = {"connections_max": 30, "beats_per_second_per_worker": 3}
    path = _file(tmp_path, bent(SERVER, worker_limits=limits))
    env = {"ZLAYER_CLUSTER__WORKER_LIMITS__CONNECTIONS_MAX": "40"}
    flags = {"cluster.worker_limits.bytes_per_second_per_worker": "0"}
    resolved = resolve(path, env=env, flags=flags)
    assert isinstance(resolved.config.cluster, WorkerTierServerConfig)
    assert resolved.config.cluster.worker_limits == WorkerLimits(
        connections_max=40, beats_per_second_per_worker=3, bytes_per_second_per_worker=0
    )
    found = {
        key: resolved.origin_of(("cluster", "worker_limits", key)).kind
        for key in WorkerLimits.model_fields
    }
    assert found == {
        "connections_max": "env",
        "connections_per_source_max": "default",
        "beats_per_second_per_worker": "file",
        "bytes_per_second_per_worker": "flag",
    }
    (line,) = _problems(path, env={"ZLAYER_CLUSTER__WORKER_LIMITS__CONNECTIONS_MX": "1"})
    assert "did you mean ZLAYER_CLUSTER__WORKER_LIMITS__CONNECTIONS_MAX?" in line


def test_a_block_within_the_cluster_may_be_all_comments_and_names_itself(tmp_path: Path) -> None:
    assert load_config(_file(tmp_path, bent(SERVER, worker_limits=None)), env={}) == load_config(
        _file(tmp_path, SERVER), env={}
    )
    (line,) = _problems(_file(tmp_path, bent(SERVER, worker_limits=5)))
    assert line.endswith("cluster.worker_limits: got 5 (expected a block of keys)")
    (line,) = _problems(_file(tmp_path, bent(SERVER, worker_limits={"connections_mx": 1})))
    assert line.endswith("connections_max? (expected a key of the block cluster.worker_limits)")
    (line,) = _problems(_file(tmp_path, bent(SERVER, connections_max=1)))
    assert "unknown key here, it belongs to the block cluster.worker_limits" in line
