"""`zlayerd status`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from zlayer_native.cli import exits, options, output, text
from zlayer_native.cli.client import connect
from zlayer_native.cli.output import Cell, Format

app = options.new_app()

_STATES = ("Ready", "Suspect", "Unreachable", "Draining", "Left")


@app.command()
def status(
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Exit 3 when degraded: a node is Suspect or Unreachable, expiry is held, or the"
            " server is not ready. The reasons go to standard error.",
        ),
    ] = False,
    form: options.Output = Format.TABLE,
    addr: options.Addr = options.DEFAULT_ADDR,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    timeout: options.Timeout = 10.0,
) -> None:
    """The cluster at a glance."""
    with connect(addr, token_file, ca, timeout) as api:
        found = api.get("/api/v1/status")
        is_ready = api.is_ready()
    if output.is_document(form):
        output.document(form, found)
    else:
        _print(found, is_ready)
    reasons = degraded(found, is_ready)
    if check and reasons:
        output.note(f"degraded: {', '.join(reasons)}")
        raise typer.Exit(exits.DEGRADED)


def degraded(found: dict[str, Any], is_ready: bool) -> list[str]:
    """Why the cluster is less than well; empty if it is well."""
    workers = found["workers"]
    reasons = [f"{workers[name]} {name}" for name in ("Suspect", "Unreachable") if workers[name]]
    if found["expiry_held"]:
        reasons.append("expiry is held: more leases came due at once than is plausible")
    if not is_ready:
        reasons.append("the server is not ready")
    return reasons


def _print(found: dict[str, Any], is_ready: bool) -> None:
    workers, log = found["workers"], found["log"]
    by_state = ", ".join(f"{workers[name]} {name}" for name in _STATES if workers[name])
    beats = f"{found['beats_per_second']}/s, at most {found['max_heartbeats_per_second']}/s"
    server = (
        f"{found['node_id']} ({found['role']}, term {found['term']}), version {found['version']},"
        f" up {text.span(found['uptime_ms'])}"
    )
    reasons = degraded(found, is_ready)
    output.facts(
        [
            ("health", Cell(", ".join(reasons), "yellow") if reasons else Cell("well", "green")),
            ("cluster", Cell(found["cluster_id"])),
            ("server", Cell(server)),
            ("workers", Cell(f"{workers['total']}, {workers['connected']} connected")),
            ("states", Cell(by_state)),
            ("ttl", Cell(text.span(found["ttl_ms"]))),
            ("heartbeats", Cell(beats)),
            ("worker port", Cell(found["listen"])),
            ("events", Cell(f"revision {found['revision']}")),
            ("log", Cell(f"index {log['last_index']}, {text.size(log['bytes'])}")),
            ("fsync", Cell(f"p50 {_ms(log['fsync_p50_us'])}, p99 {_ms(log['fsync_p99_us'])}")),
        ]
    )


def _ms(microseconds: float) -> str:
    return f"{microseconds / 1000:.1f}ms"
