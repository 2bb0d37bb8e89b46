"""Where state is kept when nobody says so."""

from __future__ import annotations

import os
import pathlib

_SYSTEM = pathlib.Path("/var/lib/zlayerd")


def default_data_dir() -> pathlib.Path:
    """`/var/lib/zlayerd` for root, `~/.local/share/zlayerd` for everybody else."""
    if os.geteuid() == 0:
        return _SYSTEM
    try:
        return pathlib.Path.home() / ".local" / "share" / "zlayerd"
    except RuntimeError:  # A user without a home.
        return _SYSTEM
