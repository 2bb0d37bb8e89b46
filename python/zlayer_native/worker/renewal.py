"""When to replace the certificate, and what to do when that fails.

At half of its life, give or take a tenth, so that a fleet that started together does not renew
together; there is another half for whatever is in the way. The session goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from zlayer_native.errors import EnrollmentError, ZLayerError
from zlayer_native.identity.store import Identity
from zlayer_native.worker.carried_error import NodeRemoved
from zlayer_native.worker.log import Log

#: Longest sleep: a machine that was suspended, or whose clock was put right, notices within that.
_LOOK_SECS = 60.0
#: One that is overdue is spread over a twentieth of what is left, but no longer than that.
_LATE_SPREAD_SECS, _LATE_SHARE = 30.0, 0.05
#: A certificate so short that half of its life is over when it comes must not be renewed in a loop:
#: a renewal waits for this share of what is left.
_PAUSE_SHARE = 0.25
#: Pauses after failures: the first, and where the doubling ends, as shares of the whole life; and
#: the bounds of both, seconds. For a day that is a minute and an hour.
_BACKOFF_SHARE, _BACKOFF_SHARE_MAX = 1 / 1440, 1 / 24
_BACKOFF_SECS = (1.0, 60.0)
_BACKOFF_SECS_MAX = (5.0, 3600.0)

_log = Log("zlayer.worker")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Clocks and chance, so that a test can decide them. `now` is the wall clock in UTC."""

    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    draw: Callable[[], float] = random.random


class Renewals:
    """Keeps one identity young.

    Args:
        renew: replaces the identity in the store; returns the new one.
        use: gives it to the session.
    """

    def __init__(
        self,
        renew: Callable[[], Awaitable[Identity]],
        use: Callable[[Identity], None],
        timing: Timing | None = None,
    ) -> None:
        self._renew = renew
        self._use = use
        self._timing = timing or Timing()

    async def run(self, identity: Identity) -> None:
        """Renews for ever, beginning with `identity`.

        Raises:
            NodeRemoved: the cluster says that this node is not a member.
            EnrollmentError: the certificate has expired and will not be renewed.
        """
        due = self._first_due(identity)
        failures = 0
        while True:
            await self._sleep_until(due)
            try:
                identity = await self._renew()
                self._use(identity)
            except NodeRemoved:
                raise
            except ZLayerError as error:
                self._check_hope(error, identity)
                pause = self._backoff(identity, failures)
                failures += 1
                due = self._timing.now() + pause
                _log.warning(
                    "the certificate could not be renewed",
                    why=str(error),
                    expires=f"{identity.not_after:%F %T} UTC",
                    again_in_s=round(pause.total_seconds(), 1),
                )
            else:
                failures = 0
                due = self._next_due(identity)
                _log.info("the certificate is new", expires=f"{identity.not_after:%F %T} UTC")

    def _first_due(self, identity: Identity) -> datetime:
        due = identity.renew_at(self._spread())
        now = self._timing.now()
        if due > now:
            return due
        left = max(timedelta(), identity.not_after - now)
        late = min(timedelta(seconds=_LATE_SPREAD_SECS), left * _LATE_SHARE)
        return now + late * self._timing.draw()

    def _next_due(self, identity: Identity) -> datetime:
        now = self._timing.now()
        earliest = now + (identity.not_after - now) * _PAUSE_SHARE
        return max(earliest, identity.renew_at(self._spread()))

    def _spread(self) -> float:
        return 2 * self._timing.draw() - 1

    def _backoff(self, identity: Identity, failures: int) -> timedelta:
        life_s = (identity.not_after - identity.not_before).total_seconds()
        first_s = _within(life_s * _BACKOFF_SHARE, _BACKOFF_SECS)
        longest_s = _within(life_s * _BACKOFF_SHARE_MAX, _BACKOFF_SECS_MAX)
        pause_s = min(longest_s, first_s * 2 ** min(failures, 16))
        return timedelta(seconds=pause_s * (0.5 + 0.5 * self._timing.draw()))

    def _check_hope(self, error: ZLayerError, identity: Identity) -> None:
        """Ends it where neither the certificate nor a repeat is of any use."""
        is_final = isinstance(error, EnrollmentError) and not error.retryable
        if is_final and self._timing.now() >= identity.not_after:
            raise error

    async def _sleep_until(self, due: datetime) -> None:
        while (left_s := (due - self._timing.now()).total_seconds()) > 0:
            await self._timing.sleep(min(left_s, _LOOK_SECS))


def _within(value: float, bounds: tuple[float, float]) -> float:
    return max(bounds[0], min(bounds[1], value))
