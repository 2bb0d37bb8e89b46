"""The helper process: what is passed to it, what comes back, and that it never stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from tests.unit.worker.fakes import Clock
from zlayer_native import errors
from zlayer_native.enroll.failures import CallRefused
from zlayer_native.enroll.retry import TryLater, WrongServer
from zlayer_native.errors import EnrollmentError, IdentityError, TokenInvalid, ZLayerError
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.claims import Token
from zlayer_native.worker import errand
from zlayer_native.worker.carried_error import NodeRemoved, pack, unpack
from zlayer_native.worker.errand import run_errand
from zlayer_native.worker.errand_child import persist

_READ = "import json, os, sys; places = json.loads(sys.stdin.readline());"


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Replaces the child's program."""
    return lambda code: monkeypatch.setattr(errand, "_BOOT", code)


def nothing(_: ZLayerError) -> None:
    raise AssertionError("no round failed")


#: Children that other tests' modules keep, such as multiprocessing's resource tracker.
_others: set[psutil.Process] = set()


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if child not in _others]


@pytest.fixture(autouse=True)
def no_child_stays() -> Any:
    _others.clear()
    _others.update(psutil.Process().children())
    yield
    assert children() == []


async def test_the_order_goes_in_and_the_answer_comes_out(child: Callable[[str], None]):
    child(_READ + "print(json.dumps({'done': [json.loads(sys.stdin.readline()), places]}))")
    order = {"verb": "enrol", "token": "secret"}
    found, places = await run_errand(order, nothing)  # type: ignore[misc]  # the fake's answer
    assert found == order
    assert [place for place in places if place in sys.path] == [p for p in sys.path if p]


async def test_the_token_is_in_no_argument_and_no_environment(
    child: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    child(_READ + "sys.stdin.readline(); print(json.dumps({'done': [sys.argv, dict(os.environ)]}))")
    arguments, environment = await run_errand({"token": "secret"}, nothing)  # type: ignore[misc]
    assert "secret" not in str(arguments) + str(environment)
    assert "NOTIFY_SOCKET" not in environment


async def test_failed_rounds_are_told_before_the_answer(child: Callable[[str], None]):
    failed = {"failed": pack(TryLater("a:1: busy", code="UNAVAILABLE"))}
    child(f"print('''{json.dumps(failed)}\\n''' * 2 + '''{json.dumps({'done': {}})}''')")
    told: list[ZLayerError] = []
    assert await run_errand({}, told.append) == {}
    assert [(str(error), type(error)) for error in told] == [("a:1: busy", EnrollmentError)] * 2
    assert all(error.retryable for error in told if isinstance(error, EnrollmentError))


async def test_an_error_is_raised_here(child: Callable[[str], None]):
    refused = {"error": pack(TokenInvalid("no whole token", code="token_invalid"))}
    child(f"print('''{json.dumps(refused)}''')")
    with pytest.raises(TokenInvalid, match="no whole token"):
        await run_errand({}, nothing)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import sys; sys.exit('what went wrong')", r"exit code 1\): what went wrong"),
        ("import os; os.kill(os.getpid(), 9)", r"signal 9\): it said nothing"),
        ("raise ValueError('odd')", "ValueError: odd"),
    ],
    ids=["exit", "killed", "raises"],
)
async def test_a_child_that_ends_without_an_answer_is_quoted(
    child: Callable[[str], None], code: str, told: str
):
    child(code)
    with pytest.raises(ZLayerError, match=told) as ended:
        await run_errand({"token": "x" * 4000}, nothing)
    assert type(ended.value) is ZLayerError


async def test_an_interpreter_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("multiprocessing.spawn.get_executable", lambda: b"/no/such/python")
    with pytest.raises(ZLayerError, match="/no/such/python"):
        await run_errand({}, nothing)


@contextlib.asynccontextmanager
async def hanging(child: Callable[[str], None]) -> AsyncIterator[asyncio.Task[dict[str, Any]]]:
    """An errand whose child has said that it runs, and never says more."""
    running = asyncio.Event()
    failed = json.dumps({"failed": pack(ZLayerError("here"))})
    child(f"import time; print('''{failed}''', flush=True); time.sleep(600)")
    task = asyncio.create_task(run_errand({}, lambda _: running.set()))
    await running.wait()
    yield task


async def test_to_cancel_it_ends_the_child(child: Callable[[str], None]):
    async with hanging(child) as task:
        assert len(children()) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert children() == []


async def test_a_terminal_s_interrupt_is_not_the_child_s(child: Callable[[str], None]):
    async with hanging(child) as task:
        (process,) = children()
        assert os.getsid(process.pid) != os.getsid(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_it_runs_on_uvloop_too(child: Callable[[str], None]):
    child(_READ + "print(json.dumps({'done': {'on': 'uvloop'}}))")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(run_errand({}, nothing)) == {"on": "uvloop"}


async def test_the_real_child_ends_with_the_process_that_it_works_for(tmp_path: Path):
    """A worker that is killed leaves no helper that goes on trying for ever."""
    code = (
        "import asyncio, sys\n"
        "from zlayer_native.worker.errand import run_errand\n"
        "order = {'verb': 'enrol', 'servers': ['127.0.0.1:1'], 'token': sys.argv[2],\n"
        "         'identity_dir': sys.argv[1], 'machine': {}, 'total_secs': None}\n"
        "asyncio.run(run_errand(order, lambda error: print(error, flush=True)))\n"
    )
    authority = Authority.create(tmp_path / "cluster")
    claims = Token(
        cluster_id=authority.cluster_id,
        jti="0" * 32,
        created_s=1,
        expires_s=2,
        uses_max=1,
        labels={},
        labels_allowed=(),
    )
    line = authority.token_signer.issue(claims)
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path / "i"), line, stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdout is not None
    assert b"can't be reached" in await worker.stdout.readline()
    (helper,) = psutil.Process(worker.pid).children()
    worker.send_signal(signal.SIGKILL)
    await worker.wait()
    await asyncio.to_thread(psutil.wait_procs, [helper], 10)
    assert not helper.is_running() or helper.status() == psutil.STATUS_ZOMBIE


# --- errors that cross ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in vars(errors).values() if isinstance(kind, type)])
def test_every_public_error_crosses(kind: type[ZLayerError]):
    if not issubclass(kind, ZLayerError):
        return
    error = kind("what happened")
    error.add_note("a note")
    again = unpack(json.loads(json.dumps(pack(error))))
    assert type(again) is kind
    assert str(again) == "what happened"
    assert again.__notes__ == ["a note"]


@pytest.mark.parametrize(
    "error",
    [
        TryLater("busy", code="UNAVAILABLE", retry_after_s=3.0),
        WrongServer("not ours", code="UNAUTHENTICATED"),
        CallRefused("no", code="RESOURCE_EXHAUSTED", reason="token_used_up"),
    ],
)
def test_the_client_s_own_errors_keep_code_and_whether_to_repeat(error: EnrollmentError):
    again = unpack(pack(error))
    assert isinstance(again, EnrollmentError)
    assert (again.code, again.retryable) == (error.code, error.retryable)


def test_a_removed_node_has_an_error_of_its_own():
    assert type(unpack(pack(CallRefused("gone", reason="node_removed")))) is NodeRemoved


# --- rounds -----------------------------------------------------------------------------------


class Rounds:
    def __init__(self, *answers: EnrollmentError | None) -> None:
        self._answers = list(answers)
        self.clock = Clock(draw=1.0)
        self.told: list[dict[str, Any]] = []

    async def _once(self) -> dict[str, Any]:
        answer = self._answers.pop(0)
        if answer is not None:
            raise answer
        return {"done": True}

    async def run(self, total_secs: float | None) -> dict[str, Any]:
        return await persist(
            self._once,
            total_secs,
            self.told.append,
            sleep=self.clock.sleep,
            draw=self.clock.draw,
            monotonic=self.clock.monotonic,
        )


AWAY = EnrollmentError("nobody there", code="UNAVAILABLE", retryable=True)


async def test_rounds_go_on_for_ever_with_pauses_that_double_up_to_a_bound():
    rounds = Rounds(*[AWAY] * 8, None)
    assert await rounds.run(None) == {"done": True}
    assert rounds.clock.naps == [0.5, 1, 2, 4, 8, 15, 15, 15]
    assert [unpack(told["failed"]).args for told in rounds.told] == [("nobody there",)] * 8


async def test_a_server_that_says_when_to_come_back_is_obeyed():
    rounds = Rounds(TryLater("busy", retry_after_s=20.0), None)
    await rounds.run(None)
    assert rounds.clock.naps == [20.5]


async def test_the_time_is_kept():
    rounds = Rounds(*[AWAY] * 8)
    with pytest.raises(EnrollmentError, match="nobody there"):
        await rounds.run(5.0)
    assert rounds.clock.naps == [0.5, 1, 2]
    assert len(rounds.told) == 3  # The last one is raised.


async def test_what_a_repeat_would_not_change_ends_it():
    rounds = Rounds(AWAY, EnrollmentError("no uses left", code="RESOURCE_EXHAUSTED"))
    with pytest.raises(EnrollmentError, match="no uses left"):
        await rounds.run(None)


async def test_other_errors_are_not_repeated():
    async def once() -> dict[str, Any]:
        raise IdentityError("disk full")

    with pytest.raises(IdentityError):
        await persist(once, None, lambda _: None)
