"""Waits for what other processes come to, and finds ports for them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TypeVar

import psutil

T = TypeVar("T")

WAIT_SECS = 60.0
_POLL_SECS = 0.005
#: Share of the machine that others may use when a run begins. Chosen.
_QUIET_SHARE = 0.1


def wait(check: Callable[[], T | None], problem: str) -> T:
    """Polls until there is an answer; ends the run with `problem` if none comes."""
    deadline = time.monotonic() + WAIT_SECS
    while not (value := check()):
        if time.monotonic() > deadline:
            raise SystemExit(f"{problem} within {WAIT_SECS:g} s")
        time.sleep(_POLL_SECS)
    return value


def wait_quiet(patience_secs: float) -> float:
    """Waits for `patience_secs` at most until nobody else uses the machine.

    Returns:
        The share of its cores that was in use in the last second of it.
    """
    deadline = time.monotonic() + patience_secs
    while True:
        share = psutil.cpu_percent(1) / 100
        if share <= _QUIET_SHARE or time.monotonic() > deadline:
            return share


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now; all are held at once, so that no two are alike."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
