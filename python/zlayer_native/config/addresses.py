"""Network addresses as `host:port` text in one normal form: equal addresses are equal text."""

from __future__ import annotations

import ipaddress
import re

#: A DNS label; the underscore is there because container networks put it into service names.
_LABEL = re.compile(r"[a-z0-9_](?:[-a-z0-9_]{0,61}[a-z0-9_])?")
_PORT = re.compile(r"[0-9]{1,5}")
_HOST_CHARACTERS_MAX = 253  # RFC 1035
_TEXT_CHARACTERS_MAX = 300  # A host, a port, brackets and a scheme fit. Chosen.

#: What messages say was expected.
EXPECTED_DIAL = "host:port, such as 10.0.0.1:3670 or [fd00::1]:3670"
EXPECTED_BIND = "host:port to listen on, such as 127.0.0.1:3669 or [::]:3669"
EXPECTED_SERVER = "host:port or https://host:port"


def parse_bind(text: str) -> str:
    """An address to listen on: any host, also a wildcard; port 0 takes a free one.

    Raises:
        ValueError: not such an address; the message says why.
    """
    host, port = _split(text)
    return _joined(host, port)


def parse_dial(text: str) -> str:
    """An address that others can dial: no wildcard host, no port 0.

    Raises:
        ValueError: not such an address; the message says why.
    """
    host, port = _split(text)
    if is_wildcard(host):
        raise ValueError(f"{host} can't be dialled from another machine")
    if port == 0:
        raise ValueError("port 0 can't be dialled")
    return _joined(host, port)


def parse_server(text: str) -> str:
    """As `parse_dial`; also takes `https://` and, for old files, `http://`: it is TLS all the same.

    Raises:
        ValueError: not such an address; the message says why.
    """
    bare = re.sub(r"\Ahttps?://", "", text, count=1, flags=re.IGNORECASE)
    if bare != text:
        bare = bare.removesuffix("/")
    if "://" in bare:
        raise ValueError("a scheme other than https")
    return parse_dial(bare)


def split(address: str) -> tuple[str, int]:
    """Host (without brackets) and port of a normal-form address."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def is_wildcard(host: str) -> bool:
    """Whether the host stands for every interface."""
    address = _ip(host)
    return address is not None and address.is_unspecified


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host."""
    address = _ip(host)
    return host == "localhost" if address is None else address.is_loopback


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _split(text: str) -> tuple[str, int]:
    if len(text) > _TEXT_CHARACTERS_MAX:
        raise ValueError("too long for an address")
    if "@" in text:
        raise ValueError("a user name does not belong into an address")
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]") or not host:
        raise ValueError("the host is missing" if text.startswith(":") else "the port is missing")
    if not (_PORT.fullmatch(port) and port.isascii()) or int(port) > 65_535:
        raise ValueError("the port is not a number in 0..65535")
    return _normal_host(host), int(port)


def _normal_host(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        try:
            address = ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            raise ValueError("no IPv6 address in the brackets") from None
        if address.scope_id is not None:
            raise ValueError("an IPv6 zone means something on one machine only")
        return str(address)
    if ":" in host:
        raise ValueError("an IPv6 address needs brackets")
    name = host.lower()
    if name.rpartition(".")[2].isdigit():
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError:
            raise ValueError("not an IPv4 address") from None
    if len(name) > _HOST_CHARACTERS_MAX or not all(map(_LABEL.fullmatch, name.split("."))):
        raise ValueError("not a host name")
    return name
