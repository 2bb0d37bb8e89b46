"""Which server a command talks to, and the secret that it shows there.

A secret goes out over TLS or to this machine itself, and the admin secret of this machine's server
to this machine alone.
"""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import SplitResult, urlsplit

from zlayer_native.errors import ApiError, ConfigError

#: Environment variable that holds the secret itself.
SECRET_VARIABLE = "ZLAYER_TOKEN"  # noqa: S105 - its name, not its value.
#: File of the local server's admin secret, in its data directory.
ADMIN_FILE = "admin.token"

_DEFAULT_PORT = 3669
#: A host name: labels that a resolver takes.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
#: What can be said in an Authorization header. Longer than any secret that a server takes.
_SECRET = re.compile(r"[!-~]{1,256}")


@dataclass(frozen=True)
class Address:
    """A server's HTTP API."""

    url: str
    is_loopback: bool

    @property
    def is_tls(self) -> bool:
        """Whether what is sent there is encrypted."""
        return self.url.startswith("https://")


def parse_address(text: str) -> Address:
    """Reads `http://host:port`, `https://host:port`, or `host:port`: https unless it is loopback.

    Raises:
        ConfigError: it is none of these.
    """
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        host, port = parts.hostname or "", parts.port or _DEFAULT_PORT
    except ValueError:
        raise _no_address(text) from None
    if parts.scheme not in ("", "http", "https") or not _is_bare(parts) or not _is_host(host):
        raise _no_address(text)
    loopback = _is_loopback(host)
    scheme = parts.scheme or ("http" if loopback else "https")
    name = f"[{host}]" if ":" in host else host
    return Address(f"{scheme}://{name}:{port}", loopback)


def _is_bare(parts: SplitResult) -> bool:
    has_user = "@" in parts.netloc  # httpx would send it in the place of our secret.
    return not has_user and parts.path in ("", "/") and not parts.query and not parts.fragment


def _is_host(host: str) -> bool:
    if ":" in host or re.fullmatch(r"[0-9.]+", host):
        try:
            return "%" not in host and bool(ipaddress.ip_address(host))
        except ValueError:
            return False
    return len(host) <= 253 and _NAME.fullmatch(host) is not None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _no_address(text: str) -> ConfigError:
    # A password may stand before the `@`.
    shown = "" if "@" in text else f" {text!r}"
    return ConfigError(f"--addr{shown}: expected http://HOST:PORT or https://HOST:PORT, no more")


@dataclass(frozen=True)
class Secret:
    """An API secret and where it was found. Never shown."""

    value: str = field(repr=False)
    source: str


def find_secret(token_file: Path | None, address: Address) -> Secret:
    """The secret to show at `address`.

    Args:
        token_file: `--token-file` or ZLAYER_TOKEN_FILE; `-` is standard input.
        address: of the server that will see it.

    Raises:
        ApiError: there is none, it can't be read, or it would cross the network in the clear.
    """
    secret = _look(token_file, address)
    if not address.is_tls and not address.is_loopback:
        raise ApiError(
            f"the API secret is not sent to {address.url}: without TLS others could read it",
            code="plaintext_refused",
            hint="use https:// (and --ca for a private CA), or a tunnel to a loopback address",
        )
    return secret


def _look(token_file: Path | None, address: Address) -> Secret:
    if token_file is not None:
        return _from_file(token_file)
    value = os.environ.get(SECRET_VARIABLE)
    if value:
        return _checked(value.strip(), SECRET_VARIABLE)
    if not address.is_loopback:
        raise _missing("this machine's own admin secret is not sent to others")
    from zlayer_native.config.data_dir import default_data_dir

    path = default_data_dir() / ADMIN_FILE
    try:
        with path.open("rb") as file:
            return _read(file, str(path))
    except OSError as error:
        raise _missing(f"{path}: {error.strerror}") from error


def _from_file(path: Path) -> Secret:
    if str(path) == "-":
        return _read(sys.stdin.buffer, "standard input")
    try:
        with path.open("rb") as file:
            return _read(file, str(path))
    except OSError as error:
        raise ApiError(
            f"the API secret can't be read: {path}: {error.strerror}",
            status=401,
            code="no_token",
            hint=_HINT,
        ) from error


def _read(stream: BinaryIO, source: str) -> Secret:
    content = stream.read(4096)
    return _checked(content.strip().decode("ascii", "replace"), source)


def _checked(value: str, source: str) -> Secret:
    if not _SECRET.fullmatch(value):
        raise ApiError(
            f"{source} does not hold an API secret: expected one word of at most 256 characters",
            status=401,
            code="no_token",
            hint=_HINT,
        )
    return Secret(value, source)


_HINT = (
    f"pass --token-file (or set ZLAYER_TOKEN_FILE) with the server's <data_dir>/{ADMIN_FILE};"
    f" {SECRET_VARIABLE} may hold the secret itself"
)


def _missing(why: str) -> ApiError:
    return ApiError(f"no API secret was found ({why})", status=401, code="no_token", hint=_HINT)
