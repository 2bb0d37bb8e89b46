"""`Worker`: makes any Python process a member of a cluster."""

from __future__ import annotations

import asyncio
import atexit
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from zlayer_native.errors import ForkedProcess, ZLayerError
from zlayer_native.worker.agent import Agent, Settings
from zlayer_native.worker.options import settings_of
from zlayer_native.worker.state import Phase, WorkerState
from zlayer_native.worker.thread import LoopThread

#: Beyond the goodbye's own time: for the helper thread to end. Chosen.
_JOIN_SECS = 5.0
#: For the goodbye of a worker that nobody has stopped, at the interpreter's end.
_EXIT_SECS = 2.0


class Worker:
    """A member of the cluster for as long as a block runs, or from `start` to `stop`.

    ```python
    with zl.Worker(servers=["10.0.0.1:3670"], token_file="/etc/zlayer/token"):
        train()
    ```

    The first start redeems the token and keeps the identity in `identity_dir`; later ones need no
    token. Heartbeats run on a Rust thread: they need neither an event loop nor the GIL. A block
    that raises leaves the cluster like one that ends; a removal by an operator ends the
    membership, not the block: see `state` and `wait_ready`.

    `with` works everywhere, also in a notebook; it holds up the caller while the machine enrols.
    In a coroutine `async with` does not. One object is used with one of the two.

    Args:
        servers: `host:port` each; tried in turn.
        token_file: holds the token's line; `-` is standard input. Read only without an identity.
        token: the line itself, instead of a file.
        labels: what work is placed by; the token says which are allowed.
        name: what to be called; this host's name unless set.
        identity_dir: `<data_dir>/worker/identity` unless set. One worker at a time can have it.
        data_dir: `/var/lib/zlayerd` for root, `~/.local/share/zlayerd` for everybody else.
        enrol_timeout: seconds that a start tries to enrol, or to renew an expired certificate,
            while servers can't be reached; None never gives up.
        leave_timeout: seconds that a stop waits for the answer to its goodbye.

    Raises:
        ConfigError: an address, a name or a label can't be used; or two tokens were given.
    """

    def __init__(
        self,
        *,
        servers: Sequence[str],
        token_file: Path | str | None = None,
        token: str | None = None,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        identity_dir: Path | str | None = None,
        data_dir: Path | str | None = None,
        enrol_timeout: float | None = 60.0,
        leave_timeout: float = 5.0,
    ) -> None:
        self._settings: Settings = settings_of(
            servers=servers,
            token_file=token_file,
            token=token,
            labels=labels or {},
            name=name,
            identity_dir=identity_dir,
            data_dir=data_dir,
            enrol_secs=enrol_timeout,
            leave_secs=leave_timeout,
        )
        self._process = 0
        self._agent: Agent | None = None
        self._thread: LoopThread | None = None
        self._task: asyncio.Task[None] | None = None

    # --- for everybody ------------------------------------------------------------------------

    @property
    def node_id(self) -> int | None:
        """This member's id, the same after every restart; None before the first enrolment."""
        member = None if self._agent is None else self._agent.member
        return None if member is None else member.identity.node_id

    @property
    def labels(self) -> dict[str, str]:
        """The labels that the cluster granted; those asked for until it has."""
        member = None if self._agent is None else self._agent.member
        return dict(self._settings.labels if member is None else member.labels)

    def state(self) -> WorkerState:
        """How it stands. Any thread; a matter of microseconds.

        Raises:
            ForkedProcess: this is a forked child.
        """
        if self._agent is None:
            return WorkerState(phase=Phase.STOPPED)
        self._check_process()
        return self._agent.state()

    # --- plain ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Enrols if that is needed, and begins to keep the session; connecting goes on behind.

        Raises:
            ZLayerError: it runs already.
            ConfigError: there is neither an identity nor a token.
            IdentityError: the identity folder or the token file can't be used.
            TokenInvalid: the token is no whole line.
            EnrollmentError: the cluster did not let this machine in, or not in time.
        """
        agent = self._begin()
        thread = self._thread = LoopThread(agent.run)
        thread.start()
        try:
            entered = thread.wait_for(agent.entered)
        except BaseException:  # Ctrl-C, say.
            self.stop()
            raise
        if not entered:
            self._finish()
            thread.ended.result()
            raise ZLayerError("the worker was stopped while it started")

    def stop(self) -> None:
        """Says goodbye to the cluster, and ends. Does nothing when it does not run.

        Raises:
            ForkedProcess: this is a forked child; the parent's worker goes on.
        """
        thread = self._thread
        if thread is None:
            return
        self._check_process()
        if self._agent is not None:
            self._agent.leave_blocking(self._settings.leave_secs)
        thread.cancel()
        thread.join(_JOIN_SECS)
        self._finish()

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Waits until the cluster answers this worker; whether it did in time (seconds).

        Raises:
            EnrollmentError: it is a member no longer; `state().last_error` says why.
            ZLayerError: it was not started.
            ForkedProcess: this is a forked child.
        """
        agent, thread = self._agent, self._thread
        if agent is None or thread is None:
            raise ZLayerError("the worker was not started with `start` or `with`")
        self._check_process()
        is_ready = agent.is_connected.is_set() or thread.wait_for(agent.is_connected, timeout)
        if not is_ready and thread.ended.done():
            raise _ended(agent)
        return is_ready

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A forked child that leaves the block takes nothing from its parent.
        if self._process == os.getpid():
            self.stop()

    # --- for coroutines -------------------------------------------------------------------------

    async def start_async(self) -> None:
        """`start` on the running event loop."""
        agent = self._begin()
        task = self._task = asyncio.create_task(agent.run(), name="zlayer-worker")
        try:
            await _either(agent.entered, task)
        except asyncio.CancelledError:
            await self.stop_async()
            raise
        if task.done():
            self._finish()
            await task

    async def stop_async(self) -> None:
        """`stop` on the running event loop."""
        if self._task is None:
            return
        self._check_process()
        self._task.cancel()
        # What ended the membership before was its own matter; `state` tells it.
        await asyncio.gather(self._task, return_exceptions=True)
        self._finish()

    async def wait_ready_async(self, timeout: float | None = None) -> bool:
        """`wait_ready` on the running event loop."""
        agent, task = self._agent, self._task
        if agent is None or task is None:
            raise ZLayerError("the worker was not started with `start_async` or `async with`")
        self._check_process()
        is_ready = agent.is_connected.is_set() or await _either(agent.is_connected, task, timeout)
        if not is_ready and task.done():
            raise _ended(agent)
        return is_ready

    async def __aenter__(self) -> Self:
        await self.start_async()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process == os.getpid():
            await self.stop_async()

    # --- both ---------------------------------------------------------------------------------

    def _begin(self) -> Agent:
        here = os.getpid()
        if self._process != here:  # What a fork copied runs in the parent only.
            self._thread = self._task = None
        if self._thread is not None or self._task is not None:
            raise ZLayerError("the worker runs already")
        self._process = here
        self._agent = Agent(self._settings)
        atexit.register(self._at_exit)
        return self._agent

    def _finish(self) -> None:
        self._thread = self._task = None
        atexit.unregister(self._at_exit)

    def _at_exit(self) -> None:
        """The interpreter ends and nobody has stopped it: leaves if that goes quickly."""
        agent, thread = self._agent, self._thread
        if agent is None or self._process != os.getpid():
            return
        agent.leave_blocking(_EXIT_SECS)
        if thread is not None:
            thread.cancel()
            thread.join(_EXIT_SECS)

    def _check_process(self) -> None:
        if (here := os.getpid()) != self._process:
            raise ForkedProcess(
                f"this worker was started in process {self._process} and used in its child {here}:"
                " start another one there, with an identity_dir of its own"
            )


async def _either(
    event: asyncio.Event, task: asyncio.Task[None], timeout: float | None = None
) -> bool:
    """Waits for the event, or for the task's end; whether the event came in time (seconds)."""
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({waiting, task}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        return waiting.done()
    finally:
        waiting.cancel()


def _ended(agent: Agent) -> Exception:
    """Why there is nothing more to wait for."""
    return agent.error or ZLayerError("the worker was stopped")
