"""`Session`: what it tells a program, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.boundary.real_core import RealCore, real_core
from zlayer_native._bridge import Session
from zlayer_native.errors import CoreStopped


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[RealCore]:
    async with real_core(tmp_path) as running:
        yield running


async def until(session: Session, kind: str) -> dict[str, Any]:
    """The next event of this kind."""
    async with asyncio.timeout(20):
        while (event := await session.next_event())["type"] != kind:
            pass
        return event


def look_until_connected(session: Session) -> None:
    """Looks, which takes no event and needs no loop."""
    deadline = time.monotonic() + 20
    while session.state()["state"] != "connected":
        assert time.monotonic() < deadline
        time.sleep(0.005)


async def test_a_session_tells_its_life(core: RealCore) -> None:
    session = Session.start(await core.session_options())
    assert await until(session, "connected") == {
        "type": "connected",
        "server": core.server.address,
    }
    state = session.state()
    assert (state["state"], state["server"]) == ("connected", core.server.address)
    session.set_resources(1500, 2**33, 2**40)
    assert await session.leave() is True
    with pytest.raises(CoreStopped, match="session has ended"):
        await until(session, "never")
    assert session.state()["state"] == "stopped"
    session.stop()
    with pytest.raises(CoreStopped):
        await session.next_event()


async def test_a_session_that_is_stopped_wakes_who_waits(core: RealCore) -> None:
    session = Session.start(await core.session_options())
    await until(session, "connected")
    waiting = [asyncio.create_task(until(session, "never")) for _ in range(3)]
    await asyncio.sleep(0)
    session.stop()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(answer) for answer in answers] == [CoreStopped] * 3


async def test_events_that_came_before_anybody_asked_are_kept(core: RealCore) -> None:
    session = Session.start(await core.session_options())
    await asyncio.to_thread(look_until_connected, session)
    assert (await session.next_event())["type"] == "connected"
    session.stop()
    late = Session.start(await core.session_options())
    late.stop()
    with pytest.raises(CoreStopped):
        await until(late, "never")


async def test_a_removed_worker_is_told_so(core: RealCore) -> None:
    options = await core.session_options()
    session = Session.start(options)
    await until(session, "connected")
    await core.server.propose({"type": "remove_node", "node_id": options["node_id"]})
    assert (await until(session, "refused"))["removed"] is True
    assert session.state()["state"] == "removed"
    session.stop()


async def test_a_session_outlives_its_server(tmp_path: Path) -> None:
    async with real_core(tmp_path) as core:
        session = Session.start(await core.session_options())
        await until(session, "connected")
        address = core.server.address
        await core.server.stop()
        assert (await until(session, "disconnected"))["why"]
    async with real_core(tmp_path, listen=address) as again:
        assert (await until(session, "connected"))["server"] == address
        assert session.state()["reconnects"] >= 1
        await session.leave()
        assert again.server.metrics()["leaves_total"] == 1


def test_a_session_goes_on_without_a_loop_and_with_another(tmp_path: Path) -> None:
    """Its thread is Rust's; a closed loop must not keep it from being stopped."""

    async def serve() -> None:
        async with real_core(tmp_path) as core:
            options = await core.session_options()
            session = Session.start(options)

            def in_a_loop_of_its_own() -> None:
                event = asyncio.run(session.next_event())
                assert event["type"] == "connected"
                assert session.leave_blocking() is True
                session.stop()

            await asyncio.to_thread(in_a_loop_of_its_own)

    asyncio.run(serve())


def test_uvloop_wakes_as_well(tmp_path: Path) -> None:
    async def run() -> None:
        async with real_core(tmp_path) as core:
            session = Session.start(await core.session_options())
            await until(session, "connected")
            waiting = asyncio.create_task(until(session, "never"))
            await asyncio.sleep(0)
            session.stop()
            with pytest.raises(CoreStopped):
                await waiting

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def test_a_session_that_ended_leaves_the_loop_alone(core: RealCore) -> None:
    """Its descriptor will be another file's one day: nothing may watch it then."""
    loop = asyncio.get_running_loop()
    session = Session.start(await core.session_options())
    await until(session, "connected")
    descriptor = session._session.wake_fd()
    session.stop()
    with pytest.raises(CoreStopped):
        await until(session, "never")
    assert loop.remove_reader(descriptor) is False
    del session
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
