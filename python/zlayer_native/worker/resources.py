"""How much of this machine is in use: read every few seconds, sent with the next heartbeat."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from zlayer_native.worker.machine import disk_bytes

#: The second figures come soon: the first have no share of the CPU, which needs two looks.
_SECOND_SECS = 1.0
#: Chosen: as often as the shortest default TTL. A look takes some 200 µs.
_PERIOD_SECS = 10.0
#: Seconds of a core between two looks that say something: the kernel counts in hundredths.
_CORE_SECS_MIN = 0.2


@dataclass(frozen=True)
class Use:
    """Of the whole machine. `cpu_millicores` is the mean since the look before; 0 is unknown."""

    cpu_millicores: int
    memory_bytes: int
    disk_bytes: int


class Meter(Protocol):
    """What the figures are for: the session."""

    def set_resources(self, cpu_millicores: int, memory_bytes: int, disk_bytes: int) -> None:
        """Replaces the use that the next reports carry."""


class Sampler:
    """Reads the machine's counters.

    Args:
        data_dir: whose disk is counted.
        cpu: seconds that all cores together were busy, and seconds in all, since some start.
        memory: bytes in use.
        disk: bytes in use.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        cpu: Callable[[], tuple[float, float]] | None = None,
        memory: Callable[[], int] | None = None,
        disk: Callable[[], int] | None = None,
        cores: int | None = None,
    ) -> None:
        self._cpu = cpu or _cpu_seconds
        self._memory = memory or _memory_bytes
        self._disk = disk or (lambda: disk_bytes(data_dir)[1])
        self._cores = cores or psutil.cpu_count() or 1
        self._last = self._cpu()

    def sample(self) -> Use:
        """The use since the last sample, or since the sampler was made."""
        last, self._last = self._last, self._cpu()
        busy_s, all_s = self._last[0] - last[0], self._last[1] - last[1]
        # Counters may step back a little, as idle time does on Linux.
        share = min(1.0, max(0.0, busy_s / all_s)) if all_s >= _CORE_SECS_MIN else 0.0
        return Use(round(share * self._cores * 1000), self._memory(), self._disk())

    async def report(
        self, meter: Meter, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        """Tells `meter` from time to time, beginning soon, until it is cancelled."""
        await sleep(_SECOND_SECS)
        while True:
            tell(meter, self.sample())
            await sleep(_PERIOD_SECS)


def tell(meter: Meter, use: Use) -> None:
    """Gives `meter` the figures."""
    meter.set_resources(use.cpu_millicores, use.memory_bytes, use.disk_bytes)


def _cpu_seconds() -> tuple[float, float]:
    times = psutil.cpu_times()
    # The kernel counts a guest's time in `user` and `nice` as well.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - times.idle - getattr(times, "iowait", 0.0), total


def _memory_bytes() -> int:
    memory = psutil.virtual_memory()
    return int(memory.total - memory.available)
