"""The keys around `cluster`: name, data_dir, http, log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.unit.config.documents import SERVER, WORKER, load_document, refused_document
from zlayer_native.config import (
    Config,
    HttpConfig,
    LogConfig,
    SingleNodeConfig,
    WorkerTierServerConfig,
    data_dir,
)
from zlayer_native.config.document import host_name
from zlayer_native.errors import ConfigError


def test_every_key_has_a_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Srv-1.Example.COM")
    config = load_document(tmp_path, {})
    assert dict(config) == {
        "name": "srv-1.example.com",
        "data_dir": data_dir.default_data_dir(),
        "http": HttpConfig(),
        "log": LogConfig(),
        "cluster": SingleNodeConfig(),
    }
    assert dict(config.http) == {
        "bind": "127.0.0.1:3669",
        "advertise": None,
        "cert_file": None,
        "key_file": None,
    }
    assert dict(config.log) == {"level": "info", "format": "auto"}
    assert config == Config()


def test_every_key_can_be_set(tmp_path: Path) -> None:
    document = {
        "name": "srv-1",
        "data_dir": "/srv/zl",
        "http": {
            "bind": "0.0.0.0:80",
            "advertise": "Srv-1:80",
            "cert_file": "/etc/c.pem",
            "key_file": "/etc/k.pem",
        },
        "log": {"level": "debug", "format": "json"},
        "cluster": {**SERVER, "worker_advertise": "srv-1.example.com:3670"},
    }
    config = load_document(tmp_path, document)
    assert (config.name, config.data_dir) == ("srv-1", Path("/srv/zl"))
    assert config.http == HttpConfig(
        bind="0.0.0.0:80",
        advertise="srv-1:80",
        cert_file=Path("/etc/c.pem"),
        key_file=Path("/etc/k.pem"),
    )
    assert config.log == LogConfig(level="debug", format="json")
    assert isinstance(config.cluster, WorkerTierServerConfig)
    assert config.cluster.worker_advertise == "srv-1.example.com:3670"


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("srv-1", "srv-1"),
        ("Ada's Mac.local", "ada-s-mac.local"),
        ("-x_", "x"),
        ("a..b", "a.b"),
        ("ä", "node"),
        ("", "node"),
        ("h" * 62 + ".example", "h" * 62),
    ],
)
def test_a_host_name_is_made_a_valid_name(
    monkeypatch: pytest.MonkeyPatch, host: str, name: str
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    assert host_name() == name
    assert Config().name == name


def test_the_data_dir_is_the_systems_for_root_and_the_homes_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert data_dir.default_data_dir() == Path("/var/lib/zlayerd")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert data_dir.default_data_dir() == Path("/home/ada/.local/share/zlayerd")


def test_a_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    config = load_document(tmp_path, {"data_dir": "~/zl", "cluster": WORKER})
    assert config.data_dir == Path("/home/ada/zl")
    assert config.cluster == Config(data_dir="/home/ada/zl", cluster=WORKER).cluster  # type: ignore[arg-type]


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "127.1.2.3:1", "localhost:1", "[::1]:1"])
def test_loopback_needs_no_certificate(bind: str) -> None:
    assert HttpConfig(bind=bind).bind == bind


@pytest.mark.parametrize("bind", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "srv-1:1", "[fd00::1]:1"])
def test_beyond_loopback_a_certificate_is_needed_and_the_report_says_why(bind: str) -> None:
    with pytest.raises(ConfigError) as caught:
        HttpConfig(bind=bind)
    (line,) = caught.value.problems
    assert line.startswith("bind: ")
    assert "is not loopback, and bearer tokens would cross the network in clear" in line
    assert "expected cert_file and key_file, or a loopback address" in line
    assert HttpConfig(bind=bind, cert_file=Path("c"), key_file=Path("k")).bind == bind


DOCUMENTS: list[tuple[dict[str, Any], list[str]]] = [
    ({"nme": "a"}, ["2: nme: unknown key, did you mean name? (expected a key of the document)"]),
    (
        {"mode": "raft"},
        ["2: mode: unknown key here, it belongs to the block cluster (expected a k"],
    ),
    ({"bind": "a:1"}, ["2: bind: unknown key here, it belongs to the block http (expected a key "]),
    ({"zzz": 1}, ["2: zzz: unknown key (expected one of name, data_dir, http, log, cluster)"]),
    ({"name": "Srv"}, ["2: name: 'Srv' is not a name (expected 1-63 of a-z 0-9 - _ . that start "]),
    ({"name": ".."}, ["2: name: '..' is not a name (expected"]),
    ({"name": "a" * 64}, ["2: name: 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...' is not a name"]),
    ({"name": 5}, ["2: name: got 5 (expected 1-63 of"]),
    ({"name": "a\n\x1b[31m"}, ["2: name: 'a\\n\\x1b[31m' is not a name"]),
    ({"data_dir": 5}, ["2: data_dir: got 5 (expected a path)"]),
    ({"http": []}, ["2: http: got a list (expected a block of keys)"]),
    (
        {"log": {"level": "warn"}},
        ["3: log.level: got 'warn', did you mean warning? (expected one o"],
    ),
    ({"log": {"format": "xml"}}, ["3: log.format: got 'xml' (expected one of auto, text, json)"]),
    (
        {"http": {"bind": "x"}},
        ["3: http.bind: 'x' is not an address: the port is missing (expected "],
    ),
    ({"http": {"advertise": "0.0.0.0:1"}}, ["3: http.advertise: '0.0.0.0:1' is not an address: 0"]),
    (
        {"http": {"cert_file": "c"}},
        ["3: http.key_file: missing, and cert_file is set (expected both"],
    ),
    (
        {"http": {"key_file": "k"}},
        ["3: http.cert_file: missing, and key_file is set (expected both "],
    ),
    (
        {"http": {"bind": "0.0.0.0:1", "advertise": "x", "bnd": 1}},
        [
            "3: http.bind: 0.0.0.0 is not loopback",
            "4: http.advertise: 'x' is not an address",
            "5: http.bnd: unknown key, did you mean bind?",
        ],
    ),
]


@pytest.mark.parametrize(("document", "lines"), DOCUMENTS)
def test_what_is_wrong_around_the_cluster(
    tmp_path: Path, document: dict[str, Any], lines: list[str]
) -> None:
    found = refused_document(tmp_path, document)
    assert len(found) == len(lines), found
    for line, start in zip(found, lines, strict=True):
        assert line.startswith(f"zlayerd.json:{start}"), line


@pytest.mark.parametrize("block", ["http", "log", "cluster"])
def test_a_block_whose_keys_are_all_comments_sets_nothing(tmp_path: Path, block: str) -> None:
    path = tmp_path / "zlayerd.yaml"
    path.write_text(f"name: a\n{block}:\n  # nothing\n")
    assert load_document(tmp_path, {"name": "a"}) == load_from(path)


def load_from(path: Path) -> Config:
    from zlayer_native.config import load_config

    return load_config(path, env={})
