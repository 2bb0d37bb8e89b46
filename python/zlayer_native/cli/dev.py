"""`zlayerd dev`: a cluster on this machine to look at, to break, and to leave nothing behind."""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from zlayer_native.cli.local import LocalCluster

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

#: Short enough to see a whole life of a lease, long enough to see that one beat does not decide.
_SETTINGS = {"cluster.heartbeat_min_ttl": 5, "cluster.heartbeat_grace": 5}
_REFRESH_SECS = 0.25
_WORKERS_MAX = 50


@app.command()
def dev(
    workers: Annotated[int, typer.Option(min=1, max=_WORKERS_MAX, help="How many.")] = 3,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Stop by itself once all are Ready that long.")
    ] = None,
) -> None:
    """A server and local workers in a temporary folder, and a live table; Ctrl-C ends all of it."""
    from zlayer_native.cli.local import LocalCluster

    names = [f"worker-{number}" for number in range(1, workers + 1)]
    # SIGTERM ends it as Ctrl-C does: the block below stops what was started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with LocalCluster(_SETTINGS) as cluster:
            cluster.start_workers(names)
            _greet(cluster)
            if sys.stdout.isatty():
                _watch_live(cluster, seconds)
            else:
                _watch_plain(cluster, seconds)
    except KeyboardInterrupt:
        pass
    print("all stopped, nothing left behind")


def _greet(cluster: LocalCluster) -> None:
    print(f"server  pid {cluster.server.pid}, API {cluster.addresses.api}")
    print(f"        workers dial {cluster.addresses.workers}, data in {cluster.folder}")
    print("in another terminal:")
    print(f"  export ZLAYER_ADDR={cluster.addresses.api} ZLAYER_TOKEN_FILE={cluster.token_file}")
    print("  zlayerd node ls; zlayerd events -f; kill -9 <pid of a worker>", flush=True)


class _Countdown:
    """Says when it is time to stop: `seconds` after all workers were Ready, or never."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._ready_at: float | None = None

    def is_over(self, nodes: list[dict[str, Any]], workers: int) -> bool:
        if sum(node["state"] == "Ready" for node in nodes) == workers:
            self._ready_at = self._ready_at or time.monotonic()
        if self._seconds is None or self._ready_at is None:
            return False
        return time.monotonic() - self._ready_at >= self._seconds


def _look(cluster: LocalCluster) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    nodes = cluster.get("/api/v1/cluster/nodes", limit=_WORKERS_MAX)["items"]
    return nodes, cluster.get("/api/v1/status")


def _watch_plain(cluster: LocalCluster, seconds: float | None) -> None:
    """A line for each change of a state: what a log or a pipe can use."""
    countdown = _Countdown(seconds)
    seen: dict[str, str] = {}
    while True:
        nodes, status = _look(cluster)
        for node in nodes:
            if seen.get(node["name"]) != node["state"]:
                seen[node["name"]] = node["state"]
                print(f"{node['name']}: {node['state']} ({node['reason']})", flush=True)
        if countdown.is_over(nodes, len(cluster.workers)):
            print(_summary(status), flush=True)
            return
        time.sleep(_REFRESH_SECS)


def _watch_live(cluster: LocalCluster, seconds: float | None) -> None:
    from rich.live import Live

    countdown = _Countdown(seconds)
    with Live(auto_refresh=False) as live:
        while True:
            nodes, status = _look(cluster)
            live.update(_table(cluster, nodes, status), refresh=True)
            if countdown.is_over(nodes, len(cluster.workers)):
                return
            time.sleep(_REFRESH_SECS)


_COLORS = {"Ready": "green", "Suspect": "yellow", "Unreachable": "red", "Draining": "cyan"}


def _table(cluster: LocalCluster, nodes: list[dict[str, Any]], status: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table(caption=_summary(status), caption_justify="left")
    for column in ("worker", "pid", "id", "state", "TTL", "next beat in", "lease ends in"):
        table.add_column(column, justify="left" if column in ("worker", "state") else "right")
    for node in nodes:
        child = cluster.workers.get(node["name"])
        color = _COLORS.get(node["state"], "white")
        table.add_row(
            node["name"],
            str(child.pid) if child else "",
            str(node["id"]),
            f"[{color}]{node['state']}[/]",
            f"{node['ttl_ms'] / 1000:g} s",
            _secs(node["next_beat_in_ms"]),
            _secs(node["lease_remaining_ms"]),
        )
    return table


def _secs(ms: int | None) -> str:
    return "-" if ms is None else f"{ms / 1000:.1f} s"


def _summary(status: dict[str, Any]) -> str:
    workers = status["workers"]
    return (
        f"{workers['Ready']} of {workers['total']} Ready,"
        f" {status['beats_per_second']} beats/s (cap {status['max_heartbeats_per_second']}),"
        f" TTL {status['ttl_ms'] / 1000:g} s; Ctrl-C ends all of it"
    )
