"""Medians, ratios and the table of `raft.py`: no clock, no process."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

FIGURES = ("commits_per_second", "p50_ms", "p99_ms", "cpu_seconds_per_1000")


def medians(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of one store's runs: `loads` with the median of each figure, and one commit in fdatasyncs.

    Each run has `loads` in the same order, and `fdatasync_us` of the same minute.
    """
    loads = [
        {
            "in_flight": same[0]["in_flight"],
            **{name: statistics.median(load[name] for load in same) for name in FIGURES},
        }
        for same in zip(*(run["loads"] for run in runs), strict=True)
    ]
    alone = [
        load["p50_ms"] * 1000 / run["fdatasync_us"]["p50"]
        for run in runs
        for load in run["loads"]
        if load["in_flight"] == 1
    ]
    return {
        "loads": loads,
        "one_in_fdatasyncs": round(statistics.median(alone), 2) if alone else None,
    }


def ratios(ours: Mapping[str, Any], other: Mapping[str, Any]) -> list[dict[str, float]]:
    """For each number in flight, ours by the other's: rate, latencies, CPU."""
    return [
        {
            "in_flight": mine["in_flight"],
            **{name: round(mine[name] / theirs[name], 3) for name in FIGURES},
        }
        for mine, theirs in zip(ours["loads"], other["loads"], strict=True)
    ]


def cpu_bounds(figures: Mapping[str, Any], cores: int) -> dict[str, int]:
    """By number in flight: commits per second if the servers had all cores and the client none.

    Servers in processes of their own share the machine with the client that drives them.
    """
    return {
        str(load["in_flight"]): round(1000 * cores / load["cpu_seconds_per_1000"])
        for load in figures["loads"]
    }


def commit_table(stores: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: a row for each number in flight and store."""
    lines = [
        "| in flight | store | commits/s | p50 ms | p99 ms | server CPU-s per 1,000 |",
        "|---|---|---|---|---|---|",
    ]
    for at, depth in enumerate(next(iter(stores.values()))["loads"]):
        for name, figures in stores.items():
            load = figures["loads"][at]
            lines.append(
                f"| {depth['in_flight']} | {name} | {load['commits_per_second']:,.0f}"
                f" | {load['p50_ms']:.2f} | {load['p99_ms']:.2f}"
                f" | {load['cpu_seconds_per_1000']:.3f} |"
            )
    return "\n".join(lines)


def failover_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: a row for each store."""
    lines = ["| store | kills | p50 s | p99 s | most s |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {row['kills']} | {row['p50_s']:.2f} | {row['p99_s']:.2f}"
        f" | {row['max_s']:.2f} |"
        for name, row in rows.items()
    ]
    return "\n".join(lines)
