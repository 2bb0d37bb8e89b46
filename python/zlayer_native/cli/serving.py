"""A server put together: authority, core, enrolment, HTTP API, and certificates that stay new.

Started from the inside out, so that nothing is reachable before what it needs; stopped in reverse.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import resource
from pathlib import Path
from typing import Any

import structlog

from zlayer_native._bridge.server import Server
from zlayer_native.api import ApiOptions, create_app
from zlayer_native.cli.addresses import Addresses
from zlayer_native.cli.admin import api_tokens
from zlayer_native.cli.listener import HttpListener
from zlayer_native.cli.peers import (
    api_address,
    form_alone,
    has_leader,
    note_address,
    raft_options,
    reachable,
)
from zlayer_native.config import Config, WorkerTierServerConfig
from zlayer_native.config.addresses import is_wildcard, split
from zlayer_native.enroll.join_server import Joined
from zlayer_native.enroll.records import CoreRecords
from zlayer_native.enroll.serve import EnrollmentServer
from zlayer_native.enroll.serve import serve as serve_enrollment
from zlayer_native.enroll.service import EnrollmentService, LeaseTerms
from zlayer_native.errors import CoreStopped, IdentityError, NotSupported, ZLayerError
from zlayer_native.identity import files
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.hardening import forbid_core_dumps
from zlayer_native.identity.server_certificates import ServerCertificates

#: Seconds between two looks at the server certificate's age; it is replaced at half of its life.
_CERTIFICATE_CHECK_SECS = 60.0
#: Seconds for sessions to be told goodbye and the log to be flushed.
_STOP_SECS = 5.0

_log = structlog.get_logger("zlayer.server")


class ServerProcess:
    """Everything that one server runs. Made with `start`."""

    def __init__(
        self, data_dir: Path, core: Server, enrollment: EnrollmentServer, http: HttpListener
    ) -> None:
        self._data_dir = data_dir
        self._core = core
        self._enrollment = enrollment
        self._http = http
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

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
        forbid_core_dumps()
        _allow_many_files()
        files.make_private_dir(config.data_dir)
        # Before anything runs: a second server on the same address changes nothing.
        http = HttpListener.bind(config.http)
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(http.stop)
            authority = open_authority(cluster)
            certificates = ServerCertificates(authority, cluster.worker_ca_dir, cluster.node_id)
            tokens = api_tokens(config.data_dir)
            socket = config.data_dir / "run" / "join.sock"
            api_addr = api_address(config, http.address)
            core = await Server.start(
                _core_options(config, cluster, authority, certificates, socket, api_addr)
            )
            undo.push_async_callback(core.stop)
            own = _own_address(cluster, core, api_addr)
            if len(cluster.peers) == 1 and Joined.read(cluster.worker_ca_dir) is None:
                await form_alone(core, own)
            service = EnrollmentService(
                authority,
                CoreRecords(core),
                _lease_terms(core, cluster),
                raft_addresses=lambda: [item["raft_addr"] for item in core.members()["items"]],
            )
            enrollment = await serve_enrollment(socket, service, certificates.join)
            undo.push_async_callback(enrollment.stop)
            process = cls(config.data_dir, core, enrollment, http)
            options = ApiOptions(
                hosts=_hosts(config),
                join_address=_join_address(cluster, core.address),
                scratch=config.data_dir / "run",
                is_ready=lambda: not process._stopping.is_set() and has_leader(core),
                stopping=process._stopping,
            )
            addresses = Addresses(
                pid=os.getpid(),
                cluster_id=authority.cluster_id,
                api=http.url,
                workers=core.address,
            )
            http.start(create_app(core, tokens, authority.token_signer, options))
            addresses.write(config.data_dir)
            undo.pop_all()
        process._tasks = [
            asyncio.create_task(_rotate(core, authority, certificates)),
            asyncio.create_task(note_address(core, own)),
        ]
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
        for task in self._tasks:
            task.cancel()
        Addresses.withdraw(self._data_dir)
        await self._http.stop()
        await self._enrollment.stop()
        await self._core.stop(_STOP_SECS)


def _allow_many_files() -> None:
    """Each worker is an open file, and the usual soft limit is 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # What the kernel does not take stays as it is.
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def supported(config: Config) -> WorkerTierServerConfig:
    """The `cluster` block, if this version can serve it.

    Raises:
        NotSupported: with what can be done instead.
    """
    cluster = config.cluster
    if cluster.is_worker_tier_worker():
        raise NotSupported("this configuration is a worker's: run `zlayerd worker`")
    if not isinstance(cluster, WorkerTierServerConfig):
        raise NotSupported(f"mode {cluster.mode} has no daemon yet: only worker-tier has")
    return cluster


def open_authority(cluster: WorkerTierServerConfig) -> Authority:
    """The cluster's CA; made at the first start of a server that is alone.

    Raises:
        IdentityError: it can't be used, or one of several servers has none: each would make its
            own, and none would believe another.
    """
    folder = cluster.worker_ca_dir
    if len(cluster.peers) > 1 and not Authority.is_there(folder):
        raise IdentityError(
            f"{folder}: holds no CA, and the servers of a cluster share one: run `zlayerd init` on"
            " one of them and copy ca.key, ca.pem, token.key and cluster.json to the others"
            " (folder 0700, files 0600)"
        )
    return Authority.open_or_create(folder)


def _core_options(
    config: Config,
    cluster: WorkerTierServerConfig,
    authority: Authority,
    certificates: ServerCertificates,
    socket: Path,
    api_addr: str,
) -> dict[str, Any]:
    pair = certificates.server()
    return {
        "cluster_id": authority.cluster_id,
        "node_id": cluster.node_id,
        "listen": cluster.worker_grpc_addr,
        "join_socket": str(socket),
        "control_dir": str(config.data_dir / "control"),
        "certificate_pem": pair.cert_pem,
        "key_pem": pair.key_pem,
        "ca_pem": authority.ca_pem,
        "ttl": {
            "min_ttl_secs": cluster.heartbeat_min_ttl,
            "max_ttl_secs": cluster.heartbeat_max_ttl,
            "grace_secs": cluster.heartbeat_grace,
            "max_heartbeats_per_second": cluster.max_heartbeats_per_second,
            "failover_ttl_secs": cluster.failover_heartbeat_ttl,
        },
        "limits": cluster.worker_limits.model_dump(),
        "raft": raft_options(cluster, api_addr),
    }


def _own_address(cluster: WorkerTierServerConfig, core: Server, api_addr: str) -> dict[str, Any]:
    """Where the other servers find this one."""
    options = raft_options(cluster, api_addr)
    return {
        "id": cluster.node_id,
        "raft_addr": options["advertise"] or core.raft_address,
        "api_addr": options["api_addr"],
    }


def _lease_terms(core: Server, cluster: WorkerTierServerConfig) -> Any:
    ttl = cluster.adaptive_ttl_config()

    def terms() -> LeaseTerms:
        leases = int(core.metrics()["leases"])
        return LeaseTerms(ttl.compute_ttl(leases + 1), cluster.heartbeat_grace)

    return terms


def _hosts(config: Config) -> frozenset[str]:
    """Names that a request may address this server by."""
    names = {platform.node(), config.name, split(config.http.bind)[0]}
    if config.http.advertise:
        names.add(split(config.http.advertise)[0])
    return frozenset(name.lower() for name in names if name and not is_wildcard(name))


def _join_address(cluster: WorkerTierServerConfig, listening: str) -> str:
    """`host:port` that workers are told to dial: as configured, else where the port listens."""
    return str(cluster.worker_advertise or reachable(listening))


async def _rotate(core: Server, authority: Authority, certificates: ServerCertificates) -> None:
    """Gives the worker port a new certificate at half of the old one's life."""
    current = certificates.server()
    while True:
        await asyncio.sleep(_CERTIFICATE_CHECK_SECS)
        try:
            pair = certificates.server()
            if pair is not current:
                core.set_identity(pair.cert_pem, pair.key_pem, authority.ca_pem)
                current = pair
                _log.info("the server has a new certificate", not_after=str(pair.not_after))
        except CoreStopped:
            return
        except ZLayerError as error:
            _log.error("the server's certificate can't be renewed", why=str(error))
