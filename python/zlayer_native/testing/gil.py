"""Holding the GIL on purpose, to see who depends on it."""

from __future__ import annotations

import ctypes
import time


def hold_gil(seconds: float) -> None:
    """Holds the GIL for `seconds` in one C call: no other Python thread and no event loop runs.

    What a slow regular expression or a C extension that never releases the GIL does to a process,
    of a length that a test can choose. POSIX only.
    """
    # PyDLL, unlike CDLL, keeps the GIL while the C function runs.
    poll = ctypes.PyDLL(None).poll
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:  # Again only where a signal cut it short.
        poll(None, ctypes.c_ulong(0), ctypes.c_int(max(1, int(left * 1000))))
