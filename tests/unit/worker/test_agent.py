"""The agent put together, over a session and a registrar that do what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.worker.fakes import Clock, FakeRegistrar, FakeSession, Issuer
from zlayer_native.errors import (
    CoreError,
    CoreStopped,
    EnrollmentError,
    IdentityError,
    ZLayerError,
)
from zlayer_native.identity.store import Identity, IdentityStore
from zlayer_native.worker.agent import Agent, Settings
from zlayer_native.worker.carried_error import NodeRemoved
from zlayer_native.worker.claim import Claim
from zlayer_native.worker.renewal import Timing
from zlayer_native.worker.state import Phase
from zlayer_native.worker.token_source import TokenSource


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("agent"))


class Running:
    """An agent that runs in a task."""

    def __init__(
        self, root: Path, *answers: Identity | ZLayerError, timing: Timing | None = None
    ) -> None:
        self.settings = Settings(
            servers=("a:1", "b:1"),
            identity_dir=root / "identity",
            data_dir=root,
            name="w1",
            labels={"zone": "a"},
            token=TokenSource(line="token"),
        )
        self.registrar = FakeRegistrar(IdentityStore(root / "identity"), *answers)
        self.sessions: list[FakeSession] = []
        self.changes: list[Phase] = []
        self.agent = Agent(
            self.settings,
            registrar=self.registrar,
            start_session=self._start_session,
            timing=timing,
            on_change=lambda: self.changes.append(self.agent.state().phase),
        )
        self.task = asyncio.create_task(self.agent.run())

    def _start_session(self, options: dict[str, Any]) -> FakeSession:
        self.sessions.append(FakeSession(options))
        return self.sessions[-1]

    @property
    def session(self) -> FakeSession:
        return self.sessions[0]

    async def connected(self) -> FakeSession:
        await self.agent.entered.wait()
        self.session.tell(type="connected", server="a:1")
        await self.agent.is_connected.wait()
        return self.session

    async def cancelled(self) -> None:
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task


@pytest.fixture
async def running(tmp_path: Path, issuer: Issuer) -> AsyncIterator[Running]:
    agent = Running(tmp_path, issuer.identity())
    yield agent
    agent.task.cancel()
    await asyncio.gather(agent.task, return_exceptions=True)


async def test_it_enrols_starts_a_session_and_reports(running: Running):
    session = await running.connected()
    member = running.agent.member
    assert member is not None
    assert session.options["node_id"] == member.identity.node_id == 1000
    assert session.options["cluster_id"] == member.identity.cluster_id
    assert session.options["servers"] == ["a:1", "b:1"]
    assert session.options["certificate_pem"] == member.identity.cert_pem
    assert 0 < session.options["incarnation"] < 2**63
    assert member.labels == {"zone": "a"}
    assert session.resources[0][1] > 0  # Before it can have dialled.
    assert running.changes == [Phase.CONNECTING, Phase.CONNECTED]


async def test_its_state_is_the_session_s_in_our_words(running: Running):
    await running.connected()
    state = running.agent.state()
    assert state.phase is Phase.CONNECTED
    assert (state.node_id, state.server, state.ttl_ms) == (1000, "a:1", 10_000)
    assert (state.beats, state.acks, state.reconnects) == (3, 2, 1)
    assert state.certificate_not_after is not None
    await running.cancelled()
    assert running.agent.state().phase is Phase.STOPPED
    assert running.agent.state().lease_left_ms is None


async def test_to_cancel_it_is_to_leave(running: Running):
    session = await running.connected()
    await running.cancelled()
    assert session.goodbyes == [5.0]
    assert session.is_stopped
    Claim(running.settings.identity_dir).release()


async def test_a_goodbye_that_hardly_anybody_hears_is_short(running: Running):
    await running.agent.entered.wait()
    await running.cancelled()
    assert running.session.goodbyes == [1.0]


async def test_to_cancel_it_before_it_has_entered_leaves_nothing_behind(
    tmp_path: Path, issuer: Issuer
):
    running = Running(tmp_path)
    entering = asyncio.Event()

    async def enrol(*_: Any) -> dict[str, str]:
        entering.set()
        await asyncio.Event().wait()
        raise AssertionError

    running.registrar.enrol = enrol  # type: ignore[method-assign]
    await entering.wait()
    assert running.agent.state().phase is Phase.ENROLLING
    await running.cancelled()
    assert running.sessions == []
    Claim(running.settings.identity_dir).release()


async def test_a_removed_node_ends_without_a_goodbye(running: Running):
    session = await running.connected()
    session.tell(type="refused", why="the node was removed", removed=True)
    with pytest.raises(NodeRemoved, match=f"delete {running.settings.identity_dir}"):
        await running.task
    assert session.goodbyes == []
    assert session.is_stopped
    assert running.agent.state().phase is Phase.REMOVED
    assert "was removed" in str(running.agent.state().last_error)
    assert IdentityStore(running.settings.identity_dir).load() is not None


async def test_a_session_that_ends_by_itself_ends_the_agent(running: Running):
    (await running.connected()).end()
    with pytest.raises(CoreStopped):
        await running.task
    assert running.agent.state().phase is Phase.STOPPED


async def test_a_refusal_at_the_door_is_raised(tmp_path: Path):
    running = Running(tmp_path, EnrollmentError("no uses left", code="RESOURCE_EXHAUSTED"))
    with pytest.raises(EnrollmentError, match="no uses left"):
        await running.task
    assert running.sessions == []
    assert running.agent.state().phase is Phase.STOPPED
    assert running.agent.state().last_error == "no uses left"


async def test_a_session_that_can_t_start_is_raised(tmp_path: Path, issuer: Issuer):
    running = Running(tmp_path, issuer.identity())

    def start(_: dict[str, Any]) -> FakeSession:
        raise CoreError("bad option")

    running.agent._start_session = start
    with pytest.raises(CoreError, match="bad option"):
        await running.task
    Claim(running.settings.identity_dir).release()


async def test_a_folder_that_another_worker_has_is_not_touched(tmp_path: Path, issuer: Issuer):
    claim = Claim(tmp_path / "identity")
    try:
        running = Running(tmp_path, issuer.identity())
        with pytest.raises(IdentityError, match="another Worker"):
            await running.task
        assert running.registrar.asked == []
    finally:
        claim.release()


async def test_a_new_certificate_goes_to_the_session_that_stands(tmp_path: Path, issuer: Issuer):
    first, second = issuer.identity(), issuer.identity(timedelta(days=5))
    clock = Clock(now=datetime.now(UTC))
    clock.stop_after = clock.at + timedelta(days=1)
    running = Running(tmp_path, first, second, timing=clock.timing)
    session = await running.connected()
    await session.renewed.wait()
    assert session.identities == [second.cert_pem]
    assert len(running.sessions) == 1
    assert running.agent.member is not None
    assert running.agent.member.identity == second
    assert running.agent.member.labels == {"zone": "a"}
    running.task.cancel()
    await asyncio.gather(running.task, return_exceptions=True)


async def test_a_renewal_that_learns_of_the_removal_ends_it_too(tmp_path: Path, issuer: Issuer):
    clock = Clock(now=datetime.now(UTC))
    gone = NodeRemoved("a:1: this node was removed from the cluster")
    running = Running(tmp_path, issuer.identity(), gone, timing=clock.timing)
    with pytest.raises(NodeRemoved):
        await running.task
    assert running.session.is_stopped
    assert running.agent.state().phase is Phase.REMOVED


async def test_to_leave_from_another_thread_is_no_error_here(running: Running):
    session = await running.connected()
    await asyncio.to_thread(running.agent.leave_blocking, 2.0)
    session.end()  # As the real one does then.
    await running.task
    assert session.goodbyes == [2.0]
    assert session.is_stopped
    assert running.agent.error is None
