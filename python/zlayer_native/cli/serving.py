"""A server put together: its part of the cluster, and the HTTP API on it.

Started from the inside out, so that nothing is reachable before what it needs; stopped in reverse.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
from pathlib import Path
from typing import Any

import structlog

from zlayer_native._bridge.server import Server
from zlayer_native.api import ApiOptions, create_app
from zlayer_native.cli.addresses import Addresses
from zlayer_native.cli.admin import api_tokens
from zlayer_native.cli.listener import HttpListener
from zlayer_native.cluster.core import CoreCluster
from zlayer_native.cluster.formation import api_address, has_leader, reachable
from zlayer_native.cluster.open import opened
from zlayer_native.config import ClusterConfig, Config, StaticConfig, WorkerTierServerConfig
from zlayer_native.config.addresses import is_wildcard, split
from zlayer_native.errors import NotSupported
from zlayer_native.identity import files

_log = structlog.get_logger("zlayer.server")


class ServerProcess:
    """Everything that one server runs. Made with `start`."""

    def __init__(self, data_dir: Path, server: CoreCluster, http: HttpListener) -> None:
        self._data_dir = data_dir
        self._server = server
        self._core = server.core
        self._http = http
        self._stopping = asyncio.Event()

    @classmethod
    async def start(cls, config: Config) -> ServerProcess:
        """Starts a server; it answers workers and operators when this returns.

        Raises:
            NotSupported: a mode that has no daemon yet.
            ConfigError: an address can't be used.
            IdentityError: the CA's files, or the data directory, can't be used.
            CoreError: the worker port or the control log can't be used.
        """
        cluster = supported(config)
        files.make_private_dir(config.data_dir)
        # Before anything runs: a second server on the same address changes nothing.
        http = HttpListener.bind(config.http)
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(http.stop)
            tokens = api_tokens(config.data_dir)
            api_addr = api_address(config, http.address)
            server = await opened(config, api_addr=api_addr)
            undo.push_async_callback(server.close)
            core = server.core
            process = cls(config.data_dir, server, http)
            options = ApiOptions(
                hosts=_hosts(config),
                join_address=_join_address(cluster, core.address),
                scratch=config.data_dir / "run",
                is_ready=lambda: not process._stopping.is_set() and has_leader(core),
                stopping=process._stopping,
            )
            addresses = Addresses(
                pid=os.getpid(),
                cluster_id=server.authority.cluster_id,
                api=http.url,
                workers=core.address,
            )
            http.start(create_app(core, tokens, server.authority.token_signer, options))
            addresses.write(config.data_dir)
            undo.pop_all()
        return process

    @property
    def core(self) -> Server:
        """The running core."""
        return self._core

    @property
    def url(self) -> str:
        """Of the HTTP API."""
        return self._http.url

    def announce(self, config: Config) -> None:
        """The one log line that says where everything is."""
        _log.info(
            "the server is up",
            workers=self._core.address,
            api=self.url,
            data_dir=str(config.data_dir),
            pid=os.getpid(),
        )

    async def wait(self, stopping: asyncio.Event) -> None:
        """Returns when `stopping` is set.

        Raises:
            CoreStopped: the core ended by itself.
        """
        stop = asyncio.ensure_future(stopping.wait())
        awaited: set[asyncio.Future[Any]] = {stop, self._core.failed}
        try:
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        if self._core.failed.done():
            raise self._core.failed.result()

    async def stop(self) -> None:
        """Ends it all. Workers are told to come back; none is recorded as lost."""
        self._stopping.set()
        Addresses.withdraw(self._data_dir)
        await self._http.stop()
        await self._server.close()


def supported(config: Config) -> ClusterConfig:
    """The `cluster` block, if this version can serve it.

    Raises:
        NotSupported: with what can be done instead.
    """
    cluster = config.cluster
    if cluster.is_worker_tier_worker():
        raise NotSupported("this configuration is a worker's: run `zlayerd worker`")
    if isinstance(cluster, StaticConfig):
        raise NotSupported("mode static is not built yet: raft and worker-tier are")
    return cluster


def _join_address(cluster: ClusterConfig, listening: str) -> str:
    """`host:port` that workers are told to dial; empty where there are none."""
    if not isinstance(cluster, WorkerTierServerConfig):
        return ""
    return str(cluster.worker_advertise or reachable(listening))


def _hosts(config: Config) -> frozenset[str]:
    """Names that a request may address this server by."""
    names = {platform.node(), config.name, split(config.http.bind)[0]}
    if config.http.advertise:
        names.add(split(config.http.advertise)[0])
    return frozenset(name.lower() for name in names if name and not is_wildcard(name))
