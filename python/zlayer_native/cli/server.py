"""`zlayerd server`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from zlayer_native.config import Config

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

#: What `zlayerd server` means when no configuration says what kind of cluster this is.
ALONE = {
    "cluster.mode": "worker-tier",
    "cluster.role": "server",
    "cluster.node_id": 1,
    "cluster.peers": [{"id": 1, "raft_addr": "127.0.0.1:3671", "api_addr": "127.0.0.1:3669"}],
}


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
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any configuration key; repeatable."),
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Run a server: without a configuration a cluster of one, with its state in the data folder.

    The first start makes the cluster: its id, its CA, and the local operator's token.
    """
    from zlayer_native.cli.settings import load

    flags: dict[str, Any] = {
        "name": name,
        "data_dir": None if data_dir is None else str(data_dir),
        "http.bind": http,
        "cluster.worker_grpc_addr": workers,
        "log.level": log_level,
    }
    _run(load(config, flags, settings, implied=ALONE))


def _run(config: Config) -> None:
    from zlayer_native.cli import logs, loop, notify
    from zlayer_native.cli.serving import ServerProcess, supported

    supported(config)
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
