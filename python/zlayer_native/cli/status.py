"""`zlayerd status`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from zlayer_native.cli import exits, options, output, text
from zlayer_native.cli.client import connect
from zlayer_native.cli.output import Cell, Format

app = options.new_app()

#: A server that the leader has not heard for so long does not answer, milliseconds. Chosen: twenty
#: heartbeats.
_SILENT_MS = 2000

_STATES = ("Ready", "Suspect", "Unreachable", "Draining", "Left")


@app.command()
def status(
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Exit 3 when degraded: a node is Suspect or Unreachable, a server does not answer,"
            " none leads, expiry is held, or the asked server is not ready. The reasons go to"
            " standard error.",
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
        servers = api.get("/api/v1/raft/peers")
        is_ready = api.is_ready()
    reasons = degraded(found, servers, is_ready)
    if output.is_document(form):
        output.document(form, {**found, "servers": servers})
    else:
        _print(found, servers, reasons)
    if check and reasons:
        output.note(f"degraded: {', '.join(reasons)}")
        raise typer.Exit(exits.DEGRADED)


def degraded(found: dict[str, Any], servers: dict[str, Any], is_ready: bool) -> list[str]:
    """Why the cluster is less than well; empty if it is well."""
    workers = found["workers"]
    reasons = [f"{workers[name]} {name}" for name in ("Suspect", "Unreachable") if workers[name]]
    if found["expiry_held"]:
        reasons.append("expiry is held: more leases came due at once than is plausible")
    if servers["items"] and servers["leader"] is None:
        reasons.append("no server leads")
    reasons += [f"server {each['id']} does not answer" for each in _silent(servers)]
    if not is_ready:
        reasons.append("the server is not ready")
    return reasons


def _silent(servers: dict[str, Any]) -> list[dict[str, Any]]:
    """Servers that the leader does not hear; none while there is no leader to say so."""
    leader = servers["leader"]
    others = [each for each in servers["items"] if leader is not None and each["id"] != leader]
    return [each for each in others if each["silent_ms"] is None or each["silent_ms"] > _SILENT_MS]


def _quorum(servers: dict[str, Any]) -> Cell:
    """How many servers vote and answer, and how many have to."""
    voters = [each for each in servers["items"] if each["voter"]]
    needed = len(voters) // 2 + 1
    if servers["leader"] is None:
        return Cell(f"none of {len(voters)} leads: {needed} have to answer each other", "red")
    silent = [each for each in _silent(servers) if each["voter"]]
    answer = len(voters) - len(silent)
    learners = len(servers["items"]) - len(voters)
    more = f", {learners} learning" if learners else ""
    said = (
        f"{answer} of {len(voters)} answer, {needed} needed; server {servers['leader']} leads{more}"
    )
    return Cell(said, "yellow" if silent else "green")


def _print(found: dict[str, Any], servers: dict[str, Any], reasons: list[str]) -> None:
    workers, log = found["workers"], found["log"]
    by_state = ", ".join(f"{workers[name]} {name}" for name in _STATES if workers[name])
    beats = f"{found['beats_per_second']}/s, at most {found['max_heartbeats_per_second']}/s"
    server = (
        f"{found['node_id']} ({found['role']}, term {found['term']}), version {found['version']},"
        f" up {text.span(found['uptime_ms'])}"
    )
    output.facts(
        [
            ("health", Cell(", ".join(reasons), "yellow") if reasons else Cell("well", "green")),
            ("cluster", Cell(found["cluster_id"])),
            ("server", Cell(server)),
            *([("servers", _quorum(servers))] if servers["items"] else []),
            ("workers", Cell(f"{workers['total']}, {workers['connected']} connected")),
            ("states", Cell(by_state)),
            ("ttl", Cell(text.span(found["ttl_ms"]))),
            ("heartbeats", Cell(beats)),
            ("worker port", Cell(found["listen"])),
            ("events", Cell(f"revision {found['revision']}")),
            ("log", Cell(f"index {log['last_index']}, {text.size(log['bytes'])}")),
            ("commit", Cell(f"p50 {_ms(log['commit_p50_us'])}, p99 {_ms(log['commit_p99_us'])}")),
            ("fsync", Cell(f"p50 {_ms(log['fsync_p50_us'])}, p99 {_ms(log['fsync_p99_us'])}")),
        ]
    )


def _ms(microseconds: float) -> str:
    return f"{microseconds / 1000:.1f}ms"
