"""What works, and will hurt later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.config.documents import LEAST, RAFT, SERVER, STATIC, WORKER, bent
from zlayer_native.config import ClusterConfig, Config, WorkerTierConfig, advise, resolve
from zlayer_native.config.advice import failover_limit


def _advice(cluster: dict[str, Any]) -> dict[str, str]:
    return {each.key: each.text for each in advise(Config(cluster=cluster))}  # type: ignore[arg-type]


def _peers(count: int) -> list[dict[str, Any]]:
    return [
        {"id": n, "raft_addr": f"10.0.1.{n}:1", "api_addr": f"10.0.1.{n}:2"}
        for n in range(1, count + 1)
    ]


@pytest.mark.parametrize("name", ["single-node", "raft", "static", "worker"])
def test_the_defaults_of_the_other_modes_are_fine(name: str) -> None:
    assert _advice(LEAST[name]) == {}


@pytest.mark.parametrize(
    ("least", "count"),
    [*((RAFT, count) for count in range(1, 9)), *((SERVER, count) for count in (1, 3, 4, 5, 6, 7))],
)
def test_an_even_number_of_voters(least: dict[str, Any], count: int) -> None:
    found = _advice(bent(least, peers=_peers(count)))
    assert ("cluster.peers" in found) is (count % 2 == 0)
    if count == 4:
        told = "4 voters survive the loss of 1, as 3 do: use an odd number"
        assert found["cluster.peers"] == told


#: Changes, and the smallest fleet where a worker may hold more than the failover TTL, and how much.
FAILOVER: list[tuple[dict[str, Any], tuple[int, int] | None]] = [
    ({}, (14_501, 301)),
    ({"failover_heartbeat_ttl": 100}, (4_501, 101)),
    ({"failover_heartbeat_ttl": 610}, None),
    ({"failover_heartbeat_ttl": 609}, (29_951, 610)),
    ({"heartbeat_max_ttl": 290}, None),
    ({"heartbeat_max_ttl": 291}, (14_501, 301)),
    ({"failover_heartbeat_ttl": 20}, (501, 21)),
    ({"failover_heartbeat_ttl": 19}, (1, 20)),
    ({"failover_heartbeat_ttl": 5}, (1, 20)),
    ({"max_heartbeats_per_second": 1}, (291, 301)),
    ({"max_heartbeats_per_second": 0}, (1, 610)),
    ({"max_heartbeats_per_second": 0, "failover_heartbeat_ttl": 610}, None),
    ({"heartbeat_grace": 0}, (15_001, 301)),
]


@pytest.mark.parametrize(("changes", "limit"), FAILOVER)
def test_the_fleet_from_which_on_the_failover_ttl_is_too_short(
    changes: dict[str, Any], limit: tuple[int, int] | None
) -> None:
    block = bent(SERVER, **changes)
    cluster = ClusterConfig.parse(block)
    assert isinstance(cluster, WorkerTierConfig)
    assert failover_limit(cluster) == limit
    ttl = cluster.adaptive_ttl_config()
    text = _advice(block).get("cluster.failover_heartbeat_ttl", "")
    if limit is None:
        assert text == ""
        assert ttl.compute_ttl(10**9) + ttl.grace_secs <= ttl.failover_ttl_secs
        return
    # The core's own arithmetic: there it begins, and not one worker earlier.
    workers, held = limit
    assert ttl.compute_ttl(workers) + ttl.grace_secs == held > ttl.failover_ttl_secs
    if workers > 1:
        assert ttl.compute_ttl(workers - 1) + ttl.grace_secs <= ttl.failover_ttl_secs
    count = "1 worker" if workers == 1 else f"{workers:,} workers"
    assert f"is too short from {count} on" in text
    assert f"{held} s (TTL and grace)" in text


@pytest.mark.parametrize(
    ("least", "changes", "key", "text"),
    [
        (SERVER, {"max_heartbeats_per_second": 0}, "max_heartbeats_per_second", "after 610 s"),
        (SERVER, {"heartbeat_grace": 2}, "heartbeat_grace", "2 s: a beat whose ack is lost"),
        (STATIC, {"failure_threshold": 9}, "failure_threshold", "use at least 10 s"),
    ],
)
def test_other_advice(least: dict[str, Any], changes: dict[str, Any], key: str, text: str) -> None:
    assert text in _advice(bent(least, **changes))[f"cluster.{key}"]
    assert f"cluster.{key}" not in _advice(least)
    if least is SERVER:  # A worker has these keys too, and its server decides.
        assert _advice(bent(WORKER, **changes)) == {}


def test_advice_says_where_its_value_came_from(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("cluster:\n  mode: static\n  node_id: 1\n  failure_threshold: 6\n"
                    "  peers: [{id: 1, api_addr: a:1}]\n")  # fmt: skip
    (advice,) = resolve(path, env={}).advice()
    assert str(advice).startswith(f"{path}:4: cluster.failure_threshold: 6 s: one lost probe")
    (advice,) = advise(resolve(path, env={}).config)
    assert str(advice).startswith("cluster.failure_threshold: 6 s: one lost probe")
