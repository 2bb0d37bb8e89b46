"""`zlayerd raft`: the servers of the cluster. Any of them can be asked; the leader does it."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from zlayer_native.cli import exits, options, output, text
from zlayer_native.cli.client import connect
from zlayer_native.cli.output import Cell, Format, ListFormat
from zlayer_native.cli.raft_snapshot import app as snapshot

RAFT = "/api/v1/raft"

#: Seconds; a new server gets the whole log before it votes.
_CHANGE_SECS = 60.0

app = options.new_app("List, add and remove servers, hand over, back up.", group=True)
app.add_typer(snapshot, name="snapshot")

_Id = Annotated[int, typer.Argument(min=1, max=999, metavar="ID", help="The server's id.")]


@app.command()
def peers(
    form: options.ListOutput = ListFormat.TABLE,
    addr: options.Addr = options.DEFAULT_ADDR,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    timeout: options.Timeout = 10.0,
) -> None:
    """List the servers as the leader sees them."""
    with connect(addr, token_file, ca, timeout) as api:
        seen = api.get(f"{RAFT}/peers")
    if output.is_document(form):
        output.document(form, seen)
    elif form is ListFormat.NAME:
        output.names(item["id"] for item in seen["items"])
    else:
        output.table(_HEADERS, [_row(item, seen.get("leader")) for item in seen["items"]])
        if seen.get("leader") is None:
            output.note("no server leads: this is what the asked one knows by itself")
        if seen.get("is_changing"):
            output.note("the members are being changed")


_HEADERS = ("ID", "ROLE", "RAFT", "API", "HEARD", "LAG", "NOTE")


def _row(item: dict[str, Any], leader: int | None) -> list[Cell]:
    role = "leader" if item["id"] == leader else "voter" if item["voter"] else "learner"
    return [
        Cell(item["id"]),
        Cell(role, "green" if role == "leader" else ""),
        Cell(item["raft_addr"]),
        Cell(item["api_addr"]),
        Cell("-" if item["id"] == leader else text.ago(item.get("silent_ms"))),
        Cell(item.get("lag")),
        Cell(item.get("refused") or ""),
    ]


@app.command()
def add(
    server: _Id,
    raft: Annotated[str, typer.Option("--raft", metavar="HOST:PORT", help="Its Raft port.")],
    api_addr: Annotated[str, typer.Option("--api", metavar="HOST:PORT", help="Its HTTP API.")],
    learner: Annotated[
        bool, typer.Option("--learner", help="It gets the log and does not vote.")
    ] = False,
    form: options.Output = Format.TABLE,
    addr: options.Addr = options.DEFAULT_ADDR,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    timeout: options.Timeout = _CHANGE_SECS,
) -> None:
    """Add a server that runs, has this cluster's CA and belongs to no cluster yet.

    `zlayerd server --join` does all of that by itself.
    """
    body = {"id": server, "raft_addr": raft, "api_addr": api_addr, "learner": learner}
    with connect(addr, token_file, ca, timeout) as api:
        answer = api.post(f"{RAFT}/peers", body)
    if output.is_document(form):
        output.document(form, answer)
    else:
        output.plain_line(f"server {server} {'gets the log' if learner else 'votes'}")


@app.command()
def remove(
    server: _Id,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    form: options.Output = Format.TABLE,
    addr: options.Addr = options.DEFAULT_ADDR,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    timeout: options.Timeout = _CHANGE_SECS,
) -> None:
    """Remove a server for good: it votes no more, and its id is never used again."""
    if not yes:
        _confirm(f"Remove server {server} for good? [y/N]: ")
    with connect(addr, token_file, ca, timeout) as api:
        answer = api.delete(f"{RAFT}/peers/{server}")
    if output.is_document(form):
        output.document(form, answer)
    else:
        output.plain_line(f"removed server {server}")


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter("there is no terminal to ask on: it needs --yes")
    print(question, end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        output.note("nothing was removed")
        raise typer.Exit(exits.ERROR)


@app.command("transfer-leadership")
def transfer_leadership(
    to: Annotated[
        int | None,
        typer.Option("--to", min=1, max=999, help="Which; otherwise the one that lacks least."),
    ] = None,
    form: options.Output = Format.TABLE,
    addr: options.Addr = options.DEFAULT_ADDR,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    timeout: options.Timeout = 10.0,
) -> None:
    """Let another server lead: before this one's machine is taken down, say."""
    with connect(addr, token_file, ca, timeout) as api:
        answer = api.post(f"{RAFT}/leader", {} if to is None else {"to": to})
    if output.is_document(form):
        output.document(form, answer)
    else:
        output.plain_line(f"server {answer['leader']} leads")
