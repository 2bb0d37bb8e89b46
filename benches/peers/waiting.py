"""Waits for what other processes come to, and finds ports for them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

WAIT_SECS = 60.0
_POLL_SECS = 0.005


def wait(check: Callable[[], T | None], problem: str) -> T:
    """Polls until there is an answer; ends the run with `problem` if none comes."""
    deadline = time.monotonic() + WAIT_SECS
    while not (value := check()):
        if time.monotonic() > deadline:
            raise SystemExit(f"{problem} within {WAIT_SECS:g} s")
        time.sleep(_POLL_SECS)
    return value


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
