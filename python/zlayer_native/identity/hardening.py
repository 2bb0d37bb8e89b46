"""Keeps key material out of core dumps and away from other processes of the same user."""

from __future__ import annotations

import ctypes
import resource

#: From linux/prctl.h.
_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> bool:
    """Makes this process leave no core dump and refuse a debugger of the same user.

    Returns:
        False where the kernel did not take the second half (not Linux); core dumps are off anyway.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        return bool(ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False
