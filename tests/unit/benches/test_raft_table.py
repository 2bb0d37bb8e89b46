"""Medians, ratios and tables of the comparison with other stores."""

from __future__ import annotations

from typing import Any

import pytest

from benches.peers.raft_table import commit_table, cpu_bounds, failover_table, medians, ratios


def load(in_flight: int, rate: float, p50: float = 1.0) -> dict[str, Any]:
    return {
        "in_flight": in_flight,
        "commits_per_second": rate,
        "p50_ms": p50,
        "p99_ms": 2 * p50,
        "cpu_seconds_per_1000": 0.5,
        "max_ms": 9.0,
    }


def run(fdatasync_us: float, *loads: dict[str, Any]) -> dict[str, Any]:
    return {"fdatasync_us": {"p50": fdatasync_us}, "loads": list(loads)}


def test_each_figure_has_its_own_median() -> None:
    runs = [
        run(100, load(1, 10, p50=0.4), load(64, 100)),
        run(200, load(1, 30, p50=0.2), load(64, 300)),
        run(100, load(1, 20, p50=0.3), load(64, 900)),
    ]
    figures = medians(runs)
    alone, together = figures["loads"]
    assert (alone["in_flight"], alone["commits_per_second"], alone["p50_ms"]) == (1, 20, 0.3)
    assert (together["in_flight"], together["commits_per_second"]) == (64, 300)
    assert "max_ms" not in alone
    # 4, 1 and 3 fdatasyncs: of the same minute each, not of the medians.
    assert figures["one_in_fdatasyncs"] == 3


def test_without_one_alone_there_is_nothing_in_fdatasyncs() -> None:
    assert medians([run(100, load(64, 1))])["one_in_fdatasyncs"] is None


def test_runs_of_other_depths_are_no_repeats() -> None:
    with pytest.raises(ValueError, match="zip"):
        medians([run(100, load(1, 1)), run(100, load(1, 1), load(64, 1))])


def test_ratios_are_ours_by_theirs() -> None:
    ours = {"loads": [load(1, 30, p50=0.5)]}
    theirs = {"loads": [load(1, 10, p50=1.0)]}
    (ratio,) = ratios(ours, theirs)
    assert ratio == {
        "in_flight": 1,
        "commits_per_second": 3.0,
        "p50_ms": 0.5,
        "p99_ms": 0.5,
        "cpu_seconds_per_1000": 1.0,
    }


def test_servers_do_no_more_than_all_cores_allow() -> None:
    # Half a second of a core for a thousand.
    assert cpu_bounds({"loads": [load(1, 10), load(64, 100)]}, 2) == {"1": 4000, "64": 4000}


def test_the_table_has_the_stores_of_each_depth_together() -> None:
    stores = {
        "zlayer": {"loads": [load(1, 1234.5), load(64, 45678)]},
        "etcd": {"loads": [load(1, 900, p50=1.234), load(64, 9000)]},
    }
    rows = commit_table(stores).splitlines()[2:]
    assert [row.split(" | ")[:2] for row in rows] == [
        ["| 1", "zlayer"],
        ["| 1", "etcd"],
        ["| 64", "zlayer"],
        ["| 64", "etcd"],
    ]
    assert rows[1] == "| 1 | etcd | 900 | 1.23 | 2.47 | 0.500 |"
    assert "| 45,678 |" in rows[2]


def test_the_failover_table() -> None:
    table = failover_table({"etcd": {"kills": 20, "p50_s": 1.236, "p99_s": 2.0, "max_s": 2.4}})
    assert table.splitlines()[-1] == "| etcd | 20 | 1.24 | 2.00 | 2.40 |"
