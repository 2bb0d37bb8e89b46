"""The API on a real socket: uvicorn on a free loopback port, in the test's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

from tests.unit.api.api import EVENTS, Api, running_api
from zlayer_native.api import Scope


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are pytest's own business."""
        yield


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """Serves an application with the limits of `zlayerd server`; gives its URL."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=32 * 1024,
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        server = _Uvicorn(config)
        task = asyncio.create_task(server.serve([listener]))
        try:
            yield f"http://{host}:{port}"
        finally:
            server.should_exit = True
            await task


@dataclass
class Live:
    """An API over a fake core, on a socket."""

    api: Api
    url: str

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    def stream(
        self, query: str = "", **headers: str
    ) -> contextlib.AbstractAsyncContextManager[Frames]:
        """Opens an event stream."""
        return frames(
            f"{self.url}{EVENTS}?follow=true{query}", self.api.bearer(Scope.READ) | headers
        )


@contextlib.asynccontextmanager
async def live(**options: Any) -> AsyncIterator[Live]:
    """An API on a socket; its streams end with the block."""
    async with running_api(**options) as api, served(api.app) as url:
        try:
            yield Live(api, url)
        finally:
            api.options.stopping.set()


@dataclass
class Frame:
    """One server-sent event, or a comment."""

    id: int | None = None
    event: str = ""
    data: Any = None
    comment: str = ""


class Frames:
    """What a stream says, frame by frame, read as strictly as the standard allows."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self) -> Frame:
        """The next frame.

        Raises:
            StopAsyncIteration: the stream has ended.
        """
        frame = Frame()
        while True:
            async with asyncio.timeout(20):
                line = await anext(self._lines)
            if not line:
                return frame
            name, _, value = line.partition(": ")
            match name:
                case "":
                    frame.comment = value
                case "id":
                    frame.id = int(value)
                case "event":
                    frame.event = value
                case "data":
                    frame.data = json.loads(value)
                case _:
                    raise AssertionError(f"not a line of a stream: {line!r}")

    async def events(self, count: int) -> list[Frame]:
        """The next `count` events; comments are passed over."""
        found: list[Frame] = []
        while len(found) < count:
            frame = await self.next()
            if frame.data is not None:
                found.append(frame)
        return found

    async def revisions(self, count: int) -> list[int]:
        """The revisions of the next `count` events."""
        return [frame.data["revision"] for frame in await self.events(count)]


@contextlib.asynccontextmanager
async def frames(url: str, headers: dict[str, str]) -> AsyncIterator[Frames]:
    """Opens a stream and checks that it is one."""
    async with (
        httpx.AsyncClient(timeout=30) as client,
        client.stream("GET", url, headers=headers) as response,
    ):
        if response.status_code == 200:
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        yield Frames(response)
