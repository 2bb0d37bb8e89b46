"""`/api/v1/cluster/events` as a stream, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from tests.unit.api.api import EVENTS, settled
from tests.unit.api.fake_core import FakeCore
from tests.unit.api.live import Live, frames, live, served
from zlayer_native.api import Scope, events
from zlayer_native.api.events import Events


@pytest.fixture
async def running() -> AsyncIterator[Live]:
    async with live() as running_:
        yield running_


async def until(check: Callable[[], bool]) -> None:
    """Lets the loop run until `check` is true."""
    async with asyncio.timeout(20):
        while True:
            if check():
                return
            await asyncio.sleep(0.005)


async def test_what_was_and_what_comes_is_one_stream(running: Live) -> None:
    core = running.api.core
    for _ in range(250):  # More than one batch.
        core.happen()
    async with running.stream() as stream:
        assert await stream.revisions(250) == list(range(1, 251))
        core.happen("suspect", node_name="w1", detail="a\nb\r\n\ndata: c", reason=None)
        (frame,) = await stream.events(1)
    assert (frame.id, frame.event) == (251, "suspect")
    assert frame.data == {
        "revision": 251,
        "kind": "suspect",
        "node_id": 1000,
        "node_name": "w1",
        "detail": "a\nb\r\n\ndata: c",
        "reason": None,
    }


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("&after=7", {}),
        ("", {"last-event-id": "7"}),
        ("&after=2", {"last-event-id": "7"}),  # A browser repeats the query when it resumes.
    ],
)
async def test_a_stream_resumes_after_what_the_reader_has(
    running: Live, query: str, headers: dict[str, str]
) -> None:
    for _ in range(10):
        running.api.core.happen()
    async with running.stream(query, **headers) as stream:
        assert await stream.revisions(3) == [8, 9, 10]
        running.api.core.happen()
        assert await stream.revisions(1) == [11]


async def test_a_stream_is_asked_for_by_header_or_by_query(running: Live) -> None:
    running.api.core.happen()
    bearer = running.api.bearer(Scope.READ)
    for accept in ("text/event-stream", "text/html, Text/Event-Stream;q=0.9"):
        async with frames(f"{running.url}{EVENTS}", bearer | {"accept": accept}) as stream:
            assert await stream.revisions(1) == [1]
            assert stream.response.headers["cache-control"] == "no-store"
            assert stream.response.headers["x-accel-buffering"] == "no"
    page = await running.api.call(
        "GET", EVENTS, headers={"accept": "text/event-stream"}, params={"follow": "false"}
    )
    assert page.json()["revision"] == 1


async def test_a_reader_that_fell_behind_is_told_and_goes_on(running: Live) -> None:
    core = running.api.core
    for _ in range(10):
        core.happen()
    core.forget(before=6)
    async with running.stream("&after=2") as stream:
        gap, *rest = await stream.events(6)
        assert (gap.event, gap.id) == ("lost", 5)  # Resuming by this id is no second gap.
        assert gap.data == {
            "after": 2,
            "resumes_after": 5,
            "revision": 10,
            "why": "no_longer_kept",
        }
        assert [frame.data["revision"] for frame in rest] == [6, 7, 8, 9, 10]
    async with running.stream("", **{"last-event-id": str(gap.id)}) as stream:
        assert await stream.revisions(5) == [6, 7, 8, 9, 10]


async def test_a_reader_that_falls_behind_while_it_reads_is_told(running: Live) -> None:
    core = running.api.core
    core.happen()
    async with running.stream() as stream:
        assert await stream.revisions(1) == [1]
        for _ in range(5):
            core.happen()
        core.forget(before=5)
        gap, *rest = await stream.events(3)
        assert (gap.event, gap.data["why"]) == ("lost", "no_longer_kept")
        assert [frame.data["revision"] for frame in rest] == [5, 6]


async def test_a_reader_of_a_log_that_was_put_back_begins_again(running: Live) -> None:
    for _ in range(3):
        running.api.core.happen()
    async with running.stream("&after=900") as stream:
        gap, *rest = await stream.events(4)
    assert (gap.event, gap.id, gap.data["why"]) == ("lost", 0, "ahead_of_the_log")
    assert [frame.data["revision"] for frame in rest] == [1, 2, 3]


async def test_a_silent_stream_says_that_it_lives() -> None:
    core, stopping = FakeCore(), asyncio.Event()
    quick = Events(core, stopping, keep_alive=0.05)
    async with served(Starlette(routes=[Route("/", quick.index)])) as url:
        async with frames(f"{url}?follow=1", {}) as stream:
            for _ in range(3):
                assert (await stream.next()).comment == "keep-alive"
            core.happen()
            assert await stream.revisions(1) == [1]
            assert (await stream.next()).comment == "keep-alive"
        stopping.set()


async def test_streams_end_whole_when_the_server_stops(running: Live) -> None:
    running.api.core.happen()
    async with running.stream() as busy, running.stream("&after=1") as silent:
        assert await busy.revisions(1) == [1]
        running.api.options.stopping.set()
        for stream in (busy, silent):
            with pytest.raises(StopAsyncIteration):  # And no error of a body that was cut short.
                await stream.next()
    async with running.stream() as late:
        with pytest.raises(StopAsyncIteration):
            await late.next()


async def test_no_gap_and_no_repeat_between_a_snapshot_and_its_stream(running: Live) -> None:
    """Readers come at any time; each takes a page's revision and follows from there."""
    core, stop = running.api.core, asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            core.happen()
            await asyncio.sleep(0)

    async def read() -> tuple[list[int], list[int]]:
        snapshot = await running.api.get(EVENTS, limit=1000)
        before = [event["revision"] for event in snapshot["items"]]
        last = before[-1] if before else 0
        async with running.stream(f"&after={last}") as stream:
            return before, await stream.revisions(500)

    writing = asyncio.create_task(write())
    try:
        for before, after in await asyncio.gather(*(read() for _ in range(8))):
            whole = before + after
            assert whole == list(range(1, len(whole) + 1))
    finally:
        stop.set()
        await writing


async def test_streams_are_counted_and_given_back(
    running: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "STREAMS_MAX", 3)
    running.api.core.happen()
    async with contextlib.AsyncExitStack() as open_streams:
        for _ in range(3):
            stream = await open_streams.enter_async_context(running.stream())
            assert await stream.revisions(1) == [1]
        async with running.stream() as refused:
            await refused.response.aread()
        assert refused.response.status_code == 503
        assert refused.response.json()["error"]["code"] == "too_many_streams"
        assert refused.response.headers["retry-after"] == "1"
        assert (await running.api.call("GET", EVENTS)).status_code == 200  # Pages are no streams.
    for _ in range(10):  # The places of readers that have gone are free again.
        async with asyncio.timeout(20):
            while True:
                async with running.stream() as stream:
                    if stream.response.status_code == 200:
                        assert await stream.revisions(1) == [1]
                        break
                await asyncio.sleep(0.005)


async def test_many_at_once_do_not_slip_past_the_limit(
    running: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "STREAMS_MAX", 3)
    statuses: list[int] = []
    enough = asyncio.Event()

    async def reader() -> None:
        async with running.stream() as stream:
            statuses.append(stream.response.status_code)
            if len(statuses) == 20:
                enough.set()
            await enough.wait()

    await asyncio.gather(*(reader() for _ in range(20)))
    assert sorted(statuses) == [200] * 3 + [503] * 17


class Endless(FakeCore):
    """A core whose log never ends, and whose events are large."""

    def events(self, after: int, limit: int) -> bytes:
        self.revision = after + 10_000
        self.kept = [
            {"revision": after + n, "kind": "joined", "detail": "x" * 1000}
            for n in range(1, limit + 1)
        ]
        return super().events(after, limit)


async def test_a_reader_that_stops_reading_holds_no_memory_and_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "SEND_TIMEOUT", 0.5)
    core, stopping = Endless(), asyncio.Event()
    app = Starlette(routes=[Route("/", (stream := Events(core, stopping)).index)])
    async with served(app) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.socket() as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect((host, int(port)))
            reader.sendall(b"GET /?follow=1 HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: stream._streams == 1)
            pulled = -1
            while pulled != len(core.pages):  # Until it pulls no more.
                pulled = len(core.pages)
                await asyncio.sleep(0.1)
            # What it pulled is in the kernel's buffers and one batch, not in a queue of ours.
            assert pulled * 100 * 1000 < 16 * 1024 * 1024
            await until(lambda: stream._streams == 0)
            assert len(core.pages) == pulled
        stopping.set()


async def test_a_slow_reader_holds_nobody_up(running: Live) -> None:
    core = running.api.core
    with socket.create_connection(running.address) as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        bearer = running.api.bearer(Scope.READ)["authorization"]
        head = (
            f"GET {EVENTS}?follow=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: {bearer}\r\n\r\n"
        )
        reader.sendall(head.encode())
        async with running.stream() as stream:
            for n in range(1, 2001):
                core.happen(detail="x" * 5000)
                if n % 100 == 0:
                    assert await stream.revisions(100) == list(range(n - 99, n + 1))


async def test_a_long_log_lets_everybody_else_run() -> None:
    core, turns = FakeCore(), 0
    for _ in range(10_000):
        core.happen()
    sent: list[Any] = []

    async def send(message: Any) -> None:  # A reader that is never slow: nothing waits here.
        sent.append(message)

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    stream = Events(core, asyncio.Event())
    tasks = [asyncio.create_task(others()), asyncio.create_task(stream.run_stream(0, send))]
    await until(lambda: b"".join(m["body"] for m in sent).count(b"id: ") == 10_000)
    assert turns >= 100
    for task in tasks:
        await settled(task)


async def test_a_core_that_fails_ends_the_stream(running: Live) -> None:
    running.api.core.happen()
    async with running.stream() as stream:
        assert await stream.revisions(1) == [1]

        def fail(after: int, limit: int) -> bytes:
            raise RuntimeError("the core broke")

        running.api.core.events = fail  # type: ignore[method-assign]  # a fault
        running.api.core.happen()
        with pytest.raises(Exception, match=r"peer closed connection|incomplete"):
            await stream.next()
