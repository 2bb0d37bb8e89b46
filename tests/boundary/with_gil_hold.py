"""Runs `zlayerd` with a thread that holds the GIL for a while when a file appears.

Usage: with_gil_hold.py TRIGGER SECONDS ARGS...
Once TRIGGER exists, makes TRIGGER.holding, holds the GIL for SECONDS, makes TRIGGER.done.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from zlayer_native.cli import main
from zlayer_native.testing import hold_gil


def _hold(trigger: Path, seconds: float) -> None:
    while not trigger.exists():
        time.sleep(0.02)
    trigger.with_suffix(".holding").touch()
    hold_gil(seconds)
    trigger.with_suffix(".done").touch()


if __name__ == "__main__":
    threading.Thread(
        target=_hold, args=(Path(sys.argv[1]), float(sys.argv[2])), daemon=True
    ).start()
    sys.argv = ["zlayerd", *sys.argv[3:]]
    main()
