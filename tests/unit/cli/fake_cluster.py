"""A fake cluster behind the real HTTP API, on a real port, in a thread."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable
from typing import Any

import uvicorn

from tests.unit.cli.book import Book
from zlayer_native.api import ApiOptions, ApiTokens, Scope, create_app, new_secret
from zlayer_native.api.auth import ApiToken
from zlayer_native.api.protocol import TokenIssuer
from zlayer_native.errors import CoreStopped

JOIN_ADDRESS = "10.0.0.1:3670"


class FakeCore:
    """Follows `zlayer_native.api.protocol.Core`; lives as long as one event loop."""

    def __init__(self, book: Book) -> None:
        self.failed: asyncio.Future[CoreStopped] = asyncio.get_running_loop().create_future()
        self.changed = asyncio.Event()
        self._book = book

    async def propose(self, command: dict[str, Any]) -> dict[str, Any]:
        self._book.propose(command)
        return {"type": "done"}

    async def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        return self._book.ask(question)

    async def settle(self) -> None:
        self._book.ask({"barrier": {}})

    def members(self) -> dict[str, Any]:
        return {"items": self._book.servers["items"], "is_changing": False}

    def nodes(self, query: dict[str, Any]) -> bytes:
        return json.dumps(self._book.page(query)).encode()

    def node(self, node_id: int) -> bytes | None:
        node = self._book.nodes.get(node_id)
        return None if node is None else json.dumps(node).encode()

    def tokens(self) -> bytes:
        items = list(self._book.tokens.values())
        return json.dumps({"items": items, "revision": self._book.revision}).encode()

    def token(self, jti: str) -> bytes | None:
        token = self._book.tokens.get(jti)
        return None if token is None else json.dumps(token).encode()

    def events(self, after: int, limit: int) -> bytes:
        book = self._book
        items = [event for event in book.events if event["revision"] > after][:limit]
        page = {"items": items, "revision": book.revision, "first_kept": book.first_kept}
        return json.dumps(page).encode()

    async def wait_revision(self, after: int, timeout: float) -> int:
        self._book.streams.put(after)
        try:
            async with asyncio.timeout(timeout):
                while self._book.revision <= after:
                    changed = self.changed
                    await changed.wait()
        except TimeoutError:
            pass
        return self._book.revision

    def status(self) -> bytes:
        return json.dumps(self._book.status()).encode()

    def metrics(self) -> dict[str, float]:
        return {}


class FakeCluster:
    """A server that can be stopped and started again on the same port, with the same book."""

    def __init__(self, issuer: TokenIssuer) -> None:
        self.book = Book()
        self.secrets = {scope: new_secret() for scope in Scope}
        self._issuer = issuer
        self._port = 0
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._core: FakeCore | None = None
        self._end: Callable[[], None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def secret(self) -> str:
        return self.secrets[Scope.ADMIN]

    def happen(self, kind: str = "joined", **fields: Any) -> int:
        """An event that waiting streams are told at once."""
        revision = self.book.add_event(kind, **fields)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake)
        return revision

    def _wake(self) -> None:
        assert self._core is not None
        self._core.changed.set()
        self._core.changed = asyncio.Event()

    def start(self) -> None:
        if self._thread is not None:
            return
        self._started.clear()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._started.wait(30)

    def stop(self) -> None:
        if self._thread is not None:
            assert self._loop is not None
            assert self._end is not None
            self._loop.call_soon_threadsafe(self._end)
            self._thread.join()
            self._thread = self._loop = None

    async def _serve(self) -> None:
        self._core = FakeCore(self.book)
        options = ApiOptions(join_address=JOIN_ADDRESS, is_ready=lambda: self.book.is_ready)
        tokens = _Now(
            ApiTokens(
                ApiToken.of_secret(secret, name=scope.name.lower(), scope=scope)
                for scope, secret in self.secrets.items()
            )
        )
        app = create_app(self._core, tokens, self._issuer, options)
        server = uvicorn.Server(
            uvicorn.Config(
                app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=2
            )
        )

        def end() -> None:
            options.stopping.set()
            server.should_exit = True

        with socket.create_server(("127.0.0.1", self._port)) as listener:
            self._port = listener.getsockname()[1]
            self._loop, self._end = asyncio.get_running_loop(), end
            self._started.set()
            await server.serve([listener])


class _Now:
    def __init__(self, tokens: ApiTokens) -> None:
        self._tokens = tokens

    def authenticate(self, secret: str) -> ApiToken | None:
        return self._tokens.authenticate(secret, 0.0)
