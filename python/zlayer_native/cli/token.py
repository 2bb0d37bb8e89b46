"""`zlayerd token`: the tokens that let workers and servers in."""

from __future__ import annotations

import enum
import shlex
import time
from typing import Annotated, Any

import typer

from zlayer_native.cli import options, output, text
from zlayer_native.cli.client import connect
from zlayer_native.cli.output import Cell, Format, ListFormat
from zlayer_native.cli.tokens import TOKENS, find_token, read_line, read_offline
from zlayer_native.errors import TokenInvalid

app = options.new_app("Make, list, inspect and revoke the tokens that let machines in.", group=True)

_Jti = Annotated[str, typer.Argument(metavar="ID", help="Id of a token, or how it begins.")]


class Role(enum.StrEnum):
    """What a token makes of a machine."""

    WORKER = "worker"
    SERVER = "server"


@app.command()
def create(
    role: Annotated[
        Role,
        typer.Option(
            help="What it makes of a machine. Whoever holds one for servers can get the CA's key."
        ),
    ] = Role.WORKER,
    ttl: Annotated[str, typer.Option(metavar="DURATION", help="How long it admits.")] = "1h",
    uses: Annotated[int, typer.Option(min=1, help="How many machines it admits.")] = 1,
    name: Annotated[str, typer.Option(help="For people.")] = "",
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="KEY=VALUE", help="Every worker gets it; repeatable."),
    ] = None,
    allow_label: Annotated[
        list[str] | None,
        typer.Option("--allow-label", metavar="KEY", help="Workers may set it; repeatable."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the token alone.")] = False,
    form: options.Output = Format.TABLE,
    addr: options.Addr = options.DEFAULT_ADDR,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    timeout: options.Timeout = 10.0,
) -> None:
    """Make a token and print the command that joins a machine.

    The token is a secret and is shown this once: whoever holds it can join.
    """
    wanted = {
        "role": role.value,
        "ttl_secs": options.seconds(ttl, "--ttl"),
        "uses": uses,
        "name": name,
        "labels": options.labels(label, "--label"),
        "labels_allowed": allow_label or [],
    }
    with connect(addr, token_file, ca, timeout) as api:
        made = api.post(TOKENS, wanted)
    if quiet:
        output.plain_line(made["token"])
    elif output.is_document(form):
        output.document(form, made)
    else:
        _print_new(made)


#: How a machine joins; `--raft` is where the other servers will dial a new one.
_JOINS = {
    Role.WORKER: "worker --server {server} --token-file -",
    Role.SERVER: "server --server {server} --join - --raft HOST:3671",
}


def _print_new(made: dict[str, Any]) -> None:
    # Quoted: what a server answers is pasted into shells.
    server = shlex.quote(str(made["join_address"] or "HOST:3670"))
    line = shlex.quote(str(made["token"]))
    joins = _JOINS[Role(made["role"])].format(server=server)
    for content in (
        "Run this on each machine that joins:",
        "",
        f"  echo {line} | zlayerd {joins}",
        "",
        "Or put the token into a file of mode 0600 and name it in the place of the `-`.",
        "It is a secret, and it is not shown again.",
        "",
    ):
        output.plain_line(content)
    output.facts(
        [
            ("id", Cell(made["jti"])),
            ("name", Cell(made["name"])),
            ("role", Cell(made["role"])),
            ("expires", _expiry(made)),
            ("uses", Cell(made["uses_max"])),
            ("labels", Cell(text.labels(made["labels"]))),
            ("workers may set", Cell(",".join(made["labels_allowed"]))),
            ("cluster", Cell(made["cluster_id"])),
            *(("CA sha256", Cell(fingerprint)) for fingerprint in _fingerprints(made["token"])),
        ]
    )


def _fingerprints(line: str) -> list[str]:
    try:
        return list(read_offline(line)["ca_fingerprints"])
    except TokenInvalid:  # Of a newer version; the machines that join will tell.
        return ["unknown to this version"]


@app.command("ls")
def list_tokens(
    form: options.ListOutput = ListFormat.TABLE,
    addr: options.Addr = options.DEFAULT_ADDR,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    timeout: options.Timeout = 10.0,
) -> None:
    """List tokens with their uses, also those that admit nobody any more."""
    with connect(addr, token_file, ca, timeout) as api:
        page = api.get(TOKENS)
    items = page["items"]
    if output.is_document(form):
        output.document(form, page)
    elif form is ListFormat.NAME:
        output.names(item["jti"] for item in items)
    else:
        wide = form is ListFormat.WIDE
        output.table(_HEADERS + _WIDE_HEADERS * wide, [_row(item, wide) for item in items])
        if not items:
            output.note("no tokens; make one with `zlayerd token create`")


_HEADERS = ("ID", "NAME", "STATE", "USES", "EXPIRES")
_WIDE_HEADERS = ("LABELS", "MAY SET", "MADE")


def _row(item: dict[str, Any], wide: bool) -> list[Cell]:
    row = [
        Cell(item["jti"]),
        Cell(item["name"]),
        _state(item),
        Cell(f"{len(item['uses'])}/{item['uses_max']}"),
        Cell(text.until(item["expires_ms"])),
    ]
    if wide:
        row.append(Cell(text.labels(item["labels"])))
        row.append(Cell(",".join(item["labels_allowed"])))
        row.append(Cell(text.since(item["created_ms"])))
    return row


def _state(item: dict[str, Any]) -> Cell:
    if item["revoked"]:
        return Cell("revoked", "red")
    if item["expires_ms"] <= time.time() * 1000:
        return Cell("expired", "dim")
    if len(item["uses"]) >= item["uses_max"]:
        return Cell("used up", "dim")
    return Cell("live", "green")


@app.command()
def revoke(
    jti: _Jti,
    form: options.Output = Format.TABLE,
    addr: options.Addr = options.DEFAULT_ADDR,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    timeout: options.Timeout = 10.0,
) -> None:
    """Revoke a token: it admits nobody from now on. Machines that it let in stay."""
    with connect(addr, token_file, ca, timeout) as api:
        found = find_token(api, jti)
        answer = api.delete(f"{TOKENS}/{found}")
    if output.is_document(form):
        output.document(form, answer)
    else:
        output.plain_line(f"revoked {answer['jti']}")


@app.command()
def inspect(
    what: Annotated[
        str,
        typer.Argument(
            metavar="ID|TOKEN|FILE|-",
            help="An id (or how it begins) asks the server. A token, a file that holds one, or -"
            " for standard input is read here, without any server.",
        ),
    ],
    form: options.Output = Format.TABLE,
    addr: options.Addr = options.DEFAULT_ADDR,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    timeout: options.Timeout = 10.0,
) -> None:
    """Say what a token admits. The token itself is never printed.

    Compare the cluster and the CA with what the cluster's operators tell you: a machine that joins
    with a forged token belongs to whoever forged it.
    """
    line = read_line(what)
    if line is not None:
        _print_offline(form, read_offline(line))
        return
    with connect(addr, token_file, ca, timeout) as api:
        item = api.get(f"{TOKENS}/{find_token(api, what)}")
    if output.is_document(form):
        output.document(form, item)
        return
    nodes = sorted(item["uses"].values())
    output.facts(
        [
            ("id", Cell(item["jti"])),
            ("name", Cell(item["name"])),
            ("state", _state(item)),
            ("expires", _expiry(item)),
            ("uses", Cell(f"{len(nodes)} of {item['uses_max']}")),
            ("nodes", Cell(",".join(map(str, nodes)))),
            ("labels", Cell(text.labels(item["labels"]))),
            ("workers may set", Cell(",".join(item["labels_allowed"]))),
            ("made", Cell(text.since(item["created_ms"]))),
        ]
    )


def _print_offline(form: Format, read: dict[str, Any]) -> None:
    if output.is_document(form):
        output.document(form, read)
        return
    output.facts(
        [
            ("cluster", Cell(read["cluster_id"])),
            *(("CA sha256", Cell(fingerprint)) for fingerprint in read["ca_fingerprints"]),
            ("id", Cell(read["jti"])),
            ("expires", _expiry(read)),
            ("uses", Cell(f"at most {read['uses_max']}")),
            ("labels", Cell(text.labels(read["labels"]))),
            ("workers may set", Cell(",".join(read["labels_allowed"]))),
            ("signature", Cell("not checked: only the cluster's servers can", "yellow")),
        ]
    )


def _expiry(item: dict[str, Any]) -> Cell:
    expires_ms = item["expires_ms"]
    return Cell(f"{text.until(expires_ms)} ({text.local_time(expires_ms)})")
