"""Whom the loss of a lock cancels, and whom it does not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from zlayer_native._bridge.server import Held
from zlayer_native.cluster.election import campaign
from zlayer_native.cluster.lock import Lock
from zlayer_native.errors import LockHeld, LockLost, LockTimeout, NoLeader, ZLayerError


class FakeCore:
    """Grants locks; a test ends them."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.held: list[Held] = []
        self.released: list[tuple[str, int]] = []
        self.refusal: Exception | None = None

    async def hold(self, wanted: dict[str, Any]) -> Held:
        await asyncio.sleep(0)
        self.asked.append(wanted)
        if self.refusal is not None:
            raise self.refusal
        held = Held(len(self.held) + 1, asyncio.get_running_loop().create_future())
        self.held.append(held)
        return held

    async def release(self, name: str, fence: int) -> None:
        self.released.append((name, fence))
        ended = self.held[fence - 1].ended
        if not ended.done():
            ended.set_result(None)

    def lose(self) -> None:
        self.held[-1].ended.set_result("it could not be renewed")


@pytest.fixture
async def core() -> FakeCore:
    return FakeCore()


def lock(core: FakeCore, **times: Any) -> Lock:
    return Lock(core, "a", **{"ttl": 30, "wait": None, **times})  # type: ignore[arg-type]


async def test_what_is_asked_for(core: FakeCore) -> None:
    async with lock(core, ttl="1m", wait=0.5) as held:
        assert held.fence == 1
    (asked,) = core.asked
    assert (asked["name"], asked["ttl_ms"], asked["wait_ms"]) == ("a", 60_000, 500)
    assert len(asked["holder"]) == 32
    assert core.released == [("a", 1)]
    with pytest.raises(ZLayerError, match="is not held"):
        _ = held.fence


@pytest.mark.parametrize("bad", ["soon", -1, float("nan")])
def test_a_time_that_is_none_is_named(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"^ttl: "):
        lock(FakeCore(), ttl=bad)


async def test_a_loss_cancels_the_body_and_not_the_task(core: FakeCore) -> None:
    async def body() -> None:
        async with lock(core):
            core.lose()
            await asyncio.Event().wait()

    task = asyncio.current_task()
    assert task is not None
    with pytest.raises(LockLost, match="could not be renewed"):
        await body()
    assert task.cancelling() == 0
    assert core.released == []
    await asyncio.sleep(0)  # It would be raised here.


async def test_another_cancellation_goes_through(core: FakeCore) -> None:
    async def body() -> None:
        async with lock(core):
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert core.released == [("a", 1)]


async def test_both_at_once_end_the_task(core: FakeCore) -> None:
    async def body() -> None:
        async with lock(core):
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await asyncio.sleep(0.01)
    core.lose()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises((asyncio.CancelledError, LockLost)):
        await task
    assert task.done()


async def test_what_the_body_raises_says_more_than_the_loss(core: FakeCore) -> None:
    async def body() -> None:
        async with lock(core):
            core.lose()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise KeyError("half done") from None

    with pytest.raises(KeyError):
        await body()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_somebody_else_has_it(core: FakeCore) -> None:
    core.refusal = LockHeld("lock a is held by me", owner="host:7", fence=3)
    with pytest.raises(LockTimeout) as late:
        async with lock(core, wait=0):
            pytest.fail("it is not free")
    assert (late.value.owner, late.value.fence) == ("host:7", 3)


async def test_terms_follow_each_other_and_a_loss_just_ends_one(core: FakeCore) -> None:
    fences = []
    async for term in campaign(core, "reports", 15):  # type: ignore[arg-type]
        async with term:
            fences.append(term.fence)
            if len(fences) == 3:
                break
            if len(fences) == 1:
                core.lose()
                await asyncio.Event().wait()
    assert fences == [1, 2, 3]
    assert [asked["name"] for asked in core.asked] == ["elect/reports"] * 3
    assert core.released[0] == ("elect/reports", 2)


async def test_a_term_that_is_not_entered_is_given_up(core: FakeCore) -> None:
    terms = campaign(core, "reports", 15)  # type: ignore[arg-type]
    await anext(terms)
    core.refusal = NoLeader("no server leads")
    with pytest.raises(NoLeader):
        await anext(terms)
    assert core.released == [("elect/reports", 1)]
