"""`/api/v1/raft`: the servers among themselves. Every server answers; the leader does it."""

from __future__ import annotations

import secrets
from typing import Any

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from zlayer_native.api import request as ask
from zlayer_native.api.protocol import ApiOptions, Core
from zlayer_native.config.addresses import EXPECTED_DIAL, parse_dial
from zlayer_native.config.fields import SERVER_ID_MAX
from zlayer_native.errors import NoLeader


class Servers:
    """Who votes, who leads, and changing that."""

    def __init__(self, core: Core, options: ApiOptions) -> None:
        self._core = core
        self._scratch = options.scratch

    async def index(self, request: Request) -> Response:
        """The servers as the leader sees them; as this one does while none leads."""
        ask.query(request)
        try:
            seen = await self._core.ask({"members": {}})
        except NoLeader:
            seen = {**self._core.members(), "leader": None}
        return JSONResponse(seen)

    async def add(self, request: Request) -> Response:
        """Takes a new server in, and lets it vote once it has caught up."""
        ask.query(request)
        document = await ask.body(request, "id", "raft_addr", "api_addr", "learner")
        server_id = ask.integer(document, "id", 0, 1, SERVER_ID_MAX)
        learner = document.get("learner", False)
        if not isinstance(learner, bool):
            raise ask.invalid("learner", "expected true or false")
        member = {
            "id": server_id,
            "raft_addr": _address(document, "raft_addr"),
            "api_addr": _address(document, "api_addr"),
        }
        await self._core.ask({"add": member})
        if not learner:
            await self._core.ask({"promote": {"ids": [server_id]}})
        return JSONResponse({**member, "voter": not learner}, status_code=201)

    async def remove(self, request: Request) -> Response:
        """Removes a server for good: its id is never used again."""
        ask.query(request)
        server_id = ask.whole("id", request.path_params["id"], 1, SERVER_ID_MAX)
        await self._core.ask({"remove": {"id": server_id}})
        return JSONResponse({"id": server_id, "removed": True})

    async def transfer(self, request: Request) -> Response:
        """Hands the leadership to a server, or to the one that lacks least."""
        ask.query(request)
        document = await ask.body(request, "to")
        to = ask.integer(document, "to", 0, 0, SERVER_ID_MAX) or None
        return JSONResponse(await self._core.ask({"transfer": {"to": to}}))

    async def snapshot(self, request: Request) -> Response:
        """A backup of the control state as it is now. It holds no key and no token's line."""
        ask.query(request)
        path = self._scratch / f"backup-{secrets.token_hex(8)}"
        await self._core.ask({"snapshot": {"path": str(path)}})
        return FileResponse(
            path,
            media_type="application/octet-stream",
            background=BackgroundTask(path.unlink, missing_ok=True),
        )


def _address(document: dict[str, Any], field: str) -> str:
    value = document.get(field)
    if not isinstance(value, str):
        raise ask.invalid(field, f"expected {EXPECTED_DIAL}")
    try:
        return parse_dial(value)
    except ValueError as error:
        raise ask.invalid(field, f"{error}: expected {EXPECTED_DIAL}") from None
