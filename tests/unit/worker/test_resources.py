"""What a worker says of its machine's use."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.unit.worker.fakes import FakeSession
from zlayer_native.worker.resources import Sampler, Use


class Counters:
    """Busy and total seconds of all cores, set by a test."""

    def __init__(self) -> None:
        self.at = (0.0, 0.0)

    def __call__(self) -> tuple[float, float]:
        return self.at


def sampler(cpu: Counters, cores: int = 4) -> Sampler:
    return Sampler(Path("/"), cpu=cpu, memory=lambda: 7, disk=lambda: 9, cores=cores)


def test_cpu_is_the_mean_since_the_last_look_in_thousandths_of_a_core():
    cpu = Counters()
    sampled = sampler(cpu)
    cpu.at = (10.0, 40.0)  # A quarter of four cores.
    assert sampled.sample() == Use(1000, 7, 9)
    cpu.at = (50.0, 80.0)
    assert sampled.sample().cpu_millicores == 4000
    cpu.at = (50.0, 120.0)
    assert sampled.sample().cpu_millicores == 0


@pytest.mark.parametrize(
    "then", [(0.0, 0.0), (0.01, 0.01), (-1.0, 40.0)], ids=["no time", "one tick", "steps back"]
)
def test_counters_that_say_nothing_are_no_load(then: tuple[float, float]):
    cpu = Counters()
    sampled = sampler(cpu)
    cpu.at = then
    assert sampled.sample().cpu_millicores == 0


async def test_figures_come_soon_and_then_every_ten_seconds():
    session, naps = FakeSession({}), []

    async def sleep(seconds: float) -> None:
        assert len(session.resources) == len(naps)
        naps.append(seconds)
        if len(naps) == 4:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await sampler(Counters()).report(session, sleep)
    assert naps == [1.0, 10.0, 10.0, 10.0]
    assert session.resources == [(0, 7, 9)] * 3


def test_the_real_machine_has_figures_that_fit_it(tmp_path: Path):
    use = Sampler(tmp_path).sample()
    assert use.memory_bytes > 0
    assert use.disk_bytes > 0


def test_a_folder_that_is_not_there_yet_is_counted_where_it_will_be(tmp_path: Path):
    there = Sampler(tmp_path).sample().disk_bytes
    assert Sampler(tmp_path / "a" / "b").sample().disk_bytes == pytest.approx(there, rel=0.2)
