"""`zlayerd raft snapshot`: backups of the control state, and a new cluster out of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from zlayer_native.cli import options, output, text
from zlayer_native.cli.client import connect
from zlayer_native.cli.output import Cell, Format
from zlayer_native.errors import ConfigError

app = options.new_app("Save a backup, look into one, start a new cluster with one.", group=True)

_File = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]
#: Seconds for a server to write it and for it to come over.
_SAVE_SECS = 60.0


@app.command()
def save(
    file: _File,
    addr: options.Addr = options.DEFAULT_ADDR,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    timeout: options.Timeout = _SAVE_SECS,
) -> None:
    """Save the control state as it is now. The backup holds no key and no token's line."""
    if file.exists():
        raise ConfigError(f"{file}: is there already; a backup replaces nothing")
    with connect(addr, token_file, ca, timeout) as api:
        size = api.download("/api/v1/raft/snapshot", file)
    output.plain_line(f"{file}: {text.size(size)}, {_summary(_inspect(file))}")


@app.command()
def inspect(file: _File, form: options.Output = Format.TABLE) -> None:
    """Check a backup, and say what it holds."""
    header = _inspect(file)
    if output.is_document(form):
        output.document(form, header)
        return
    output.facts(
        [
            ("cluster", Cell(header["cluster_id"])),
            ("index", Cell(header["applied_index"])),
            ("nodes", Cell(header["nodes"])),
            ("saved", Cell(f"{text.since(header['created_ms'])}")),
            ("state hash", Cell(header["hash"])),
        ]
    )


@app.command()
def restore(
    file: _File,
    data_dir: Annotated[
        Path, typer.Option(help="Of the first server of the new cluster; empty or not there yet.")
    ],
    cluster_id: Annotated[
        str | None, typer.Option(help="Id of the new cluster; a random one unless given.")
    ] = None,
    node_id: Annotated[int, typer.Option(min=1, max=999, help="Id of its first server.")] = 1,
) -> None:
    """Make a new cluster, with a CA of its own, that knows what the backup knows.

    Certificates and tokens of the old cluster are of no use there: workers enrol again. Start it
    with `zlayerd server --data-dir DIR`.
    """
    from zlayer_native._bridge.backup import restore_backup
    from zlayer_native.cli.admin import api_tokens
    from zlayer_native.identity import files
    from zlayer_native.identity.authority import Authority
    from zlayer_native.identity.names import new_cluster_id

    header = _inspect(file)
    new_id = cluster_id or new_cluster_id()
    if new_id == header["cluster_id"]:
        raise ConfigError(
            f"--cluster-id {new_id}: is the old cluster's; certificates of the old cluster must"
            " be of no use in the new one, so it has another id"
        )
    if data_dir.exists() and any(data_dir.iterdir()):
        raise ConfigError(f"--data-dir {data_dir}: is not empty; a restore overwrites nothing")
    files.make_private_dir(data_dir)
    authority = Authority.create(data_dir / "cluster", new_id)
    restore_backup(file, data_dir / "control", authority.cluster_id, node_id)
    api_tokens(data_dir)
    output.plain_line(f"cluster {authority.cluster_id} with {_summary(header)}")
    output.note(f"start it: zlayerd server --data-dir {data_dir}")


def _inspect(file: Path) -> dict[str, Any]:
    from zlayer_native._bridge.backup import inspect_backup

    return inspect_backup(file)


def _summary(header: dict[str, Any]) -> str:
    return f"{header['nodes']} nodes at index {header['applied_index']} of {header['cluster_id']}"
