"""The HTTP API's socket and uvicorn on it, as a part of a larger process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from zlayer_native.config import HttpConfig
from zlayer_native.config.addresses import split
from zlayer_native.errors import ConfigError

#: Requests and streams at once. Chosen: far above what operators and dashboards open.
_CONCURRENCY_MAX = 512
_BACKLOG = 256
_KEEP_ALIVE_SECS = 15
#: Time for requests in flight when the server stops.
_GRACE_SECS = 2
#: Bytes of a request's line and headers.
_HEAD_BYTES_MAX = 32 * 1024


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the process's own business."""
        yield


class HttpListener:
    """Serves an application on one socket. Made with `bind`, which fails before anything runs."""

    def __init__(self, bound: socket.socket, config: HttpConfig) -> None:
        self._socket = bound
        self._config = config
        self._server: _Uvicorn | None = None
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def bind(cls, config: HttpConfig) -> HttpListener:
        """Takes the address.

        Raises:
            ConfigError: it can't be used.
        """
        host, port = split(config.bind)
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            bound = socket.socket(family, kind, protocol)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(_BACKLOG)
        except OSError as error:
            raise ConfigError(
                f"http.bind: can't listen on {config.bind}: {error.strerror or error};"
                " choose another address with --http or http.bind"
            ) from error
        bound.setblocking(False)
        return cls(bound, config)

    @property
    def address(self) -> str:
        """`host:port` that it really listens on."""
        host, port = self._socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def url(self) -> str:
        """What a client on this machine uses."""
        return f"{'https' if self._config.cert_file else 'http'}://{self.address}"

    def start(self, app: Starlette) -> None:
        """Begins to answer.

        Raises:
            ConfigError: certificate or key can't be used.
        """
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_CONCURRENCY_MAX,
            timeout_keep_alive=_KEEP_ALIVE_SECS,
            timeout_graceful_shutdown=_GRACE_SECS,
            h11_max_incomplete_event_size=_HEAD_BYTES_MAX,
        )
        config.load()
        if self._config.cert_file and self._config.key_file:
            config.ssl = _tls(self._config.cert_file, self._config.key_file)
        self._server = _Uvicorn(config)
        self._task = asyncio.create_task(self._server.serve([self._socket]), name="http")

    async def stop(self) -> None:
        """Refuses new requests, gives those in flight a moment, and closes the socket."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task
        self._socket.close()


def _tls(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert_file, key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"http.cert_file {cert_file}, http.key_file {key_file}: {error}"
        ) from error
    return context
