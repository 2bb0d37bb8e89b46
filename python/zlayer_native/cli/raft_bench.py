"""The measurement behind `zlayerd bench raft`."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zlayer_native.cli.figures import fdatasync_us, quantile
from zlayer_native.cli.raft_servers import RaftServers

#: Time from one write to the next while leaders are killed, milliseconds.
_PACE_MS = 5.0


def measure(
    *, servers: int, in_flight: Sequence[int], value_bytes: int, seconds: float, kills: int
) -> dict[str, Any]:
    """Starts the servers, commits from inside the leader's process, kills leaders, ends them.

    Raises:
        CoreError: the servers don't start or don't agree.
        LoadError: a commit failed under load.
    """
    # Before and after: a server that starts fills its segments. The quicker one is the disk's own.
    folder = Path(tempfile.gettempdir())
    disks = [fdatasync_us(folder)]
    with RaftServers(servers) as cluster:
        leader = cluster.wait_leader()
        elections = leader.ask("status")["elections"]
        loads = [
            leader.ask(
                "load",
                kind="in_flight",
                in_flight=depth,
                value_bytes=value_bytes,
                seconds=seconds,
                warm_up_seconds=min(1.0, seconds),
                server_pids=cluster.pids,
            )
            for depth in in_flight
        ]
        status = leader.ask("status")
        report = {
            "what": "durable commits, driven inside the leader's process",
            "servers": servers,
            "value_bytes": value_bytes,
            "loads": loads,
            "log_fsync_p50_us": status["log"]["fsync_p50_us"],
            "elections_under_load": status["elections"] - elections,
            "failover": _failover(cluster, kills, value_bytes) if kills else None,
        }
    disks.append(fdatasync_us(folder))
    disk = min(disks, key=lambda times: times["p50"])
    return {
        **report,
        "fdatasync_us": disk,
        "one_in_fdatasyncs": in_fdatasyncs(loads, disk["p50"]),
        "machine": {"cores": os.cpu_count(), "kernel": platform.release()},
    }


def in_fdatasyncs(loads: Sequence[dict[str, Any]], fdatasync_p50_us: float) -> float | None:
    """Median of a commit that is alone, as a multiple of the disk's own sync; None if none was."""
    alone = (load["p50_ms"] for load in loads if load["in_flight"] == 1)
    p50_ms = next(alone, None)
    return None if p50_ms is None else round(p50_ms * 1000 / fdatasync_p50_us, 2)


def _failover(cluster: RaftServers, kills: int, value_bytes: int) -> dict[str, Any]:
    for server in cluster.servers:
        server.ask("write", every_ms=_PACE_MS, value_bytes=value_bytes)
    return failover_figures([cluster.fail_over() for _ in range(kills)])


def failover_figures(seconds: Sequence[float]) -> dict[str, Any]:
    """Of the rounds' times: `kills`, `p50_s`, `p99_s`, `max_s` and all of them in order."""
    return {
        "kills": len(seconds),
        "p50_s": round(quantile(seconds, 0.5), 3),
        "p99_s": round(quantile(seconds, 0.99), 3),
        "max_s": round(max(seconds), 3),
        "rounds_s": [round(value, 3) for value in seconds],
    }


def text(report: dict[str, Any]) -> str:
    """For people."""
    head = ("in flight", "commits/s", "p50 ms", "p99 ms", "CPU-s per 1,000")
    rows = [
        (
            f"{load['in_flight']}",
            f"{load['commits_per_second']:.0f}",
            f"{load['p50_ms']:.2f}",
            f"{load['p99_ms']:.2f}",
            f"{load['cpu_seconds_per_1000']:.3f}",
        )
        for load in report["loads"]
    ]
    lines = ["  ".join(f"{cell:>15}" for cell in row) for row in (head, *rows)]
    lines.append(f"one fdatasync of this disk: {report['fdatasync_us']['p50']:.0f} us")
    if (failover := report["failover"]) is not None:
        lines.append(
            f"leader killed {failover['kills']} times, writes again after"
            f" p50 {failover['p50_s']:.2f} s, p99 {failover['p99_s']:.2f} s"
        )
    return "\n".join(lines)
