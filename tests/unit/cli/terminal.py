"""Runs a program on a pseudo-terminal, as a person sees it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

#: Makes the terminal the program's own, so that Ctrl-C is a signal, and becomes the program.
_OWN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A terminal with a program on it."""

    def __init__(self, args: Sequence[str], env: dict[str, str], columns: int) -> None:
        self.master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", _OWN_TERMINAL, *args],
            env=env,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.text = ""

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def read(self, until: str | None = None, within: float = 30.0) -> str:
        """What it shows until that text comes, or until the program ends."""
        deadline = time.monotonic() + within
        while until is None or until not in self.text:
            left = deadline - time.monotonic()
            assert left > 0, f"{until!r} did not come: {self.text!r}"
            if not select.select([self.master], [], [], left)[0]:
                continue
            try:
                piece = os.read(self.master, 65536)
            except OSError:  # Linux says so when the last program has closed it.
                break
            if not piece:
                break
            self.text += piece.decode(errors="replace")
        assert until is None or until in self.text, self.text
        return self.text.replace("\r\n", "\n")

    def end(self) -> int:
        """Reads the rest; returns the exit code."""
        self.read()
        return self.process.wait(30)


@contextlib.contextmanager
def terminal(
    args: Sequence[str | Path], env: dict[str, str], columns: int = 120
) -> Iterator[Terminal]:
    """A terminal whose program ends with the block."""
    plain = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS")}
    running = Terminal([*map(str, args)], {**plain, "TERM": "xterm-256color", **env}, columns)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        os.close(running.master)
