"""Puts the Enrollment service, with health and reflection, onto a Unix socket behind TLS.

The worker port passes it the bytes of `join.<cluster>` untouched. The socket is in a folder of mode
0700: on a loopback port every local user could go past the worker port's limits.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # no stubs
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]  # no stubs

from zlayer_native.enroll.service import MESSAGE_BYTES_MAX, SERVICE_NAME, EnrollmentService
from zlayer_native.errors import EnrollmentError, ZLayerError
from zlayer_native.identity import files
from zlayer_native.identity.keypair import KeyPair

_log = structlog.get_logger("zlayer.enroll")

#: `sun_path` has 108 bytes with its final NUL.
_SOCKET_PATH_BYTES_MAX = 107

#: Calls that grpcio takes on before it refuses by itself; the service's own limit comes first.
_RPCS_MAX = 1024

#: From the threat list: message and header sizes, streams, handshake, silence, age, no compression.
_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.absolute_max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 2),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.max_connection_idle_ms", 10_000),
    ("grpc.max_connection_age_ms", 30_000),
    ("grpc.max_connection_age_grace_ms", 5_000),
    ("grpc.compression_enabled_algorithms_bitset", 1),
    ("grpc.so_reuseport", 0),
)


class EnrollmentServer:
    """A running service. Made with `serve`."""

    def __init__(
        self, server: grpc.aio.Server, health_service: health.aio.HealthServicer, socket: Path
    ) -> None:
        self._server = server
        self._health = health_service
        self._socket = socket

    async def stop(self, grace: float = 2.0) -> None:
        """Refuses new calls, gives those in flight `grace` seconds, and removes the socket."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)
        _remove(self._socket)


async def serve(
    socket: Path, service: EnrollmentService, certificate: Callable[[], KeyPair]
) -> EnrollmentServer:
    """Starts the service; it answers when this returns.

    Args:
        socket: path of the Unix socket; its folder is made with mode 0700.
        service: what answers.
        certificate: gives the join certificate in use; asked at every handshake, from another
            thread.

    Raises:
        EnrollmentError: the socket can't be used.
        IdentityError: its folder is not private.
    """
    _prepare(socket)
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_RPCS_MAX, compression=None)
    server.add_generic_rpc_handlers((service.handlers(),))
    health_service = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    for name in (SERVICE_NAME, health.OVERALL_HEALTH):
        await health_service.set(name, health_pb2.HealthCheckResponse.SERVING)
    names = (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    try:
        server.add_secure_port(f"unix:{socket}", _credentials(certificate))
        await server.start()
        _make_private(socket)
    except (RuntimeError, OSError) as error:
        await server.stop(None)
        raise EnrollmentError(f"{socket}: can't listen there: {error}") from error
    return EnrollmentServer(server, health_service, socket)


def _prepare(socket: Path) -> None:
    """Makes the folder and removes the socket that a killed process left."""
    if len(str(socket).encode()) > _SOCKET_PATH_BYTES_MAX:
        raise EnrollmentError(f"{socket}: too long for a Unix socket, choose a shorter data folder")
    files.make_private_dir(socket.parent)
    if files.exists(socket):
        if not stat.S_ISSOCK(socket.lstat().st_mode):
            raise EnrollmentError(f"{socket}: is there and is not a socket")
        socket.unlink()


def _make_private(socket: Path) -> None:
    socket.chmod(stat.S_IRUSR | stat.S_IWUSR)


def _remove(socket: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        socket.unlink()


def _credentials(certificate: Callable[[], KeyPair]) -> grpc.ServerCredentials:
    """Credentials that follow `certificate` without a restart."""
    used = certificate()

    def fetch() -> Any:  # The stubs do not know that None stands for "no change".
        nonlocal used
        try:
            current = certificate()
        except ZLayerError as error:
            _log.error("the join certificate can't be renewed", why=str(error))
            return None
        if current is used:
            return None
        used = current
        return _configuration(current)

    return grpc.dynamic_ssl_server_credentials(_configuration(used), fetch)


def _configuration(pair: KeyPair) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(pair.key_pem.encode(), pair.cert_pem.encode())]
    )
