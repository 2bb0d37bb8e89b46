"""The door of the API. Every request passes it before any handler sees it.

    Host allowed? -421->  token? -401->  write from another site? -403->  size? -413->  handler

A path is open only if it stands in `OPEN_PATHS`: a route that somebody forgets to protect is
protected. One audit line a write, whether it was admitted or not.
"""

from __future__ import annotations

import re
import time
from typing import Protocol
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from zlayer_native.api.auth import ApiToken
from zlayer_native.api.problem import Problem, shown

#: Paths that need no token. They say nothing about the cluster but that the server is there.
OPEN_PATHS = frozenset({"/health", "/readyz"})

#: Bytes of a request body. Chosen: the largest honest one is a token with 32 labels, some 4 KiB.
BODY_BYTES_MAX = 64 * 1024

#: Characters of a path in an audit line. Chosen: ours have some 60.
_PATH_CHARACTERS_MAX = 200

#: A Host header: a name, an IPv4 address or an IPv6 address in brackets, and maybe a port.
_HOST = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::[0-9]{1,5})?")

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_SAME_SITE = frozenset({"same-origin", "none"})

#: Nothing here is for browsers to keep, guess at, frame or run.
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

_audit = structlog.get_logger("zlayer.audit")


class Authenticator(Protocol):
    """Knows the tokens."""

    def authenticate(self, secret: str) -> ApiToken | None:
        """The token of a secret, or None."""


class Guard:
    """ASGI middleware: host, bearer token, origin, body size, headers, audit."""

    def __init__(self, app: ASGIApp, *, tokens: Authenticator, hosts: frozenset[str]) -> None:
        self._app = app
        self._tokens = tokens
        self._hosts = _LOOPBACK | {host.lower() for host in hosts}

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Admits the request or answers it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # No websocket is served; closing refuses the upgrade.
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = _Answer(send)
        scope.setdefault("state", {})
        started = time.monotonic()
        code = ""
        try:
            self._admit(scope)
            await self._app(scope, _limited(scope, receive), answer.send)
        except Problem as problem:
            code = problem.code
            if answer.status == 0:
                headers = {"www-authenticate": "Bearer"} if problem.status == 401 else None
                await problem.response(headers)(scope, receive, answer.send)
        finally:
            if scope["method"] not in _READS:
                _write_audit(scope, answer.status, code, time.monotonic() - started)

    def _admit(self, scope: AsgiScope) -> None:
        headers = Headers(scope=scope)
        self._check_host(headers)
        if scope["path"] not in OPEN_PATHS:
            scope["state"]["token"] = self._check_token(headers)
        if scope["method"] not in _READS:
            self._check_site(headers)
        if _length(headers) > BODY_BYTES_MAX:
            raise _too_large()

    def _check_host(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or _host_of(hosts[0]) not in self._hosts:
            raise Problem(
                421,
                "host_not_allowed",
                "this server does not answer to that Host",
                "set http.advertise to the name that clients use",
            )

    def _check_token(self, headers: Headers) -> ApiToken:
        values = headers.getlist("authorization")
        if len(values) == 1:
            kind, _, secret = values[0].partition(" ")
            if kind.lower() == "bearer":
                token = self._tokens.authenticate(secret.strip())
                if token is not None:
                    return token
        raise Problem(
            401,
            "not_authenticated",
            "a valid bearer token is needed",
            "pass --token-file, or set ZLAYER_TOKEN_FILE, to <data_dir>/admin.token",
        )

    def _check_site(self, headers: Headers) -> None:
        """Refuses writes that a page of another site makes a browser send."""
        site = headers.get("sec-fetch-site")
        if site is not None and site.lower() not in _SAME_SITE:
            raise Problem(403, "cross_site", "writes from another site are refused")
        host = headers["host"].strip().lower()
        if any(_authority_of(origin) != host for origin in headers.getlist("origin")):
            raise Problem(403, "cross_origin", "writes from another origin are refused")


class _Answer:
    """Remembers the status and adds the headers that every answer has."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)


def _limited(scope: AsgiScope, receive: Receive) -> Receive:
    """`receive` that refuses a body above the limit, also one without a Content-Length."""
    total = 0

    async def limited() -> Message:
        nonlocal total
        message = await receive()
        if message["type"] == "http.request":
            total += len(message.get("body", b""))
            if total > BODY_BYTES_MAX:
                raise _too_large()
        return message

    return limited


def _too_large() -> Problem:
    return Problem(413, "body_too_large", f"a body may have at most {BODY_BYTES_MAX} bytes")


def _length(headers: Headers) -> int:
    value = headers.get("content-length", "0")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else 1 << 62


def _host_of(value: str) -> str:
    """The host of a Host header, lower case, without port and brackets; empty if it is none."""
    match = _HOST.fullmatch(value.strip().lower())
    return (match["v6"] or match["name"]) if match is not None else ""


def _authority_of(origin: str) -> str:
    """`host:port` of an Origin header, lower case; empty if it is none, such as `null`."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _write_audit(scope: AsgiScope, status: int, code: str, seconds: float) -> None:
    token: ApiToken | None = scope["state"].get("token")
    client = scope.get("client")
    _audit.info(
        "write",
        actor=token.name if token is not None else "-",
        scope=token.scope.name.lower() if token is not None else "-",
        client=f"{client[0]}:{client[1]}" if client else "-",
        method=scope["method"],
        path=shown(scope["path"], _PATH_CHARACTERS_MAX),
        status=status,
        code=scope["state"].get("code", code),
        ms=round(seconds * 1000, 1),
    )
