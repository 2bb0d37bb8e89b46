"""Runs a short program in a Python process of its own: for what ends, forks or crashes one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: What a process says when native code went wrong.
_CRASHES = ("Fatal Python error", "panicked", "Segmentation fault", "exception not rethrown")


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    output: str
    errors: str
    #: Seconds from its last line "ending" to its end, or of its whole life if it said none.
    ending_s: float


def run_script(code: str, *args: object, interrupt_on: str = "", within: float = 60) -> Ended:
    """Runs `code`, and fails if native code went wrong or it took longer than `within` seconds.

    Args:
        code: the program; it may import `tests` and `zlayer_native`.
        args: its `sys.argv[1:]`.
        interrupt_on: once it prints this line, it gets a SIGINT.
        within: seconds.
    """
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code), *map(str, args)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    errors: list[str] = []
    output: list[str] = []
    watchdog = threading.Timer(within, lambda: process.send_signal(signal.SIGABRT))
    with process:
        reading = threading.Thread(target=lambda: errors.extend(process.stderr), daemon=True)
        reading.start()
        watchdog.start()
        since = time.monotonic()
        try:
            for line in process.stdout:
                output.append(line)
                if line.strip() == "ending":
                    since = time.monotonic()
                if interrupt_on and line.strip() == interrupt_on:
                    process.send_signal(signal.SIGINT)
            status = process.wait()
        finally:
            watchdog.cancel()
            process.kill()  # Does nothing to one that has ended.
        ending_s = time.monotonic() - since
        reading.join()
    text = "".join(errors)
    assert status != -signal.SIGABRT, f"still there after {within} s:\n{text}"
    assert not [sign for sign in _CRASHES if sign in text], f"{status}\n{text}"
    return Ended(status, "".join(output), text, ending_s)
