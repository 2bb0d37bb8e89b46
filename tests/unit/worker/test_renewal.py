"""When a certificate is renewed, and what happens when it can't be."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from tests.unit.worker.fakes import START, Clock, Issuer
from zlayer_native.errors import EnrollmentError, IdentityError, ZLayerError
from zlayer_native.identity.store import Identity
from zlayer_native.worker.carried_error import NodeRemoved
from zlayer_native.worker.renewal import Renewals

DAY = timedelta(days=1)
AWAY = EnrollmentError("nobody there", code="UNAVAILABLE", retryable=True)
TOO_OLD = EnrollmentError("expired too long ago", code="FAILED_PRECONDITION")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return Issuer(tmp_path_factory.mktemp("renewal")).identity()


def lasting(real: Identity, start: datetime, life: timedelta) -> Identity:
    return replace(real, not_before=start, not_after=start + life)


class Renewing:
    """Renewals under a clock; each try is kept with its time, and answered in turn."""

    def __init__(
        self,
        real: Identity,
        clock: Clock,
        *answers: timedelta | ZLayerError,
        backdate: timedelta = timedelta(),
    ) -> None:
        self.clock = clock
        self.tries: list[timedelta] = []
        self.used: list[Identity] = []
        self._real = real
        self._backdate = backdate
        self._answers = list(answers)
        self._renewals = Renewals(self._renew, self.used.append, clock.timing)

    async def _renew(self) -> Identity:
        self.tries.append(self.clock.at - START)
        if not self._answers:
            raise asyncio.CancelledError  # The test has seen enough.
        answer = self._answers.pop(0)
        if isinstance(answer, ZLayerError):
            raise answer
        fresh = lasting(self._real, self.clock.at, answer)
        return replace(fresh, not_before=fresh.not_before - self._backdate)

    async def run(self, life: timedelta, age: timedelta = timedelta()) -> None:
        identity = lasting(self._real, START - age, life)
        try:
            await self._renewals.run(identity)
        except asyncio.CancelledError:
            return


@pytest.mark.parametrize(
    ("draw", "share"), [(0.0, 0.4), (0.5, 0.5), (1.0, 0.6)], ids=["early", "middle", "late"]
)
async def test_it_is_renewed_at_half_of_its_life_give_or_take_a_tenth(
    real: Identity, draw: float, share: float
):
    renewing = Renewing(real, Clock(draw=draw), DAY)
    await renewing.run(DAY)
    assert renewing.tries == [DAY * share, 2 * DAY * share]
    assert [identity.not_before for identity in renewing.used] == [START + DAY * share]


async def test_a_machine_that_slept_notices_within_a_minute(real: Identity):
    renewing = Renewing(real, Clock())
    await renewing.run(DAY)
    assert max(renewing.clock.naps) <= 60


async def test_an_overdue_one_is_renewed_at_once_but_not_by_a_whole_fleet_together(real: Identity):
    tries = []
    for draw in (0.0, 1.0):
        renewing = Renewing(real, Clock(draw=draw))
        await renewing.run(DAY, age=DAY * 0.7)
        tries += renewing.tries
    assert tries == [timedelta(), timedelta(seconds=30)]


async def test_an_expired_one_does_not_wait(real: Identity):
    renewing = Renewing(real, Clock(draw=1.0))
    await renewing.run(DAY, age=2 * DAY)
    assert renewing.tries == [timedelta()]


async def test_one_that_is_half_over_when_it_comes_is_not_renewed_in_a_loop(real: Identity):
    # Certificates are dated back five minutes, so a very short one is always past its half.
    life = timedelta(seconds=20)
    renewing = Renewing(real, Clock(), life, life, backdate=timedelta(minutes=5))
    await renewing.run(life, age=timedelta(seconds=15))
    gaps = [b - a for a, b in zip(renewing.tries, renewing.tries[1:], strict=False)]
    assert gaps == [timedelta(seconds=5)] * 2


async def test_failures_are_repeated_ever_more_slowly_and_a_success_starts_over(real: Identity):
    failures: list[timedelta | ZLayerError] = [AWAY] * 12
    renewing = Renewing(real, Clock(draw=0.5), *failures, DAY, AWAY)
    await renewing.run(DAY)
    gaps = [b - a for a, b in zip(renewing.tries, renewing.tries[1:], strict=False)]
    seconds = [gap.total_seconds() for gap in gaps]
    assert seconds[:4] == [45, 90, 180, 360]  # Three quarters of 1, 2, 4, 8 minutes.
    assert max(seconds[:12]) == seconds[11] == 2700  # Of an hour.
    assert seconds[12] == DAY.total_seconds() / 2
    assert seconds[13] == 45


async def test_what_a_repeat_would_not_change_is_repeated_while_the_certificate_is_good(
    real: Identity,
):
    renewing = Renewing(real, Clock(), *([TOO_OLD] * 3), IdentityError("disk full"), DAY)
    await renewing.run(DAY)
    assert len(renewing.tries) == 6
    assert len(renewing.used) == 1


async def test_it_ends_once_the_certificate_has_expired_and_is_refused(real: Identity):
    renewing = Renewing(real, Clock(), *([TOO_OLD] * 1000))
    with pytest.raises(EnrollmentError, match="too long ago"):
        await renewing.run(DAY)
    assert renewing.tries[-1] >= DAY
    assert renewing.tries[-2] < DAY


async def test_an_expired_one_is_tried_on_while_nobody_answers(real: Identity):
    renewing = Renewing(real, Clock(), *([AWAY] * 100))
    await renewing.run(DAY, age=2 * DAY)
    assert len(renewing.tries) == 101


async def test_a_removed_node_gives_up_at_once(real: Identity):
    renewing = Renewing(real, Clock(), NodeRemoved("removed"), DAY)
    with pytest.raises(NodeRemoved):
        await renewing.run(DAY)
    assert len(renewing.tries) == 1


async def test_a_certificate_that_the_session_does_not_take_is_a_failure(real: Identity):
    clock, tries = Clock(), []

    async def renew() -> Identity:
        tries.append(clock.at)
        if len(tries) > 2:
            raise asyncio.CancelledError
        return lasting(real, clock.at, DAY)

    def use(_: Identity) -> None:
        raise ZLayerError("not this one")

    with pytest.raises(asyncio.CancelledError):
        await Renewals(renew, use, clock.timing).run(lasting(real, START, DAY))
    assert tries[1] - tries[0] == timedelta(seconds=45)
