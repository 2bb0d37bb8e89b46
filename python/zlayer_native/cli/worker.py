"""`zlayerd worker`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zlayer_native.errors import ConfigError, NotSupported

if TYPE_CHECKING:
    from zlayer_native.config import Config, WorkerTierWorkerConfig
    from zlayer_native.worker.agent import Agent, Settings

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

#: What `zlayerd worker` means when no configuration says what kind of cluster this is.
A_WORKER = {"cluster.mode": "worker-tier", "cluster.role": "worker"}

#: Time that systemd gives us until the next round of enrolment, seconds: rounds are 15 s apart.
_STILL_STARTING_SECS = 120.0


@app.command()
def worker(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", envvar="ZLAYER_CONFIG", help="YAML, TOML or JSON file."),
    ] = None,
    servers: Annotated[
        list[str] | None,
        typer.Option("--server", metavar="HOST:PORT", help="A server's worker port; repeatable."),
    ] = None,
    token_file: Annotated[
        str | None,
        typer.Option(help="File with the token's line, - for standard input; first start only."),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="KEY=VALUE", help="What work is placed by; repeatable."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of this worker.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where state is kept.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any configuration key; repeatable."),
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Run a worker: the first start enrols with a token, later ones have the identity on disk.

    SIGTERM and Ctrl-C say goodbye first. Servers that can't be reached are tried again for ever.
    """
    from zlayer_native.cli.settings import load

    flags: dict[str, Any] = {
        "name": name,
        "data_dir": None if data_dir is None else str(data_dir),
        "log.level": log_level,
        "cluster.servers": servers or None,
        "cluster.token_file": token_file,
        "cluster.labels": _labels(labels or ()) or None,
    }
    _run(load(config, flags, settings, implied=A_WORKER))


def _labels(texts: Sequence[str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--label {text!r}: expected KEY=VALUE, such as zone=a")
        labels[key] = value
    return labels


def _supported(config: Config) -> WorkerTierWorkerConfig:
    from zlayer_native.config import WorkerTierWorkerConfig

    cluster = config.cluster
    if cluster.is_worker_tier_server():
        raise NotSupported("this configuration is a server's: run `zlayerd server`")
    if not isinstance(cluster, WorkerTierWorkerConfig):
        mode = getattr(cluster, "mode", "")  # Of the modes, not of their base.
        raise NotSupported(f"mode {mode} is not built yet: only worker-tier is")
    return cluster


def settings_of(config: Config) -> Settings:
    """What the agent is run with.

    Raises:
        NotSupported: a mode that is not built, or another role.
    """
    from zlayer_native.worker.agent import Settings
    from zlayer_native.worker.token_source import TokenSource

    cluster = _supported(config)
    return Settings(
        servers=cluster.servers,
        identity_dir=cluster.identity_dir,
        data_dir=config.data_dir,
        name=config.name,
        labels=dict(cluster.labels),
        token=TokenSource(file=cluster.token_file),
        enrol_secs=None,
    )


def _run(config: Config) -> None:
    from zlayer_native.cli import logs, loop, notify
    from zlayer_native.identity.hardening import forbid_core_dumps
    from zlayer_native.worker.agent import Agent

    settings = settings_of(config)
    logs.configure(config.log.level, config.log.format)
    forbid_core_dumps()

    async def work(stopping: asyncio.Event) -> None:
        agent = Agent(settings, on_wait=_tell_wait, on_change=lambda: _tell_change(agent))
        membership = asyncio.create_task(agent.run(), name="membership")
        signal = asyncio.create_task(stopping.wait(), name="signal")
        try:
            await asyncio.wait({membership, signal}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            notify.stopping()
            signal.cancel()
        membership.cancel()
        await asyncio.wait({membership})
        if not membership.cancelled():
            membership.result()

    loop.run(work)


def _tell_wait(error: Exception) -> None:
    """A round of enrolment failed: systemd is asked for more time."""
    from zlayer_native.cli import notify

    notify.still_starting(_STILL_STARTING_SECS)
    notify.status(f"enrolling: {error}")


def _tell_change(agent: Agent) -> None:
    """Ready is who has an identity: from then on it looks after itself."""
    from zlayer_native.cli import notify

    state = agent.state()
    where = (
        f" to {state.server}" if state.server else f": {state.last_error or 'for the first time'}"
    )
    notify.ready(f"node {state.node_id}, {state.phase}{where}")
