"""`/api/v1/cluster/events`: the event log as pages, or as a stream that resumes by revision.

A stream holds nothing of its own: it pulls the next page from the core when the client has taken
the last one. A client that falls behind the oldest kept event is told so with a `lost` event and
goes on from there; one that stops reading is cut off.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from zlayer_native.api import reading
from zlayer_native.api import request as ask
from zlayer_native.api.problem import Problem
from zlayer_native.api.protocol import Core

#: Events of one page.
PAGE_MAX = 1000

#: Events that a stream takes from the core at once: what one slow client can hold in memory.
_BATCH = 100

#: Streams at once. Chosen: one a dashboard or `events -f`; each costs a task and a socket.
STREAMS_MAX = 64

#: Seconds between comments that keep proxies from closing a silent stream. Chosen.
KEEP_ALIVE = 15.0

#: Seconds that a client may leave what it was sent unread. Chosen.
SEND_TIMEOUT = 30.0

_REVISION_MAX = (1 << 63) - 1


class Events:
    """The event log."""

    def __init__(
        self, core: Core, stopping: asyncio.Event, *, keep_alive: float = KEEP_ALIVE
    ) -> None:
        self._core = core
        self._stopping = stopping
        self._keep_alive = keep_alive
        self._streams = 0

    async def index(self, request: Request) -> Response:
        """Events above `after`, oldest first; a stream if the caller accepts one."""
        ask.query(request, "after", "limit", "follow", reading.PARAMETER)
        after = ask.query_int(request, "after", 0, 0, _REVISION_MAX)
        if _wants_stream(request):
            resumed = request.headers.get("last-event-id")
            if resumed:
                after = ask.whole("Last-Event-ID", resumed, 0, _REVISION_MAX)
            return self._stream(after)
        limit = ask.query_int(request, "limit", 100, 1, PAGE_MAX)
        consistency = await reading.settle(request, self._core)
        page = json.loads(self._core.events(after, limit))
        page["lost"] = lost(page, after)
        return JSONResponse(page, headers={reading.HEADER: consistency})

    def _stream(self, after: int) -> Response:
        if self._streams >= STREAMS_MAX:
            hint = "close another stream, or page with ?after="
            raise Problem(503, "too_many_streams", f"{STREAMS_MAX} streams are open", hint)
        return _EventStream(self, after)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Counts an open stream."""
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    async def run_stream(self, after: int, send: Send) -> None:
        """Sends events until the server stops; the caller cancels it when the client has gone."""
        while not self._stopping.is_set():
            page = json.loads(self._core.events(after, _BATCH))
            gap = lost(page, after)
            if gap is not None:
                after = int(gap["resumes_after"])
                await _send(send, _frame(after, "lost", gap))
            items = [item for item in page["items"] if item["revision"] > after]
            if items:
                after = items[-1]["revision"]
                frames = (_frame(item["revision"], item["kind"], item) for item in items)
                await _send(send, b"".join(frames))
            if after >= page["revision"]:
                await self._wait(after, send)
            else:
                await asyncio.sleep(0)  # A long log must not keep the loop from everybody else.

    async def _wait(self, after: int, send: Send) -> None:
        """Waits for the next event; says something when there is none for long."""
        waiting = asyncio.ensure_future(self._core.wait_revision(after, self._keep_alive))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done() and waiting.result() <= after:
                await _send(send, b": keep-alive\n\n")
        finally:
            for task in (waiting, stopping):
                task.cancel()
            await asyncio.gather(waiting, stopping, return_exceptions=True)


class _EventStream(Response):
    """A response that runs as long as client and server do."""

    def __init__(self, events: Events, after: int) -> None:
        super().__init__(media_type="text/event-stream")
        del self.headers["content-length"]
        self.headers["x-accel-buffering"] = "no"  # A proxy that buffers would hold events back.
        self._events = events
        self._after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Counted before anything is awaited: the limit was checked just now.
        with self._events.counted():
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if scope["method"] != "HEAD" and not await self._run(receive, send):
                return  # The client stopped reading or has gone: the connection is dropped.
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _run(self, receive: Receive, send: Send) -> bool:
        """Streams until client or server ends it; False where nothing more can be sent."""
        sending = asyncio.ensure_future(self._events.run_stream(self._after, send))
        leaving = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            ended = await asyncio.gather(sending, leaving, return_exceptions=True)
        if isinstance(ended[0], TimeoutError | OSError):
            return False
        if isinstance(ended[0], Exception):
            raise ended[0]
        return True


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(send: Send, chunk: bytes) -> None:
    async with asyncio.timeout(SEND_TIMEOUT):
        await send({"type": "http.response.body", "body": chunk, "more_body": True})


def _frame(revision: int, kind: str, document: dict[str, Any]) -> bytes:
    # JSON escapes line breaks, so that one `data:` line is always enough.
    return f"id: {revision}\nevent: {kind}\ndata: {json.dumps(document)}\n\n".encode()


def lost(page: dict[str, Any], after: int) -> dict[str, Any] | None:
    """What a reader at `after` can't be given any more; None when there is no gap.

    A reader ahead of the log has read another one (an older copy was restored): it starts anew.
    """
    newest, first_kept = int(page["revision"]), int(page["first_kept"])
    if after > newest:
        return {"after": after, "resumes_after": 0, "revision": newest, "why": "ahead_of_the_log"}
    if first_kept > after + 1:
        return {
            "after": after,
            "resumes_after": first_kept - 1,
            "revision": newest,
            "why": "no_longer_kept",
        }
    return None


def _wants_stream(request: Request) -> bool:
    follow = request.query_params.get("follow")
    if follow is not None:
        if follow not in ("0", "1", "false", "true"):
            raise ask.invalid("follow", "expected true or false")
        return follow in ("1", "true")
    accepted = request.headers.get("accept", "").lower()
    return any(part.split(";")[0].strip() == "text/event-stream" for part in accepted.split(","))
