"""What every server of a cluster is made of: its authority, its certificates, its core."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from zlayer_native._bridge.server import Server
from zlayer_native.errors import CoreError, CoreStopped, IdentityError, ZLayerError
from zlayer_native.identity import files
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.server_certificates import ServerCertificates

if TYPE_CHECKING:
    from zlayer_native._bridge.lease import AdaptiveTtlConfig

#: Seconds between two looks at the server certificate's age; it is replaced at half of its life.
_CERTIFICATE_CHECK_SECS = 60.0

_log = structlog.get_logger("zlayer.server")


def open_authority(folder: Path, servers: int) -> Authority:
    """The cluster's CA; made at the first start of a server that is alone.

    Args:
        folder: of the CA.
        servers: how many the configuration lists.

    Raises:
        IdentityError: it can't be used, or one of several servers has none: each would make its
            own, and none would believe another.
    """
    if servers > 1 and not Authority.is_there(folder):
        raise IdentityError(
            f"{folder}: holds no CA, and the servers of a cluster share one: run `zlayerd init` on"
            " one of them and copy ca.key, ca.pem, token.key and cluster.json to the others"
            " (folder 0700, files 0600)"
        )
    return Authority.open_or_create(folder)


def core_options(
    data_dir: Path,
    node_id: int,
    authority: Authority,
    certificates: ServerCertificates,
    ttl: AdaptiveTtlConfig,
    *,
    listen: str,
) -> dict[str, Any]:
    """`zlayer_node::ServerOptions` as a dict, without what only some modes have.

    Args:
        data_dir: below it the control log and the join socket are.
        node_id: of this server.
        authority: of the cluster.
        certificates: of this server.
        ttl: how long nodes may stay silent.
        listen: `host:port` of the worker port.
    """
    files.make_private_dir(data_dir)
    files.make_private_dir(join_socket(data_dir).parent)
    pair = certificates.server()
    return {
        "cluster_id": authority.cluster_id,
        "node_id": node_id,
        "listen": listen,
        "join_socket": str(join_socket(data_dir)),
        "control_dir": str(data_dir / "control"),
        "certificate_pem": pair.cert_pem,
        "key_pem": pair.key_pem,
        "ca_pem": authority.ca_pem,
        "ttl": {
            "min_ttl_secs": ttl.min_ttl_secs,
            "max_ttl_secs": ttl.max_ttl_secs,
            "grace_secs": ttl.grace_secs,
            "max_heartbeats_per_second": ttl.max_heartbeats_per_second,
            "failover_ttl_secs": ttl.failover_ttl_secs,
        },
    }


async def start_core(options: dict[str, Any]) -> Server:
    """Starts the core; says which setting is meant when it is the port for the other servers.

    Raises:
        CoreError: as `Server.start`.
    """
    try:
        return await Server.start(options)
    except CoreError as error:
        listen = options.get("raft", {}).get("listen", "")
        if listen and listen in str(error):
            error.add_note(
                "hint: that is the port for the other servers; choose another one with --raft, or"
                " cluster.raft_bind"
            )
        raise


def join_socket(data_dir: Path) -> Path:
    """Where the Enrollment service listens."""
    return data_dir / "run" / "join.sock"


async def rotate(core: Server, authority: Authority, certificates: ServerCertificates) -> None:
    """Gives the ports a new certificate at half of the old one's life, until it is cancelled."""
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


@contextlib.asynccontextmanager
async def running(*works: Any) -> Any:
    """Runs coroutines beside the block, and ends them with it."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def allow_many_files() -> None:
    """Each worker is an open file, and the usual soft limit is 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # What the kernel does not take stays as it is.
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
