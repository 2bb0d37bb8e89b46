"""The API over the built core, on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.boundary.real_core import RealCore, real_core
from tests.unit.api.live import served
from zlayer_native.api import ApiOptions, ApiTokens, Scope, create_app, new_secret
from zlayer_native.api.auth import ApiToken


class Known:
    """Admits the callers whose secrets it made."""

    def __init__(self) -> None:
        self.secrets = {scope: new_secret() for scope in Scope}
        self._tokens = ApiTokens(
            ApiToken.of_secret(secret, name=scope.name.lower(), scope=scope)
            for scope, secret in self.secrets.items()
        )

    def authenticate(self, secret: str) -> ApiToken | None:
        return self._tokens.authenticate(secret, 0)


@dataclass
class Running:
    """An API that answers, and a client of it that may do everything."""

    core: RealCore
    url: str
    secrets: dict[Scope, str]
    client: httpx.AsyncClient

    @property
    def headers(self) -> dict[str, str]:
        return self.bearer(Scope.ADMIN)

    def bearer(self, scope: Scope) -> dict[str, str]:
        return {"authorization": f"Bearer {self.secrets[scope]}"}

    async def get(self, path: str, **query: Any) -> Any:
        response = await self.client.get(path, params=query or None)
        assert response.status_code == 200, response.text
        return response.json()


@contextlib.asynccontextmanager
async def api_over_core(root: Path) -> AsyncIterator[Running]:
    """Ends with the block, its streams too."""
    async with contextlib.AsyncExitStack() as stack:
        core = await stack.enter_async_context(real_core(root))
        known, stopping = Known(), asyncio.Event()
        options = ApiOptions(join_address=core.server.address, stopping=stopping)
        app = create_app(core.server, known, core.authority.token_signer, options)
        url = await stack.enter_async_context(served(app))
        stack.callback(stopping.set)
        headers = {"authorization": f"Bearer {known.secrets[Scope.ADMIN]}"}
        client = httpx.AsyncClient(base_url=url, headers=headers, timeout=20)
        yield Running(core, url, known.secrets, await stack.enter_async_context(client))
