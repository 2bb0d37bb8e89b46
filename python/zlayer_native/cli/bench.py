"""`zlayerd bench`: what this machine can do, with real processes, real mTLS and real clocks."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)

_WORKERS_MAX = 60_000
#: Of the core's limit on proposals that wait, half.
_IN_FLIGHT_MAX = 4_096
#: Fewer can't lose one.
_QUORUM_SERVERS = 3


class Phase(enum.StrEnum):
    """Which phases run."""

    PACED = "paced"
    IN_TURN = "in-turn"
    BOTH = "both"


@app.callback()
def bench() -> None:
    """Measure this machine. Everything runs on loopback, in a temporary folder."""


@app.command()
def heartbeats(
    workers: Annotated[int, typer.Option(min=1, max=_WORKERS_MAX, help="mTLS workers.")] = 1000,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of each phase.")] = 10,
    phase: Annotated[
        Phase, typer.Option(help="paced: beats when told to; in-turn: as fast as it answers.")
    ] = Phase.BOTH,
    in_flight: Annotated[int, typer.Option(min=1, help="Beats at once, in turn.")] = 64,
    cap: Annotated[int, typer.Option(min=1, help="max_heartbeats_per_second.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """A real server process and a swarm of real workers: enrol, connect, beat, leave."""
    from zlayer_native._bridge.load import run_load
    from zlayer_native.cli.local import LocalCluster

    settings = {
        "cluster.max_heartbeats_per_second": cap,
        # In turn, a connection says more than a worker would.
        "cluster.worker_limits.beats_per_second_per_worker": 0,
        "cluster.worker_limits.bytes_per_second_per_worker": 0,
        "log.level": "warning",
    }
    with LocalCluster(settings) as cluster:
        token = cluster.new_token(workers)
        report = run_load(
            {
                "kind": "enroll_and_run",
                "server": cluster.addresses.workers,
                "cluster_id": cluster.addresses.cluster_id,
                "ca_pem": (cluster.data_dir / "cluster" / "ca.pem").read_text(),
                "token": token,
                "workers": workers,
                "seconds": seconds,
                "in_turn_seconds": seconds,
                "phase": phase.value,
                "in_flight": in_flight,
                "server_pid": cluster.server.pid,
                "timeout_seconds": max(120.0, workers / 20),
            }
        )
        report["server"] = _server_view(cluster.get("/api/v1/status"), cluster.metrics())
    print(json.dumps(report) if as_json else _text(report))


@app.command()
def raft(
    servers: Annotated[int, typer.Option(min=1, max=7, help="Server processes.")] = 3,
    in_flight: Annotated[
        str, typer.Option(metavar="N,N,...", help="Commits at once, one measurement for each.")
    ] = "1,64,512",
    value_bytes: Annotated[int, typer.Option(min=1, max=4096, help="Of each value.")] = 100,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of each measurement.")] = 10,
    kills: Annotated[
        int, typer.Option(min=0, help="Then kill the leader so often, under write load.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Real server processes that agree over mTLS, each with a log on this disk: durable commits.

    The commits are driven from Rust inside the leader's process, as by a program that embeds it.
    """
    from zlayer_native.cli import raft_bench

    if kills and servers < _QUORUM_SERVERS:
        raise typer.BadParameter("needs three servers", param_hint="--kills")
    report = raft_bench.measure(
        servers=servers,
        in_flight=_depths(in_flight),
        value_bytes=value_bytes,
        seconds=seconds,
        kills=kills,
    )
    print(json.dumps(report) if as_json else raft_bench.text(report))


@app.command("raft-server", hidden=True)
def raft_server(
    options: Annotated[Path, typer.Argument(help="The core's options, as JSON.")],
) -> None:
    """A server of `bench raft`; talks to its owner."""
    from zlayer_native.cli.raft_server import run

    run(options)


def _depths(text: str) -> list[int]:
    words = text.split(",")
    if all(word.isdecimal() and 1 <= int(word) <= _IN_FLIGHT_MAX for word in words):
        return [int(word) for word in words]
    raise typer.BadParameter(
        f"{text!r} is no list of numbers within 1..={_IN_FLIGHT_MAX}", param_hint="--in-flight"
    )


def _server_view(status: dict[str, Any], metrics: dict[str, float]) -> dict[str, Any]:
    """What the server itself counted, beside what the workers saw."""
    return {
        "workers": status["workers"],
        "suspects": int(metrics["zlayer_suspects_total"]),
        "expiries": int(metrics["zlayer_expiries_total"]),
        "fsync_p50_us": status["log"]["fsync_p50_us"],
    }


def _text(report: dict[str, Any]) -> str:
    rows = [
        ("workers", f"{report['workers']}"),
        ("heartbeats", f"{report['heartbeats']}"),
        ("heartbeats per server CPU-second", _number(report["heartbeats_per_cpu_second"])),
        ("server memory per worker", f"{report['server_rss_bytes_per_worker'] / 1024:.1f} KiB"),
        ("ack p50", f"{_number(report['ack_p50_ms'], 2)} ms"),
        ("ack p99", f"{_number(report['ack_p99_ms'], 2)} ms"),
        ("most beats in one second, paced", _number(report["peak_beats_per_second"])),
        ("false suspects", f"{report['false_suspects']}"),
        ("false expiries", f"{report['false_expiries']}"),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
