"""One server after another, with pauses that nobody sleeps through here."""

from __future__ import annotations

import asyncio
import pickle

import pytest

from zlayer_native.enroll.failures import CallRefused
from zlayer_native.enroll.retry import Patience, TryLater, WrongServer, over_servers
from zlayer_native.errors import EnrollmentError

THREE = ["a:1", "b:1", "c:1"]


class Script:
    """Plays answers in turn, and notes who was asked and how long was slept."""

    def __init__(self, *answers: Exception | str, draw: float = 0.0) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.slept: list[float] = []
        self.now = 0.0
        self.draw = draw

    def patience(self, **fields: float | None) -> Patience:
        return Patience(
            sleep=self.sleep, draw=lambda: self.draw, monotonic=lambda: self.now, **fields
        )

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def attempt(self, server: str) -> str:
        self.asked.append(server)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def busy() -> EnrollmentError:
    return EnrollmentError("busy", code="UNAVAILABLE", retryable=True)


async def test_the_next_server_is_asked_at_once() -> None:
    script = Script(busy(), busy(), "done")
    assert await over_servers(THREE, script.patience(), script.attempt) == "done"
    assert script.asked == THREE
    assert script.slept == []


async def test_the_first_server_is_drawn() -> None:
    script = Script(busy(), busy(), "done", draw=0.99)
    await over_servers(THREE, script.patience(), script.attempt)
    assert script.asked == ["c:1", "a:1", "b:1"]


async def test_pauses_double_up_to_their_limit_and_are_drawn() -> None:
    script = Script(*(busy() for _ in range(7)), "done", draw=0.5)
    patience = script.patience(pause_secs=1.0, pause_secs_max=5.0, total_secs=None)
    await over_servers(["a:1"], patience, script.attempt)
    assert script.slept == [0.5, 1.0, 2.0, 2.5, 2.5, 2.5, 2.5]


async def test_a_hint_is_the_least_pause() -> None:
    script = Script(TryLater("later", retry_after_s=7.0), busy(), busy(), "done", draw=0.5)
    patience = script.patience(pause_secs=1.0, total_secs=None)
    await over_servers(["a:1", "b:1"], patience, script.attempt)
    assert script.slept == [7.5]


async def test_the_end_is_the_last_error() -> None:
    script = Script(*(busy() for _ in range(100)), draw=1.0)
    patience = script.patience(total_secs=60.0, pause_secs=1.0, pause_secs_max=15.0)
    with pytest.raises(EnrollmentError, match="busy"):
        await over_servers(["a:1"], patience, script.attempt)
    assert script.slept == [1, 2, 4, 8, 15, 15, 15]
    assert sum(script.slept) <= 60


async def test_what_a_repeat_would_not_change_ends_it() -> None:
    script = Script(EnrollmentError("no", code="UNAUTHENTICATED"))
    with pytest.raises(EnrollmentError, match="no"):
        await over_servers(THREE, script.patience(), script.attempt)
    assert len(script.asked) == 1


async def test_a_wrong_server_is_not_asked_again() -> None:
    script = Script(WrongServer("wrong"), busy(), busy(), busy(), "done")
    await over_servers(THREE, script.patience(total_secs=None), script.attempt)
    assert script.asked == ["a:1", "b:1", "c:1", "b:1", "c:1"]


async def test_only_wrong_servers_end_it() -> None:
    script = Script(*(WrongServer(f"wrong {n}") for n in range(3)))
    with pytest.raises(WrongServer, match="wrong 2"):
        await over_servers(THREE, script.patience(total_secs=None), script.attempt)
    assert script.slept == []


async def test_an_attempt_that_hangs_is_given_up() -> None:
    async def hang(server: str) -> str:
        await asyncio.Event().wait()
        return server

    patience = Patience(total_secs=0.0, attempt_secs=0.01)
    with pytest.raises(EnrollmentError, match=r"a:1: no answer within 0\.01 s") as failed:
        await over_servers(["a:1"], patience, hang)
    assert failed.value.retryable
    assert failed.value.code == "DEADLINE_EXCEEDED"


async def test_it_can_be_cancelled() -> None:
    started = asyncio.Event()

    async def hang(server: str) -> str:
        started.set()
        await asyncio.Event().wait()
        return server

    task = asyncio.create_task(over_servers(["a:1"], Patience(total_secs=None), hang))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    "error",
    [
        WrongServer("x", code="UNAUTHENTICATED"),
        TryLater("x", code="UNAVAILABLE", retry_after_s=2.0),
        CallRefused("x", code="INVALID_ARGUMENT", reason="csr_refused"),
    ],
)
def test_the_errors_survive_pickling(error: EnrollmentError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, EnrollmentError)
    assert (type(again), str(again), vars(again)) == (type(error), "x", vars(error))
