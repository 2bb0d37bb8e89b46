"""Trying one server after another: round robin, jittered back-off, hints honoured, with an end."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from zlayer_native.errors import EnrollmentError

_Result = TypeVar("_Result")


class WrongServer(EnrollmentError):
    """What answers there is not a server of this cluster. Another address may be."""


class TryLater(EnrollmentError):
    """The server said when to come back: `retry_after_s`, seconds."""

    def __init__(self, message: str, *, code: str = "UNKNOWN", retry_after_s: float = 0.0) -> None:
        super().__init__(message, code=code, retryable=True)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long and how often to try. All in seconds.

    Attributes:
        total_secs: in all; None never gives up.
        attempt_secs: one attempt on one server.
        pause_secs: longest pause after the first round; doubles with each round.
        pause_secs_max: longest pause ever. Each pause is drawn evenly from 0 to its longest.
    """

    total_secs: float | None = 60.0
    attempt_secs: float = 10.0
    pause_secs: float = 0.5
    pause_secs_max: float = 15.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    draw: Callable[[], float] = random.random
    monotonic: Callable[[], float] = time.monotonic


async def over_servers(
    servers: Sequence[str],
    patience: Patience,
    attempt: Callable[[str], Awaitable[_Result]],
) -> _Result:
    """Runs `attempt` on one server after another until one succeeds.

    A failure that a repeat would not change ends it at once; a server that is not one of this
    cluster is not asked again.

    Args:
        servers: `host:port` each, at least one. Which is asked first is drawn, so that a fleet
            spreads.
        patience: how long.
        attempt: raises EnrollmentError.

    Raises:
        EnrollmentError: of the last attempt.
    """
    start_s = patience.monotonic()
    first = int(patience.draw() * len(servers)) % len(servers)
    left = [*servers[first:], *servers[:first]]
    rounds, pause_least_s = 0, 0.0
    while True:
        for server in list(left):
            try:
                async with asyncio.timeout(patience.attempt_secs):
                    return await attempt(server)
            except TimeoutError:
                text = f"{server}: no answer within {patience.attempt_secs:g} s"
                error = EnrollmentError(text, code="DEADLINE_EXCEEDED", retryable=True)
            except WrongServer as wrong:
                left.remove(server)
                if not left:
                    raise
                error = wrong
            except EnrollmentError as failed:
                if not failed.retryable:
                    raise
                error = failed
                pause_least_s = max(pause_least_s, getattr(failed, "retry_after_s", 0.0))
        longest_s = min(patience.pause_secs_max, patience.pause_secs * 2**rounds)
        pause_s = pause_least_s + patience.draw() * longest_s
        elapsed_s = patience.monotonic() - start_s
        if patience.total_secs is not None and elapsed_s + pause_s > patience.total_secs:
            raise error
        await patience.sleep(pause_s)
        rounds, pause_least_s = rounds + 1, 0.0
