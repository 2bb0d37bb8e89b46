"""What this machine says of itself when it enrols."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from zlayer_native.config.labels import is_name


def describe(name: str | None, labels: Mapping[str, str], data_dir: Path) -> dict[str, Any]:
    """The fields of `zlayer_native.enroll.client.Machine`.

    Args:
        name: what to be called; None takes the host's name if that is a possible one.
        labels: what is asked for; the token decides.
        data_dir: whose disk is counted.
    """
    return {
        "name": _host_name() if name is None else name,
        "os": platform.system().lower(),
        "arch": platform.machine(),
        "cpu_cores": os.cpu_count() or 0,
        "memory_bytes": psutil.virtual_memory().total,
        "disk_bytes": disk_bytes(data_dir)[0],
        "labels": dict(labels),
    }


def _host_name() -> str:
    name = socket.gethostname().lower()
    return name if is_name(name) else ""


def disk_bytes(folder: Path) -> tuple[int, int]:
    """Size and use of the disk that `folder` is on, or will be on; zeros if nobody knows."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        usage = psutil.disk_usage(str(folder))
    except OSError:
        return 0, 0
    return usage.total, usage.used
