"""`zlayerd server`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from zlayer_native.config import Config

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

#: Where the other servers find one that says nothing of it: on this machine alone.
_RAFT_ADDR, _API_ADDR = "127.0.0.1:3671", "127.0.0.1:3669"


def alone(raft: str | None = None) -> dict[str, Any]:
    """What `zlayerd server` means when no configuration says what kind of cluster this is.

    Args:
        raft: `host:port` where other servers will dial this one; port 0 takes a free one.
    """
    is_any_port = raft is not None and raft.endswith(":0")
    raft_addr = _RAFT_ADDR if raft is None or is_any_port else raft
    implied: dict[str, Any] = {
        "cluster.mode": "worker-tier",
        "cluster.role": "server",
        "cluster.node_id": 1,
        "cluster.peers": [{"id": 1, "raft_addr": raft_addr, "api_addr": _API_ADDR}],
    }
    if is_any_port:
        implied["cluster.raft_bind"] = raft
    return implied


@app.command()
def server(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", envvar="ZLAYER_CONFIG", help="YAML, TOML or JSON file."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of this server.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where state is kept.")] = None,
    http: Annotated[str | None, typer.Option(help="host:port of the HTTP API.")] = None,
    workers: Annotated[str | None, typer.Option(help="host:port that workers dial.")] = None,
    raft: Annotated[
        str | None,
        typer.Option(help="host:port that the other servers dial; where no peers are configured."),
    ] = None,
    join: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Join a cluster with the token for servers in this file, - for standard input;"
            " first start only.",
        ),
    ] = None,
    servers: Annotated[
        list[str] | None,
        typer.Option(
            "--server",
            metavar="HOST:PORT",
            help="With --join: a server's worker port; repeatable.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any configuration key; repeatable."),
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Run a server: without a configuration a cluster of one, with its state in the data folder.

    The first start makes the cluster: its id, its CA, and the local operator's token; or, with
    --join, makes this server one more of a cluster that is there.
    """
    from zlayer_native.cli import joining
    from zlayer_native.cli.serving import supported
    from zlayer_native.cli.settings import resolved
    from zlayer_native.config import WorkerTierServerConfig
    from zlayer_native.errors import NotSupported

    flags: dict[str, Any] = {
        "name": name,
        "data_dir": None if data_dir is None else str(data_dir),
        "http.bind": http,
        "cluster.worker_grpc_addr": workers,
        "log.level": log_level,
    }
    found = resolved(config, flags, settings, implied=alone(raft))
    _check_raft(found.config, raft)
    cluster = supported(found.config)
    if isinstance(cluster, WorkerTierServerConfig):
        if join is not None:
            joining.join(found, cluster, token_file=join, servers=servers or ())
        _run(joining.as_joined(found, cluster))
    elif join is not None:
        raise NotSupported(f"--join: mode {cluster.mode} takes its peers from the configuration")
    else:
        _run(found.config)


def _check_raft(config: Config, raft: str | None) -> None:
    """Refuses `--raft` where the configuration lists peers: it would be of no effect."""
    from zlayer_native.config.addresses import parse_bind
    from zlayer_native.errors import ConfigError

    if raft is None:
        return
    try:
        wanted = parse_bind(raft)
    except ValueError as error:
        raise ConfigError(f"--raft {raft!r}: {error}") from None
    cluster: Any = config.cluster
    peers = getattr(cluster, "peers", ())
    if wanted not in {getattr(cluster, "raft_bind", None), *(peer.raft_addr for peer in peers)}:
        raise ConfigError(
            "--raft: the configuration says where the servers are; set this one's raft_addr in"
            " cluster.peers, or cluster.raft_bind"
        )


def _run(config: Config) -> None:
    from zlayer_native.cli import logs, loop, notify
    from zlayer_native.cli.serving import ServerProcess

    logs.configure(config.log.level, config.log.format)

    async def work(stopping: asyncio.Event) -> None:
        process = await ServerProcess.start(config)
        try:
            process.announce(config)
            notify.ready()
            await process.wait(stopping)
        finally:
            notify.stopping()
            await process.stop()

    loop.run(work)
