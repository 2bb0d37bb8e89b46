"""S26, the core's own classes: what is no command, no option, no number is an error of ours."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.boundary.real_core import server_options
from zlayer_native import _native
from zlayer_native._native import ServerNode, WorkerSession
from zlayer_native.errors import CoreError, LoadError, ZLayerError
from zlayer_native.identity.authority import Authority

GARBAGE = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b"{",
    b'"text"',
    b"1e999",
    b"NaN",
    b"\xff\xfe",
    b"\x00" * 1000,
    b"[" * 100_000,
    b'{"type":' * 1000,
    b'{"type": "no_such"}',
    b'{"type": "revoke_token"}',
    b'{"type": "revoke_token", "jti": 5}',
    b'{"type": "revoke_token", "jti": "00", "more": 1}',
    b'{"type": "revoke_token", "jti": "00", "jti": "01"}',
    b'{"type": "revoke_token", "jti": "\\ud800"}',
    b'{"type": "remove_node", "node_id": -1}',
    b'{"type": "remove_node", "node_id": 1.5}',
    b'{"type": "remove_node", "node_id": 18446744073709551616}',
    b'{"type": "set_draining", "node_id": 1, "draining": "yes"}',
]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("core") / "cluster")


@pytest.fixture(scope="module")
def options(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return server_options(authority, tmp_path_factory.mktemp("core"))


@pytest.fixture(scope="module")
def node(options: dict[str, Any]) -> Iterator[ServerNode]:
    running = ServerNode.start(json.dumps(options).encode())
    yield running
    running.shutdown(5.0)


def untouched(node: ServerNode) -> bool:
    """Nothing was written and nothing waits."""
    return node.revision() == 0 and node.stopped() is None and not node.drain()


@pytest.mark.parametrize("content", GARBAGE, ids=lambda content: repr(content[:40]))
def test_s26_garbage_is_an_error_that_changes_nothing(node: ServerNode, content: bytes) -> None:
    with pytest.raises(CoreError, match="command: "):
        node.submit(1, content)
    with pytest.raises(CoreError, match="server options: "):
        ServerNode.start(content)
    with pytest.raises(CoreError, match="session options: "):
        WorkerSession.start(content)
    with pytest.raises(LoadError):
        _native.run_load(content)
    if content not in (b"{}", b"[]"):  # A query of nothing asks for everything.
        with pytest.raises(CoreError, match="query: "):
            node.nodes(content)
    assert untouched(node)


@settings(
    max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=200))
def test_s26_no_bytes_break_the_core(node: ServerNode, content: bytes) -> None:
    for call in (
        lambda: node.submit(1, content),
        lambda: node.nodes(content),
        lambda: ServerNode.start(content),
        lambda: WorkerSession.start(content),
    ):
        with pytest.raises(ZLayerError):
            call()
    assert untouched(node)


WRONG = [None, "text", b"bytes", 1.5, [], {}, object(), -1, 2**64, 10**400]


@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value)[:20])
def test_s26_wrong_types_are_pythons_own_errors(node: ServerNode, value: Any) -> None:
    wrong = (TypeError, OverflowError, ValueError)
    for call in (
        lambda: node.submit(value, b"{}"),
        lambda: node.drain(value),
        lambda: node.node(value),
        lambda: node.events(value, 1),
        lambda: node.events(0, value),
    ):
        with pytest.raises(wrong):
            call()
    if not isinstance(value, str):
        with pytest.raises(wrong):
            node.token(value)
        with pytest.raises(wrong):
            node.set_identity(value, value, value)
    if not isinstance(value, bytes):
        for call in (
            lambda: node.submit(1, value),
            lambda: node.nodes(value),
            lambda: ServerNode.start(value),
            lambda: WorkerSession.start(value),
        ):
            with pytest.raises(wrong):
                call()
    assert untouched(node)


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf, -math.inf, 1e300, "5", None])
def test_s26_a_time_limit_that_is_none_is_refused(node: ServerNode, seconds: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        node.shutdown(seconds)
    assert node.stopped() is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"cluster_id": ""}, "cluster_id"),
        ({"cluster_id": "Not.A.Label"}, "cluster_id"),
        ({"node_id": 0}, "node_id"),
        ({"node_id": 1000}, "node_id"),
        ({"listen": ""}, "listen|address"),
        ({"listen": "nowhere.invalid:1"}, "nowhere"),
        ({"listen": "127.0.0.1:99999"}, "99999|port|address"),
        ({"listen": "192.0.2.1:0"}, "192.0.2.1"),
        ({"certificate_pem": ""}, "identity"),
        ({"certificate_pem": "-----BEGIN CERTIFICATE-----\nxx\n"}, "identity"),
        ({"key_pem": ""}, "identity"),
        ({"key_pem": "SECRET"}, "identity"),
        ({"ca_pem": ""}, "identity"),
        ({"control_dir": "/proc/none"}, "control log"),
        ({"control_dir": "/dev/null"}, "control log"),
        ({"limits": {"no_such": 1}}, "no_such"),
        ({"limits": {"commands_max": 0}}, "commands_max"),
        ({"limits": {"handshakes_max": -1}}, "-1"),
        ({"ttl": {"min_ttl_secs": 0}}, "min_ttl_secs"),
        ({"ttl": {"min_ttl_secs": 20, "max_ttl_secs": 10}}, "min_ttl_secs"),
        ({"ttl": {"min_ttl": 20}}, "min_ttl"),
        ({"more": 1}, "more"),
    ],
    ids=str,
)
def test_s26_an_option_that_can_not_be_is_named(
    options: dict[str, Any], tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    own = {**options, "control_dir": str(tmp_path / "control")}
    with pytest.raises(CoreError, match=named) as refused:
        ServerNode.start(json.dumps({**own, **change}).encode())
    assert "PRIVATE KEY" not in str(refused.value)
    assert "SECRET" not in str(refused.value)


def test_s26_another_clusters_certificate_and_key_do_not_start(
    options: dict[str, Any], tmp_path: Path
) -> None:
    stranger = server_options(Authority.create(tmp_path / "other"), tmp_path)
    own = {**options, "control_dir": str(tmp_path / "control")}
    for change in (
        {"key_pem": stranger["key_pem"]},
        {"certificate_pem": stranger["certificate_pem"]},
        {"certificate_pem": stranger["certificate_pem"], "key_pem": stranger["key_pem"]},
    ):
        with pytest.raises(CoreError, match="identity"):
            ServerNode.start(json.dumps({**own, **change}).encode())


def test_s26_a_log_of_another_cluster_is_not_opened(
    options: dict[str, Any], node: ServerNode, tmp_path: Path
) -> None:
    first = {**options, "control_dir": str(tmp_path / "control")}
    ServerNode.start(json.dumps(first).encode()).shutdown(5.0)
    stranger = server_options(Authority.create(tmp_path / "other"), tmp_path)
    with pytest.raises(CoreError, match=r"control log: .*cluster"):
        ServerNode.start(json.dumps(stranger).encode())


def test_s26_use_after_the_end_is_no_crash(options: dict[str, Any], tmp_path: Path) -> None:
    own = {**options, "control_dir": str(tmp_path / "control")}
    node = ServerNode.start(json.dumps(own).encode())
    node.shutdown(5.0)
    node.shutdown(5.0)
    node.submit(9, b'{"type": "revoke_token", "jti": "00"}')
    ((ticket, outcome, error),) = node.drain()
    assert (ticket, outcome) == (9, None)
    assert json.loads(error or "")["code"] == "stopped"
    assert json.loads(node.status())["workers"]["total"] == 0
    assert json.loads(node.nodes(b"{}"))["items"] == []
    assert node.stopped() is None  # It was told to; it did not fail.


def test_s26_handles_are_made_by_start_only_and_are_no_values(node: ServerNode) -> None:
    for kind in (ServerNode, WorkerSession):
        with pytest.raises(TypeError):
            kind()
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            duplicate(node)
    with pytest.raises(AttributeError):
        node.extra = 1  # type: ignore[attr-defined]  # frozen
