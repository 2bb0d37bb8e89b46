"""A small synchronous client of the HTTP API.

Every failure is an `ApiError` with the way out in its `hint`; the secret is in none of them.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from zlayer_native.cli import text
from zlayer_native.cli.target import Address, Secret, find_secret, parse_address
from zlayer_native.errors import ApiError, ConfigError, Unreachable

if TYPE_CHECKING:
    import httpx

#: Bytes of one answer. Chosen: a page of 1,000 nodes has less than 1 MiB.
_ANSWER_BYTES_MAX = 16 * 1024 * 1024
#: Seconds that an event stream may be silent: the server says something every 15.
SILENCE_MAX = 45.0

#: What proxies say for a server that they can't reach.
_GATEWAY = frozenset({502, 503, 504})

Query = Mapping[str, str | int | list[str]]


def connect(addr: str, token_file: Path | None, ca: Path | None, timeout: float) -> Api:
    """The API at an address, with the secret that belongs there. Nothing is sent yet.

    Raises:
        ConfigError: the address or the CA file can't be used.
        ApiError: there is no secret, or it may not be sent there.
    """
    address = parse_address(addr)
    return Api(address, find_secret(token_file, address), ca=ca, timeout=timeout)


class Api:
    """One server's API. A context manager; `timeout` is in seconds."""

    def __init__(
        self, address: Address, secret: Secret, *, ca: Path | None = None, timeout: float = 10.0
    ) -> None:
        import httpx

        self._address = address
        self._secret = secret
        self._timeout = timeout
        headers = {
            "Authorization": f"Bearer {secret.value}",
            "Accept-Encoding": "identity",  # What is counted is what is held.
            "User-Agent": "zlayerd",
        }
        try:
            self._http = httpx.Client(
                base_url=address.url,
                headers=headers,
                timeout=timeout,
                verify=_tls(ca) if address.is_tls else _no_tls(),
                # A proxy for the outside has no business between a machine and itself.
                trust_env=not address.is_loopback,
                follow_redirects=False,
            )
        except (httpx.InvalidURL, ValueError, ImportError) as error:
            raise ConfigError(f"{address.url}, or a proxy variable: {error}") from error

    def __enter__(self) -> Api:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def get(self, path: str, query: Query | None = None) -> dict[str, Any]:
        """A document.

        Raises:
            ApiError: the server said no, or did not answer like one of ours.
            Unreachable: nothing answered.
        """
        return self._call("GET", path, query=query)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Makes something; raises as `get`."""
        return self._call("POST", path, body=body)

    def put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Changes something; raises as `get`."""
        return self._call("PUT", path, body=body)

    def delete(self, path: str) -> dict[str, Any]:
        """Removes something; raises as `get`."""
        return self._call("DELETE", path)

    def download(self, path: str, file: Path) -> int:
        """Writes an answer into a new file, 0600; returns its bytes. Raises as `get`.

        A download that breaks off leaves no file.

        Raises:
            ConfigError: the file can't be written.
        """
        from zlayer_native.cli.download import NewFile

        with (
            self._told(is_write=False),
            self._http.stream("GET", path) as response,
        ):
            if not response.is_success:
                raise self._problem(response.status_code, _content(response))
            with NewFile(file) as new:
                for piece in response.iter_bytes():
                    new.write(piece)
            return new.size

    def is_ready(self) -> bool:
        """Whether the server says that workers can enrol and report; raises as `get`."""
        with self._told(is_write=False), self._http.stream("GET", "/readyz") as response:
            content = _content(response)
            if response.is_success:
                return True
            is_ours = "status" in (_document(content) or {})
            if response.status_code == HTTPStatus.SERVICE_UNAVAILABLE and is_ours:
                return False
            raise self._problem(response.status_code, content)

    @contextmanager
    def stream(self, path: str, query: Query) -> Iterator[Iterator[bytes]]:
        """The pieces of an answer that goes on, as they come; raises as `get`."""
        import httpx

        timeout = httpx.Timeout(self._timeout, read=SILENCE_MAX)
        headers = {"Accept": "text/event-stream"}
        with (
            self._told(is_write=False),
            self._http.stream(
                "GET", path, params=dict(query), headers=headers, timeout=timeout
            ) as response,
        ):
            if response.status_code != HTTPStatus.OK:
                raise self._problem(response.status_code, _content(response))
            yield response.iter_bytes()

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        with (
            self._told(is_write=method != "GET"),
            self._http.stream(method, path, params=dict(query or {}), json=body) as response,
        ):
            content = _content(response)
            if not response.is_success:
                raise self._problem(response.status_code, content)
            document = _document(content)
            if document is None:
                raise self._stranger("without a JSON object")
            return document

    @contextmanager
    def _told(self, *, is_write: bool) -> Iterator[None]:
        """Turns the transport's errors into ours."""
        import httpx

        where = self._address.url
        again = "it may have been done all the same: look before you repeat it" if is_write else ""
        try:
            yield
        except httpx.ConnectError as error:
            raise Unreachable(
                f"can't connect to {where}: {_reason(error)}", hint=self._connect_hint(error)
            ) from error
        except httpx.ConnectTimeout as error:
            raise Unreachable(f"{where} does not answer", hint=_WHERE) from error
        except httpx.TimeoutException as error:
            raise Unreachable(
                f"{where} did not answer within {self._timeout:g} s",
                hint=again or "wait longer with --timeout",
            ) from error
        except httpx.RequestError as error:
            tls = "" if self._address.is_tls else "does it speak https?"
            raise Unreachable(
                f"the connection to {where} broke: {_reason(error)}", hint=again or tls
            ) from error

    def _connect_hint(self, error: Exception) -> str:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return "name the CA of the server's https certificate with --ca or ZLAYER_CACERT"
        if "SSL" in str(error):
            return "does the server speak https at this address?"
        return _WHERE

    def _problem(self, status: int, content: bytes) -> ApiError:
        told = (_document(content) or {}).get("error")
        if not isinstance(told, dict) or not told.get("message"):
            return self._stranger(f"with {status} {_phrase(status)}", status)
        hint = text.plain(told.get("hint", ""))
        if status == HTTPStatus.UNAUTHORIZED:
            hint = f"the secret came from {self._secret.source}; {hint}"
        message, code = text.plain(told["message"]), text.plain(told.get("code", ""))
        return ApiError(message, status=status, code=code, hint=hint)

    def _stranger(self, how: str, status: int = 0) -> ApiError:
        # Without the status: that another server has no such page says nothing about a node.
        kind = Unreachable if status in _GATEWAY else ApiError
        message = f"{self._address.url} answered {how}, not like a zlayer API"
        return kind(message, code="not_our_api", hint=_WHERE)


_WHERE = "is `zlayerd server` running there? --addr or ZLAYER_ADDR say where it is"


def _no_tls() -> ssl.SSLContext:
    """Trusts nobody: reading the system's CAs takes longer than a whole command over http."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _tls(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca is None else str(ca))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--ca {ca}: {error.strerror or error}") from error


def _content(response: httpx.Response) -> bytes:
    content = bytearray()
    for piece in response.iter_bytes():
        content += piece
        if len(content) > _ANSWER_BYTES_MAX:
            raise ApiError(f"the answer is larger than {_ANSWER_BYTES_MAX >> 20} MiB")
    return bytes(content)


def _document(content: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _reason(error: Exception) -> str:
    """The innermost reason of a transport's error, without its number."""
    text = str(error).rpartition("] ")[2] or type(error).__name__
    return text[:1].lower() + text[1:]


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "(no known status)"
