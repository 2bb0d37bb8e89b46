"""The helper process: enrols or renews, then ends. See `errand` for why there is one.

standard input   the order, one JSON line; its end means that the worker has gone
standard output  JSON lines: {"failed": error} for each round, then {"done": …} or {"error": …}
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn

import zlayer_native
from zlayer_native.enroll.client import Machine, enroll, renew
from zlayer_native.enroll.retry import Patience
from zlayer_native.errors import EnrollmentError, ZLayerError
from zlayer_native.identity.hardening import forbid_core_dumps
from zlayer_native.identity.store import IdentityStore
from zlayer_native.worker.carried_error import pack

#: One round over the servers, then its error: the rounds are counted here, where each is told of.
_ROUND = Patience(total_secs=0.0)
#: Longest pause after the first round, seconds; doubles up to the second figure. Chosen.
_PAUSE_SECS, _PAUSE_SECS_MAX = 0.5, 15.0

_Tell = Callable[[dict[str, Any]], None]


def main() -> NoReturn:
    """Carries out the order on standard input."""
    order = json.loads(sys.stdin.readline())
    # What anything else prints must not get between the answers.
    answers = os.dup(1)
    os.dup2(2, 1)
    threading.Thread(target=_end_with_the_worker, daemon=True).start()
    forbid_core_dumps()

    def tell(answer: dict[str, Any]) -> None:
        content = json.dumps(answer).encode() + b"\n"
        while content:
            content = content[os.write(answers, content) :]

    try:
        done = asyncio.run(_WORK[order["verb"]](order, tell))
        tell({"done": done})
    except ZLayerError as error:
        tell({"error": pack(error)})
    # There is nothing to clean up, and grpc takes its time to do so.
    os._exit(0)


def _end_with_the_worker() -> None:
    sys.stdin.read()
    os._exit(1)


async def _enrol(order: dict[str, Any], tell: _Tell) -> dict[str, Any]:
    store = IdentityStore(Path(order["identity_dir"]))
    machine = Machine(version=str(zlayer_native.__version__), **order["machine"])

    async def once() -> dict[str, Any]:
        token = order["token"]
        enrolled = await enroll(order["servers"], token, store, machine, patience=_ROUND)
        return {"labels": dict(enrolled.labels)}

    return await persist(once, order["total_secs"], tell)


async def _renew(order: dict[str, Any], tell: _Tell) -> dict[str, Any]:
    store = IdentityStore(Path(order["identity_dir"]))

    async def once() -> dict[str, Any]:
        await renew(order["servers"], store, patience=_ROUND)
        return {}

    return await persist(once, order["total_secs"], tell)


_WORK: dict[str, Callable[[dict[str, Any], _Tell], Coroutine[Any, Any, dict[str, Any]]]] = {
    "enrol": _enrol,
    "renew": _renew,
}


async def persist(
    once: Callable[[], Awaitable[dict[str, Any]]],
    total_secs: float | None,
    tell: _Tell,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    draw: Callable[[], float] = random.random,
    monotonic: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Repeats `once` until it succeeds, with jittered pauses that double, and tells each failure.

    Args:
        once: raises EnrollmentError.
        total_secs: when to give up; None never does.
        tell: gets each failure that is followed by another round.
        sleep: waits, seconds.
        draw: a number within 0..1.
        monotonic: seconds.

    Raises:
        EnrollmentError: of the last round: the time is up, or a repeat would not change it.
    """
    start_s, rounds = monotonic(), 0
    while True:
        try:
            return await once()
        except EnrollmentError as error:
            longest_s = min(_PAUSE_SECS_MAX, _PAUSE_SECS * 2**rounds)
            pause_s = getattr(error, "retry_after_s", 0.0) + draw() * longest_s
            is_over = total_secs is not None and monotonic() - start_s + pause_s > total_secs
            if not error.retryable or is_over:
                raise
            tell({"failed": pack(error)})
        await sleep(pause_s)
        rounds += 1
