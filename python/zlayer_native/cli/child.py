"""Daemons that belong to another command: they end when it does, however it ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

#: Names the process that a child belongs to.
_OWNER = "ZLAYER_OWNER_PID"
#: From linux/prctl.h.
_PR_SET_PDEATHSIG = 1
#: Seconds for a child to stop by itself.
_STOP_SECS = 10.0


def obey_owner() -> None:
    """Called first thing: asks the kernel for SIGTERM when the owner dies, if there is one."""
    owner = os.environ.pop(_OWNER, "")
    if not owner.isdigit():
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(owner):  # It died before the kernel was asked.
        sys.exit(0)


class Child:
    """A `zlayerd` of this very installation, in a session of its own: Ctrl-C is its owner's.

    Args:
        args: the verb and what it is given.
        log: file that its output is added to.
        talks: its standard input and output are pipes of the owner's; the log gets the rest.
    """

    def __init__(self, args: Sequence[str], log: Path, *, talks: bool = False) -> None:
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(  # noqa: S603 - our own program and arguments
                [sys.executable, "-m", "zlayer_native.cli", *args],
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else output,
                stderr=output,
                start_new_session=True,
                env={**_environment(), _OWNER: str(os.getpid())},
            )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.popen.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.popen.poll() is None

    def last_words(self, lines: int = 5) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        if self.is_running:
            self.popen.terminate()

    def kill(self) -> None:
        """SIGKILL, and waits until the kernel has taken everything from it."""
        self.popen.kill()
        self.popen.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that takes too long."""
        self.ask_to_stop()
        try:
            self.popen.wait(_STOP_SECS)
        except subprocess.TimeoutExpired:
            self.kill()


def _environment() -> dict[str, str]:
    """Without this shell's own zlayer settings: the owner says everything by flags."""
    return {key: value for key, value in os.environ.items() if not key.startswith("ZLAYER_")}
