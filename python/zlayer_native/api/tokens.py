"""`/api/v1/cluster/tokens`: bootstrap tokens of workers and servers (not the API's own)."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from zlayer_native.api import reading
from zlayer_native.api import request as ask
from zlayer_native.api.problem import Problem
from zlayer_native.api.protocol import Core, TokenClaims, TokenIssuer

#: Life of a token in seconds: default and longest are those of the threat list, shortest is chosen.
TTL_DEFAULT, TTL_MIN, TTL_MAX = 3600, 10, 24 * 3600

#: Most uses of one token: as many as a cluster holds nodes.
USES_MAX = 100_000

_JTI = re.compile(r"[0-9a-f]{32}")
_FIELDS = ("name", "role", "ttl_secs", "uses", "labels", "labels_allowed")
_ROLES = ("worker", "server")

#: Most uses of a token for servers: as many servers as a cluster has, and some that are replaced.
SERVER_USES_MAX = 16


class Tokens:
    """Makes, lists and revokes bootstrap tokens."""

    def __init__(
        self,
        core: Core,
        issuer: TokenIssuer,
        join_address: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._core = core
        self._issuer = issuer
        self._join_address = join_address
        self._now = now

    async def index(self, request: Request) -> Response:
        """All tokens with their uses; no secret."""
        ask.query(request, reading.PARAMETER)
        consistency = await reading.settle(request, self._core)
        return reading.answer(self._core.tokens(), consistency)

    async def show(self, request: Request) -> Response:
        """One token with its uses; no secret."""
        ask.query(request, reading.PARAMETER)
        jti = _jti(request)
        consistency = await reading.settle(request, self._core)
        token = self._core.token(jti)
        if token is None:
            raise _no_token(jti)
        return reading.answer(token, consistency)

    async def revoke(self, request: Request) -> Response:
        """Revokes a token: from the answer on it admits nobody."""
        ask.query(request)
        jti = _jti(request)
        await self._core.propose({"type": "revoke_token", "jti": jti})
        return JSONResponse({"jti": jti, "revoked": True})

    async def create(self, request: Request) -> Response:
        """Makes a token. The answer is the only place that its line is ever shown."""
        ask.query(request)
        document = await ask.body(request, *_FIELDS)
        name = document.get("name", "")
        if name != "":
            ask.named("name", name)
        if not self._join_address:
            raise Problem(409, "no_workers", "this cluster's mode has no workers to let in")
        role = document.get("role", "worker")
        if role not in _ROLES:
            raise ask.invalid("role", f"expected {' or '.join(_ROLES)}")
        labels = ask.labels("labels", document.get("labels", {}))
        allowed = ask.names("labels_allowed", document.get("labels_allowed", []))
        if role == "server" and (labels or allowed):
            raise ask.invalid("labels", "a token for servers has none: they label workers")
        uses_max = SERVER_USES_MAX if role == "server" else USES_MAX
        uses = ask.integer(document, "uses", 1, 1, uses_max)
        ttl_secs = ask.integer(document, "ttl_secs", TTL_DEFAULT, TTL_MIN, TTL_MAX)
        created_s = int(self._now())
        claims = TokenClaims(
            jti=secrets.token_hex(16),
            created_s=created_s,
            expires_s=created_s + ttl_secs,
            role=role,
            uses_max=uses,
            labels=labels,
            labels_allowed=allowed,
        )
        # Signed first: labels that do not fit into a line must not leave a record behind.
        line = self._issuer.issue(claims)
        await self._core.propose(
            {
                "type": "create_token",
                "jti": claims.jti,
                "name": name,
                "expires_ms": claims.expires_s * 1000,
                "role": role,
                "uses_max": uses,
                "labels": labels,
                "labels_allowed": allowed,
            }
        )
        answer = {
            "jti": claims.jti,
            "name": name,
            "token": line,
            "cluster_id": self._issuer.cluster_id,
            "expires_ms": claims.expires_s * 1000,
            "role": role,
            "uses_max": uses,
            "labels": labels,
            "labels_allowed": allowed,
            "join_address": self._join_address,
        }
        return JSONResponse(answer, status_code=201)


def _jti(request: Request) -> str:
    text: str = request.path_params["jti"]
    if not _JTI.fullmatch(text):
        raise Problem(404, "token_not_found", "there is no such token: an id is 32 hex digits")
    return text


def _no_token(jti: str) -> Problem:
    hint = "list the tokens with `zlayerd token ls`"
    return Problem(404, "token_not_found", f"there is no token {jti}", hint)
