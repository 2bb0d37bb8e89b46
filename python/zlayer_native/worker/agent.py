"""The agent: enters the cluster, keeps its session, certificate and figures, and leaves.

    Entry ──> Identity ──> session (Rust: dials, heartbeats, reconnects by itself)
                              ├── Follower   what the session tells
                              ├── Renewals   a new certificate, in time
                              └── Sampler    cpu, memory, disk

Runs on whatever event loop it is given. Nothing here is on a heartbeat's way: a loop that stands
still delays a log line, a figure or a renewal, and no heartbeat.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import zlayer_native
from zlayer_native._bridge.session import Session
from zlayer_native.identity.store import Identity, IdentityStore
from zlayer_native.worker import machine
from zlayer_native.worker.carried_error import NodeRemoved
from zlayer_native.worker.claim import Claim
from zlayer_native.worker.entry import Entry, Member
from zlayer_native.worker.errand import OnFailure
from zlayer_native.worker.follower import Follower
from zlayer_native.worker.log import Log
from zlayer_native.worker.registrar import Errands, Registrar
from zlayer_native.worker.renewal import Renewals, Timing
from zlayer_native.worker.resources import Sampler, tell
from zlayer_native.worker.state import Phase, WorkerState
from zlayer_native.worker.token_source import TokenSource

#: Seconds that one renewal is tried in one go; what comes after is the renewals' own pace.
_RENEW_SECS = 60.0
#: Seconds for a goodbye when nothing answers at the time: there is hardly anybody to hear it.
_LEAVE_UNHEARD_SECS = 1.0

_log = Log("zlayer.worker")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What one worker is run with.

    Attributes:
        servers: `host:port` each.
        identity_dir: cert.pem, key.pem, ca.pem.
        data_dir: whose disk is reported.
        name: what to be called; None takes the host's name.
        labels: to ask for at enrolment.
        token: in case that there is no identity yet.
        enrol_secs: how long to try to enrol while servers can't be reached; None never gives up.
        leave_secs: how long to wait for the answer to the goodbye.
    """

    servers: tuple[str, ...]
    identity_dir: Path
    data_dir: Path
    name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    token: TokenSource = field(default_factory=TokenSource)
    enrol_secs: float | None = None
    leave_secs: float = 5.0


class SessionLike(Protocol):
    """What the agent needs of `zlayer_native._bridge.session.Session`."""

    def state(self) -> dict[str, Any]: ...  # noqa: D102 - see Session
    def set_resources(self, cpu_millicores: int, memory_bytes: int, disk_bytes: int) -> None: ...  # noqa: D102
    def set_identity(self, certificate_pem: str, key_pem: str, ca_pem: str) -> None: ...  # noqa: D102
    async def next_event(self) -> dict[str, Any]: ...  # noqa: D102
    async def leave(self, timeout: float = 5.0) -> bool: ...  # noqa: D102
    def leave_blocking(self, timeout: float = 5.0) -> bool: ...  # noqa: D102
    def stop(self) -> None: ...  # noqa: D102


class Agent:
    """One run of one worker. Cancel `run` to leave.

    Args:
        settings: what to run.
        registrar: how to reach the Enrollment service; None uses helper processes.
        start_session: makes a session from its options.
        timing: clocks and chance.
        on_wait: is told of every round of enrolment that failed.
        on_change: is called when it has entered, and whenever the session's state has changed.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        registrar: Registrar | None = None,
        start_session: Callable[[dict[str, Any]], SessionLike] = Session.start,
        timing: Timing | None = None,
        on_wait: OnFailure = lambda _: None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._timing = timing or Timing()
        self._start_session = start_session
        self._store = IdentityStore(settings.identity_dir)
        self._entry = Entry(
            self._store,
            registrar or Errands(settings.servers, settings.identity_dir),
            settings.token,
            machine.describe(settings.name, settings.labels, settings.data_dir),
            secs=settings.enrol_secs,
            on_wait=on_wait,
        )
        self._follower = Follower(settings.identity_dir, on_change)
        self._on_change = on_change
        self._session: SessionLike | None = None
        self._left_elsewhere = False
        self.member: Member | None = None
        self.entered = asyncio.Event()
        self.error: Exception | None = None

    @property
    def is_connected(self) -> asyncio.Event:
        """Set while the cluster answers."""
        return self._follower.is_connected

    async def run(self) -> None:
        """Enters, stays until it is cancelled, and leaves then.

        Raises:
            ZLayerError: the machine was not let in, or is a member no longer; see `Entry.enter`,
                `Follower.run` and `Renewals.run`.
        """
        try:
            await self._stay()
        except Exception as error:
            if self._left_elsewhere:  # The tasks here were surprised by it.
                return
            self.error = error
            if self.entered.is_set():
                _log.error("this worker is a member no longer", why=str(error))
            raise

    async def _stay(self) -> None:
        claim = Claim(self._settings.identity_dir)
        try:
            self.member = await self._entry.enter(self._timing.now())
            identity = self.member.identity
            sampler = Sampler(self._settings.data_dir)
            use = sampler.sample()
            session = self._session = self._start_session(self._options(identity))
            tell(session, use)  # Before it has dialled: the first report has figures.
            try:
                self.entered.set()
                self._on_change()
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._follower.run(session))
                    group.create_task(self._follower.complain(session))
                    group.create_task(Renewals(self._renew, self._use, self._timing).run(identity))
                    group.create_task(sampler.report(session))
            except BaseExceptionGroup as errors:
                raise _first(errors) from None
            finally:
                await self._leave(session)
        finally:
            claim.release()

    def _options(self, identity: Identity) -> dict[str, Any]:
        return {
            "cluster_id": identity.cluster_id,
            "servers": list(self._settings.servers),
            "node_id": identity.node_id,
            "certificate_pem": identity.cert_pem,
            "key_pem": identity.key_pem,
            "ca_pem": identity.ca_pem,
            "incarnation": secrets.randbits(63) | 1,
            "version": str(zlayer_native.__version__),
        }

    async def _renew(self) -> Identity:
        return await self._entry.renew(_RENEW_SECS)

    def _use(self, identity: Identity) -> None:
        """Gives the session a new certificate. It stands all the time."""
        if self._session is not None:
            self._session.set_identity(identity.cert_pem, identity.key_pem, identity.ca_pem)
        if self.member is not None:
            self.member = Member(identity, self.member.labels)

    async def _leave(self, session: SessionLike) -> None:
        try:
            # Nobody waits for the goodbye of a node that was removed.
            if not self._left_elsewhere and session.state()["state"] != Phase.REMOVED:
                _log_goodbye(await session.leave(self._leave_secs(session)))
        finally:
            session.stop()

    def leave_blocking(self, secs: float) -> None:
        """Says goodbye from another thread, also when the event loop has ended; then cancel `run`.

        Args:
            secs: how long to wait for the answer, at most.
        """
        session = self._session
        if session is not None and self.error is None and not self._left_elsewhere:
            self._left_elsewhere = True
            _log_goodbye(session.leave_blocking(min(secs, self._leave_secs(session))))

    def _leave_secs(self, session: SessionLike) -> float:
        is_connected = session.state()["state"] == Phase.CONNECTED
        return self._settings.leave_secs if is_connected else _LEAVE_UNHEARD_SECS

    def state(self) -> WorkerState:
        """How it stands. Any thread."""
        member, session = self.member, self._session
        error = None if self.error is None else str(self.error)
        ended = Phase.REMOVED if isinstance(self.error, NodeRemoved) else Phase.STOPPED
        if member is None or session is None:
            phase = Phase.ENROLLING if self.error is None else ended
            return WorkerState(phase=phase, last_error=error)
        view = session.state()
        phase = Phase(view["state"]) if self.error is None else ended
        return WorkerState(
            phase=phase,
            node_id=member.identity.node_id,
            server=view["server"],
            is_draining=view["draining"],
            ttl_ms=view["ttl_ms"] or None,
            next_beat_in_ms=view["next_beat_in_ms"],
            lease_left_ms=None if phase == Phase.STOPPED else view["lease_remaining_ms"],
            beats=view["beats"],
            acks=view["acks"],
            reconnects=view["reconnects"],
            certificate_not_after=member.identity.not_after,
            last_error=error or view["last_error"],
        )


def _log_goodbye(heard: bool) -> None:
    _log.info("left" if heard else "ended; the cluster may not have heard the goodbye")


def _first(errors: BaseExceptionGroup) -> BaseException:
    """The one error that ended the group: the rest was cancelled."""
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
