"""What becomes of a session's events."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from tests.unit.worker.fakes import Clock, FakeSession
from zlayer_native.errors import CoreStopped
from zlayer_native.worker.carried_error import NodeRemoved
from zlayer_native.worker.follower import Follower
from zlayer_native.worker.log import Repeats

FOLDER = Path("/var/lib/zlayerd/worker/identity")


async def followed(*events: dict[str, object]) -> tuple[Follower, list[bool]]:
    """A follower that has seen the events; and after each, whether it took the session to stand."""
    session, seen = FakeSession({}), []
    follower = Follower(FOLDER, on_change=lambda: seen.append(follower.is_connected.is_set()))
    for event in events:
        session.tell(**event)
    session.end()
    with pytest.raises(CoreStopped):
        await follower.run(session)
    return follower, seen


async def test_it_knows_whether_the_cluster_answers(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "zlayer.worker")
    _, seen = await followed(
        {"type": "connected", "server": "a:1"},
        {"type": "disconnected", "why": "no answer"},
        {"type": "connected", "server": "b:1"},
        {"type": "refused", "why": "superseded", "removed": False},
        {"type": "assignments", "revision": 3},
        {"type": "of a later version"},
    )
    assert seen == [True, False, True, False, False, False]
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "INFO", "ERROR"]
    assert "disconnected why=no answer" in caplog.text


async def test_a_removed_node_is_told_what_to_delete():
    session = FakeSession({})
    session.tell(type="refused", why="the node was removed", removed=True)
    with pytest.raises(NodeRemoved, match="the node was removed") as removed:
        await Follower(FOLDER).run(session)
    assert f"delete {FOLDER}" in str(removed.value)
    assert not removed.value.retryable


async def test_dials_that_come_to_nothing_are_told_of_once_a_minute(
    caplog: pytest.LogCaptureFixture,
):
    session, clock = FakeSession({}), Clock()
    follower, told = Follower(FOLDER), []

    async def look(seconds: float) -> None:
        told.append(len(caplog.records))
        if len(told) == 2:
            session.last_error = "a:1: refused"
        if len(told) == 30:
            session.last_error = "a:1: no route"
        if len(told) == 33:
            follower.is_connected.set()
            session.last_error = "from before"
        if len(told) == 60:
            raise asyncio.CancelledError
        await clock.sleep(seconds)

    with pytest.raises(asyncio.CancelledError):
        await follower.complain(session, sleep=look, repeats=Repeats(clock.monotonic))
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition("why=")[2] for line in lines] == [
        "a:1: refused repeats=0",
        "a:1: refused repeats=11",
        "a:1: refused repeats=11",
        "a:1: no route repeats=0",
    ]
    assert told[1] == 0
