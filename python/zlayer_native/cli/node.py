"""`zlayerd node`: the members of the cluster."""

from __future__ import annotations

import enum
import sys
from typing import Annotated, Any

import typer

from zlayer_native.cli import exits, options, output, text
from zlayer_native.cli.client import Api, connect
from zlayer_native.cli.nodes import NODES, find_node, list_nodes
from zlayer_native.cli.output import Cell, Format, ListFormat

app = options.new_app("List, inspect, drain and remove nodes.", group=True)

_Node = Annotated[
    str, typer.Argument(metavar="NODE", help="Its id, or a name that no other node has.")
]


class State(enum.StrEnum):
    """States that a list can be asked for."""

    READY = "Ready"
    SUSPECT = "Suspect"
    UNREACHABLE = "Unreachable"
    DRAINING = "Draining"
    LEFT = "Left"


@app.command("ls")
def list_command(
    label: Annotated[
        list[str] | None,
        typer.Option("--label", "-l", metavar="KEY=VALUE", help="Only with it; repeatable."),
    ] = None,
    status: Annotated[
        State | None, typer.Option(case_sensitive=False, help="Only in this state.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many; otherwise all.")
    ] = None,
    form: options.ListOutput = ListFormat.TABLE,
    addr: options.Addr = options.DEFAULT_ADDR,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    timeout: options.Timeout = 10.0,
) -> None:
    """List nodes in order of id."""
    labels = options.labels(label, "--label")
    with connect(addr, token_file, ca, timeout) as api:
        state = None if status is None else status.value
        page = list_nodes(api, labels=labels, state=state, limit=limit)
    if output.is_document(form):
        output.document(form, page)
    elif form is ListFormat.NAME:
        output.names(node["id"] for node in page["items"])
    else:
        wide = form is ListFormat.WIDE
        output.table(_HEADERS + _WIDE_HEADERS * wide, [_row(node, wide) for node in page["items"]])
        if not page["items"]:
            output.note("no nodes")


_HEADERS = ("ID", "NAME", "STATE", "REASON", "SINCE", "LAST BEAT", "TTL", "LABELS")
_WIDE_HEADERS = ("ADDRESS", "NEXT BEAT", "LEASE LEFT", "CERTIFICATE", "VERSION", "TOKEN")


def _row(node: dict[str, Any], wide: bool) -> list[Cell]:
    row = [
        Cell(node["id"]),
        Cell(node["name"]),
        output.state(node["state"]),
        Cell(node["reason"]),
        Cell(text.since(node["since_ms"])),
        Cell(text.ago(node["last_beat_ago_ms"])),
        Cell(text.span(node["ttl_ms"])),
        Cell(text.labels(node["labels"])),
    ]
    if wide:
        row += [
            Cell(node["address"]),
            Cell(text.span(node["next_beat_in_ms"])),
            Cell(text.span(node["lease_remaining_ms"])),
            Cell(text.until(node["certificate_not_after_ms"])),
            Cell(node["profile"].get("version")),
            Cell(node["token_jti"]),
        ]
    return row


@app.command()
def inspect(
    node: _Node,
    form: options.Output = Format.TABLE,
    addr: options.Addr = options.DEFAULT_ADDR,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    timeout: options.Timeout = 10.0,
) -> None:
    """Say all that is known of one node."""
    with connect(addr, token_file, ca, timeout) as api:
        found = find_node(api, node)
    if output.is_document(form):
        output.document(form, found)
        return
    profile, resources = found["profile"], found["resources"] or {}
    machine = " ".join(str(profile[key]) for key in ("os", "arch") if profile.get(key))
    output.facts(
        [
            ("id", Cell(found["id"])),
            ("name", Cell(found["name"])),
            ("role", Cell(found["role"])),
            ("state", output.state(found["state"])),
            ("reason", Cell(found["reason"])),
            ("since", _moment(found["since_ms"])),
            ("enrolled", _moment(found["enrolled_ms"])),
            ("draining", Cell("yes" if found["draining"] else "no")),
            ("labels", Cell(text.labels(found["labels"]))),
            ("connected", Cell("yes" if found["connected"] else "no")),
            ("address", Cell(found["address"])),
            ("last beat", Cell(text.ago(found["last_beat_ago_ms"]))),
            ("next beat in", Cell(text.span(found["next_beat_in_ms"]))),
            ("lease left", Cell(text.span(found["lease_remaining_ms"]))),
            ("ttl", Cell(text.span(found["ttl_ms"]))),
            ("cpu", Cell(_cpu(profile, resources))),
            ("memory", Cell(_of(resources.get("memory_bytes"), profile.get("memory_bytes")))),
            ("disk", Cell(_of(resources.get("disk_bytes"), profile.get("disk_bytes")))),
            ("machine", Cell(machine)),
            ("version", Cell(profile.get("version"))),
            ("certificate", Cell(text.until(found["certificate_not_after_ms"]))),
            ("token", Cell(found["token_jti"])),
            ("incarnation", Cell(found["incarnation"])),
        ]
    )


def _moment(unix_ms: float) -> Cell:
    return Cell(f"{text.since(unix_ms)} ({text.local_time(unix_ms)})")


def _cpu(profile: dict[str, Any], resources: dict[str, Any]) -> str:
    used = resources.get("cpu_millicores")
    cores = f"{profile.get('cpu_cores') or '?'} cores"
    return cores if used is None else f"{used / 1000:.2f} of {cores}"


def _of(used: float | None, whole: float | None) -> str:
    return f"{text.size(used)} of {text.size(whole or None)}"


@app.command()
def remove(
    node: _Node,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    form: options.Output = Format.TABLE,
    addr: options.Addr = options.DEFAULT_ADDR,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    timeout: options.Timeout = 10.0,
) -> None:
    """Remove a node for good: its stream is closed and its certificate is of no use from then on.

    The machine can come back with a new token only, as a new node.
    """
    if not yes and not sys.stdin.isatty():
        raise typer.BadParameter("there is no terminal to ask on: it needs --yes")
    with connect(addr, token_file, ca, timeout) as api:
        found = find_node(api, node)
        if not yes and not _confirmed(found):
            output.note("nothing was removed")
            raise typer.Exit(exits.ERROR)
        answer = api.delete(f"{NODES}/{int(found['id'])}")
    if output.is_document(form):
        output.document(form, answer)
    else:
        output.plain_line(f"removed {found['id']} ({found['name']})")


def _confirmed(node: dict[str, Any]) -> bool:
    named = f"{node['id']} ({node['name']}, {node['state']})"
    question = text.plain(f"Remove node {named} for good? [y/N]: ")
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@app.command()
def drain(
    node: _Node,
    form: options.Output = Format.TABLE,
    addr: options.Addr = options.DEFAULT_ADDR,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    timeout: options.Timeout = 10.0,
) -> None:
    """Place nothing new on a node. It stays a member and keeps beating."""
    with connect(addr, token_file, ca, timeout) as api:
        _set_draining(api, node, form, draining=True)


@app.command()
def undrain(
    node: _Node,
    form: options.Output = Format.TABLE,
    addr: options.Addr = options.DEFAULT_ADDR,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    timeout: options.Timeout = 10.0,
) -> None:
    """End a node's draining."""
    with connect(addr, token_file, ca, timeout) as api:
        _set_draining(api, node, form, draining=False)


def _set_draining(api: Api, node: str, form: Format, *, draining: bool) -> None:
    found = find_node(api, node)
    answer = api.put(f"{NODES}/{int(found['id'])}/drain", {"draining": draining})
    if output.is_document(form):
        output.document(form, answer)
    else:
        word = "draining" if answer["draining"] else "not draining"
        output.plain_line(f"{word} {found['id']} ({found['name']})")
