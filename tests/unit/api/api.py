"""The API over a fake core, called in process."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette

from tests.unit.api.fake_core import FakeCore
from zlayer_native.api import ApiOptions, ApiTokens, Scope, create_app, new_secret
from zlayer_native.api.auth import ApiToken
from zlayer_native.api.protocol import TokenClaims

BASE = "http://127.0.0.1:3669"
NODES, EVENTS, TOKENS = (f"/api/v1/cluster/{name}" for name in ("nodes", "events", "tokens"))
RAFT = "/api/v1/raft"
JTI = "0123456789abcdef" * 2


class FakeIssuer:
    """Signs nothing; remembers what it was asked to."""

    cluster_id = "zl-test"

    def __init__(self) -> None:
        self.issued: list[TokenClaims] = []
        self.refusal: Exception | None = None

    def issue(self, claims: TokenClaims) -> str:
        if self.refusal is not None:
            raise self.refusal
        self.issued.append(claims)
        return "zlt1-secret-line"


class AtTime:
    """`ApiTokens` at a time that a test sets."""

    def __init__(self, tokens: ApiTokens) -> None:
        self.tokens = tokens
        self.now_s = 1_000_000.0

    def authenticate(self, secret: str) -> ApiToken | None:
        return self.tokens.authenticate(secret, self.now_s)


@dataclass
class Api:
    core: FakeCore
    issuer: FakeIssuer
    clock: AtTime
    options: ApiOptions
    app: Starlette
    client: httpx.AsyncClient
    secrets: dict[Scope, str]

    def bearer(self, scope: Scope) -> dict[str, str]:
        """The header of a caller with this scope."""
        return {"authorization": f"Bearer {self.secrets[scope]}"}

    async def call(
        self, method: str, path: str, scope: Scope | None = Scope.ADMIN, **options: Any
    ) -> httpx.Response:
        """Calls as somebody with `scope`."""
        headers = {**(self.bearer(scope) if scope else {}), **options.pop("headers", {})}
        return await self.client.request(method, path, headers=headers, **options)

    async def get(self, path: str, scope: Scope | None = Scope.READ, **query: Any) -> Any:
        """What a good GET answers, read as JSON."""
        response = await self.call("GET", path, scope, params=query)
        assert response.status_code == 200, response.text
        return response.json()


@contextlib.asynccontextmanager
async def running_api(**options: Any) -> AsyncIterator[Api]:
    """An API whose every call must end without an exception of the application."""
    core, issuer = FakeCore(), FakeIssuer()
    secrets = {scope: new_secret() for scope in Scope}
    clock = AtTime(
        ApiTokens(
            ApiToken.of_secret(secret, name=scope.name.lower(), scope=scope)
            for scope, secret in secrets.items()
        )
    )
    with tempfile.TemporaryDirectory() as scratch:
        api_options = ApiOptions(
            **{"join_address": "127.0.0.1:3670", "scratch": Path(scratch), **options}
        )
        app = create_app(core, clock, issuer, api_options)
        # raise_app_exceptions: an exception that reaches the server fails the test.
        transport = httpx.ASGITransport(app, raise_app_exceptions=True, client=("192.0.2.1", 5555))
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
            yield Api(core, issuer, clock, api_options, app, client, secrets)


def problem(response: httpx.Response, status: int) -> str:
    """Checks the shape of a refusal; returns its code."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    document = response.json()
    assert document.keys() == {"error"}
    assert document["error"].keys() == {"code", "message", "hint"}
    assert all(isinstance(text, str) for text in document["error"].values())
    assert document["error"]["message"]
    return str(document["error"]["code"])


async def settled(task: asyncio.Task[Any]) -> None:
    """Cancels a task and waits until it has ended."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
