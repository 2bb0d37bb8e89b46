"""Any configuration: written as YAML, TOML or JSON, hashed, pickled, it stays equal to itself."""

from __future__ import annotations

import copy
import json
import pickle
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.config.documents import LEAST
from zlayer_native.config import ClusterConfig, Config, load_config, render, resolve, show_resolved
from zlayer_native.config.labels import LABELS_MAX, is_name

FORMATS = ("yaml", "toml", "json")
_DAY = 86_400

names = st.from_regex(r"[a-z0-9](?:[-a-z0-9_.]{0,61}[a-z0-9])?", fullmatch=True).filter(is_name)
#: What YAML readers love to take for something else.
words = st.sampled_from(
    ["no", "yes", "on", "off", "null", "true", "1e3", "0x1f", "12.5", "1_0", "0"]
)
label_values = names | words
paths = st.text(st.characters(codec="utf-8").filter(str.isprintable), min_size=1, max_size=40).map(
    lambda text: f"/{text}"
)
hosts = st.sampled_from(["srv-1", "srv_2.example.com", "10.1.2.3", "[fd00::1]", "a" * 63])
dials = st.builds("{}:{}".format, hosts, st.integers(1, 65_535))
ids = st.integers(1, 999)
labels = st.dictionaries(names, label_values, max_size=LABELS_MAX)


def _raft_peer(number: int) -> dict[str, Any]:
    return {"id": number, "raft_addr": f"h{number}:1", "api_addr": f"[fd00::{number:x}]:2"}


@st.composite
def clusters(draw: st.DrawFn) -> dict[str, Any]:
    mode = draw(st.sampled_from(list(LEAST)))
    if mode == "single-node":
        return {"mode": "single-node"}
    numbers = draw(st.lists(ids, min_size=1, max_size=7, unique=True))
    if mode == "raft":
        return {
            "mode": "raft",
            "node_id": numbers[0],
            "peers": [_raft_peer(number) for number in numbers],
        }
    if mode == "static":
        interval = draw(st.integers(1, 1000))
        return {
            "mode": "static",
            "node_id": numbers[0],
            "peers": [
                {"id": n, "api_addr": f"h{n}:1", "os": draw(label_values), "labels": draw(labels)}
                for n in numbers
            ],
            "heartbeat_interval": interval,
            "failure_threshold": draw(st.integers(interval + 1, _DAY)),
        }
    low = draw(st.integers(1, _DAY))
    shared = {
        "mode": "worker-tier",
        "role": mode,
        "heartbeat_min_ttl": low,
        "heartbeat_max_ttl": draw(st.integers(low, 30 * _DAY)),
        "heartbeat_grace": draw(st.integers(0, _DAY)),
        "max_heartbeats_per_second": draw(st.integers(0, 1_000_000)),
        "failover_heartbeat_ttl": draw(st.integers(1, _DAY)),
        "labels": draw(labels),
    }
    if mode == "worker":
        extra: dict[str, Any] = {
            "servers": draw(st.lists(dials, min_size=1, max_size=5, unique=True)),
            "token_file": draw(st.none() | paths),
        }
        if draw(st.booleans()):
            extra["identity_dir"] = draw(paths)
        return {**shared, **extra}
    numbers = numbers[:1] if len(numbers) == 2 else numbers
    return {
        **shared,
        "node_id": numbers[-1],
        "peers": [_raft_peer(number) for number in numbers],
        "worker_grpc_addr": draw(dials),
        "worker_advertise": draw(st.none() | dials),
        "worker_limits": {
            "connections_max": draw(st.integers(1, 1_000_000)),
            "beats_per_second_per_worker": draw(st.integers(0, 1_000_000)),
        },
        "worker_ca_dir": draw(paths),
    }


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    tls = draw(st.booleans())
    return {
        "name": draw(label_values.filter(is_name)),
        "data_dir": draw(paths),
        "http": {
            "bind": draw(dials) if tls else f"127.0.0.1:{draw(st.integers(0, 65_535))}",
            "advertise": draw(st.none() | dials),
            "cert_file": draw(paths) if tls else None,
            "key_file": draw(paths) if tls else None,
        },
        "log": {
            "level": draw(st.sampled_from(["debug", "info", "warning", "error"])),
            "format": draw(st.sampled_from(["auto", "text", "json"])),
        },
        "cluster": draw(clusters()),
    }


def _load(text: str, suffix: str) -> Config:
    with tempfile.NamedTemporaryFile(suffix=f".{suffix}") as file:
        file.write(text.encode())
        file.flush()
        return load_config(file.name, env={})


@settings(max_examples=80, deadline=None)
@given(documents())
def test_a_configuration_survives_everything(document: dict[str, Any]) -> None:
    config = Config(**document)
    assert config.data_dir == Path(document["data_dir"])
    same = [
        Config(**copy.deepcopy(document)),
        pickle.loads(pickle.dumps(config)),
        copy.deepcopy(config),
        Config.model_validate(config.model_dump()),
        *(_load(render(config, form), form) for form in FORMATS),
        _load(json.dumps(document), "json"),
        _load(yaml.safe_dump(document), "yaml"),
    ]
    for other in same:
        assert other == config
        assert hash(other) == hash(config)
        assert type(other.cluster) is type(config.cluster)
        assert other.cluster == ClusterConfig.parse(dict(config.cluster))
    assert len({config, *same}) == 1


@settings(max_examples=50, deadline=None)
@given(documents())
def test_any_reader_reads_what_we_write(document: dict[str, Any]) -> None:
    config = Config(**document)
    plain = config.model_dump(mode="json")
    assert json.loads(render(config, "json")) == plain
    assert yaml.safe_load(render(config, "yaml")) == plain
    assert tomllib.loads(render(config, "toml")) == _without_nulls(plain)


@settings(max_examples=50, deadline=None)
@given(documents())
def test_what_show_resolved_prints_loads_again(document: dict[str, Any]) -> None:
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(json.dumps(document).encode())
        file.flush()
        resolved = resolve(file.name, env={})
    assert _load(show_resolved(resolved, "yaml"), "yaml") == resolved.config
    assert _load(show_resolved(resolved, "toml"), "toml") == resolved.config


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


@settings(max_examples=50, deadline=None)
@given(documents(), documents())
def test_other_configurations_are_not_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = Config(**one), Config(**other)
    assert (first == second) is (render(first, "json") == render(second, "json"))


@pytest.mark.parametrize("name", LEAST)
@pytest.mark.parametrize("form", FORMATS)
def test_durations_are_written_as_integers(name: str, form: Any) -> None:
    block = {**LEAST[name]}
    if name in ("server", "worker"):
        block["heartbeat_min_ttl"] = "1m5s"
    text = render(Config(cluster=block), form)  # type: ignore[arg-type]
    assert "1m5s" not in text
    if name in ("server", "worker"):
        assert {"yaml": "heartbeat_min_ttl: 65", "toml": "heartbeat_min_ttl = 65",
                "json": '"heartbeat_min_ttl": 65'}[form] in text  # fmt: skip


def test_labels_compare_whatever_their_order() -> None:
    one = ClusterConfig.parse({**LEAST["worker"], "labels": {"a": "1", "b": "2"}})
    two = ClusterConfig.parse({**LEAST["worker"], "labels": {"b": "2", "a": "1"}})
    assert one == two
    assert hash(one) == hash(two)
