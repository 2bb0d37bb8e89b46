"""The server's core as an asyncio citizen: commands are awaited, changes wake, reads are bytes."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from zlayer_native._bridge.wakeup import Wakeup
from zlayer_native._native import ServerNode
from zlayer_native.errors import (
    MEMBERSHIP_CODES,
    REFUSALS,
    CoreError,
    CoreStopped,
    NoLeader,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    Refused,
    ServersUnchanged,
)

#: Completions taken from the core at one wake-up before the loop gets its turn. Chosen.
_DRAIN_MAX = 1024

#: For another server to lead before this one stops. Chosen: some ten times what it takes.
_HAND_OVER_SECS = 2.0


@dataclass(frozen=True)
class Held:
    """A lock that is held. `ended` is done when it is no more: why it was lost, or None."""

    fence: int
    ended: asyncio.Future[str | None]


class Server:
    """Owns a `ServerNode` for one event loop. Make it with `await Server.start(options)`."""

    def __init__(self, node: ServerNode) -> None:
        self._node = node
        self._tickets = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._changed = asyncio.Event()
        self._revision = 0
        self._wakeup = Wakeup(node.wake_fd(), self._drain)
        self._stopped = False
        self.failed: asyncio.Future[CoreStopped] = asyncio.get_running_loop().create_future()

    @classmethod
    async def start(cls, options: dict[str, Any]) -> Server:
        """Starts the core; returns when the worker port listens.

        Args:
            options: `zlayer_node::ServerOptions` as a dict.

        Raises:
            CoreError: the address, the data directory, a certificate or an option can't be used.
        """
        payload = json.dumps(options).encode()
        return cls(await asyncio.to_thread(ServerNode.start, payload))

    @property
    def address(self) -> str:
        """The worker port, as `host:port`."""
        return self._node.local_addr()

    @property
    def raft_address(self) -> str | None:
        """Where the other servers reach this one, as `host:port`; None where it is alone."""
        return self._node.raft_addr()

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    async def propose(self, command: dict[str, Any]) -> dict[str, Any]:
        """Commits a command and returns its outcome; durable when this returns.

        Args:
            command: `zlayer_core::command::Command` in its JSON form, such as
                `{"type": "revoke_token", "jti": "…"}`.

        Raises:
            Refused: a subclass by refusal code; nothing was changed.
            NoLeader: no server leads.
            OutcomeUnknown: it may have been committed, or may be yet.
            Overloaded: too many commands are waiting; try again later.
            CoreError: this is no command of the core's.
            CoreStopped: the core ended. If that came after the command was sent, the command may
                have been committed.
        """
        payload = json.dumps(command).encode()
        return await self._answer(lambda ticket: self._node.submit(ticket, payload))

    async def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Asks something of the servers; the leader answers, whichever server is asked.

        Args:
            question: `zlayer_node::Asked` in its JSON form, such as `{"remove": {"id": 3}}`.

        Raises:
            ServersUnchanged: it was refused.
            NoLeader: no server leads.
            OutcomeUnknown: it is not known whether it was done.
            CoreError: this is no question of the core's.
            CoreStopped: the core ended.
        """
        payload = json.dumps(question).encode()
        return await self._answer(lambda ticket: self._node.ask(ticket, payload))

    async def hold(self, wanted: dict[str, Any]) -> Held:
        """Acquires a lock, which Rust renews from then on.

        Args:
            wanted: `zlayer_node::Wanted` as a dict: name, holder, owner, `ttl_ms`, `wait_ms`.

        Raises:
            LockHeld: another one held it all the time.
            InvalidRequest, LimitReached, NoLeader, OutcomeUnknown, CoreStopped: as `propose`.
        """
        payload = json.dumps(wanted).encode()
        ended_ticket, ended = self._new_ticket()

        def send(ticket: int) -> None:
            self._node.hold(ticket, ended_ticket, payload)

        try:
            outcome = await self._answer(send, on_cancel=self._node.abandon)
        except BaseException:
            self._waiting.pop(ended_ticket, None)
            raise
        return Held(int(outcome["fence"]), asyncio.ensure_future(self._end_of(ended_ticket, ended)))

    async def _end_of(self, ticket: int, ended: asyncio.Future[dict[str, Any]]) -> str | None:
        try:
            why: str | None = (await ended)["lost"]
            return why
        except CoreStopped as error:
            return str(error)
        finally:
            self._waiting.pop(ticket, None)

    async def release(self, name: str, fence: int) -> None:
        """Lets go of a lock; raises as `propose`. It is renewed no more, whatever is raised."""
        await self._answer(lambda ticket: self._node.release(ticket, name, fence))

    async def settle(self) -> None:
        """Waits until what is read here holds all that any server acknowledged before the call.

        Raises:
            NoLeader: no server leads.
            CoreStopped: the core ended.
        """
        await self.ask({"barrier": {}})

    async def _answer(
        self, send: Callable[[int], None], on_cancel: Callable[[int], None] = lambda _: None
    ) -> dict[str, Any]:
        """Sends under a new ticket, and waits for the completion with it."""
        ticket, future = self._new_ticket()
        try:
            send(ticket)
            return await future
        except asyncio.CancelledError:
            on_cancel(ticket)
            raise
        finally:
            self._waiting.pop(ticket, None)

    def _new_ticket(self) -> tuple[int, asyncio.Future[dict[str, Any]]]:
        if self._stopped:
            raise CoreStopped("the server's core has been stopped")
        ticket = next(self._tickets)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = future
        return ticket, future

    def _drain(self) -> None:
        # What is left after this is no loss: the core keeps its descriptor readable.
        self._settle(self._node.drain(_DRAIN_MAX))
        self._changed.set()
        self._changed = asyncio.Event()
        self._check_health()

    def _settle(self, completions: Sequence[tuple[int, bytes | None, str | None]]) -> None:
        for ticket, outcome, error in completions:
            future = self._waiting.get(ticket)
            if future is None or future.done():
                continue
            if outcome is not None:
                future.set_result(json.loads(outcome))
            else:
                future.set_exception(_error(json.loads(error or "{}")))

    def _check_health(self) -> None:
        stopped = self._node.stopped()
        if stopped is not None and not self.failed.done() and not self._stopped:
            self.failed.set_result(CoreStopped(stopped))

    async def wait_revision(self, after: int, timeout: float) -> int:
        """Waits until the newest event's revision is above `after`, at most `timeout` seconds.

        Returns:
            The newest revision, which is `after` or less if the time was up or the core stopped.

        Raises:
            ForkedProcess: this is a forked child.
        """
        self._wakeup.check()
        deadline = asyncio.get_running_loop().time() + timeout
        while (revision := self._node.revision()) <= after and not self._stopped:
            changed = self._changed
            try:
                async with asyncio.timeout_at(deadline):
                    await changed.wait()
            except TimeoutError:
                return self._node.revision()
        return revision

    def nodes(self, query: dict[str, Any]) -> bytes:
        """A page of nodes as JSON: `{"items": […], "revision": n}`.

        Args:
            query: `after_id`, `limit`, `state`, `labels`; all optional.
        """
        return self._node.nodes(json.dumps(query).encode())

    def node(self, node_id: int) -> bytes | None:
        """One node as JSON, or None."""
        return self._node.node(node_id)

    def tokens(self) -> bytes:
        """All tokens as JSON, without any secret."""
        return self._node.tokens()

    def token(self, jti: str) -> bytes | None:
        """One token as JSON, or None."""
        return self._node.token(jti)

    def value(self, key: str) -> bytes | None:
        """A key's record as JSON, or None."""
        return self._node.value(key)

    def values(self, prefix: str, after: str, limit: int) -> bytes:
        """A page of the keys that begin with `prefix`, after `after`, as JSON."""
        return self._node.values(prefix, after, limit)

    def events(self, after: int, limit: int) -> bytes:
        """A page of events as JSON: `{"items": […], "revision": newest, "first_kept": oldest}`."""
        return self._node.events(after, limit)

    def members(self) -> dict[str, Any]:
        """The servers as this one knows them; in the form that `{"members": {}}` is answered."""
        return cast("dict[str, Any]", json.loads(self._node.members()))

    def status(self) -> bytes:
        """The cluster at a glance, as JSON."""
        return self._node.status()

    def metrics(self) -> dict[str, float]:
        """Counters and gauges by name."""
        return cast("dict[str, float]", json.loads(self._node.metrics()))

    def set_identity(self, certificate_pem: str, key_pem: str, ca_pem: str) -> None:
        """Gives new connections a new server certificate; open ones go on."""
        self._node.set_identity(certificate_pem, key_pem, ca_pem)

    async def stop(self, timeout: float = 5.0) -> None:
        """Hands the leadership over, closes port and sessions, flushes the log, ends the threads.

        Every command in flight is answered by then.

        Args:
            timeout: seconds that it waits for the threads.

        Raises:
            ForkedProcess: this is a forked child; the parent's server goes on.
        """
        if self._stopped:
            return
        self._wakeup.check()
        self._stopped = True
        self._changed.set()
        try:
            await asyncio.to_thread(self._node.hand_over, _HAND_OVER_SECS)
            await asyncio.to_thread(self._node.shutdown, timeout)
        finally:
            self._wakeup.close()
            self._answer_the_rest()

    def _answer_the_rest(self) -> None:
        """Gives every waiting caller its answer: what the core still said, or that it stopped."""
        while completions := self._node.drain(_DRAIN_MAX):
            self._settle(completions)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(CoreStopped("the server was stopped"))


#: Fields of refusals that their classes have too.
_FIELDS = {"revision_mismatch": ("revision",), "lock_held": ("owner", "fence")}


def _error(error: dict[str, Any]) -> Exception:
    code, message = str(error.get("code", "")), str(error.get("message", "unknown error"))
    if code in REFUSALS:
        fields = {key: error[key] for key in _FIELDS.get(code, ()) if key in error}
        return REFUSALS[code](message, code=code, **fields)
    match code:
        case "not_leader":
            return NotLeader(message, leader_id=error.get("leader_id"))
        case "no_leader":
            return NoLeader(message)
        case "backup":
            return CoreError(message)
        case "unknown":
            return OutcomeUnknown(message)
        case "overloaded":
            return Overloaded(message)
        case "stopped":
            return CoreStopped(message)
    if code in MEMBERSHIP_CODES:
        return ServersUnchanged(message, code=code)
    return Refused(message, code=code or "refused")
