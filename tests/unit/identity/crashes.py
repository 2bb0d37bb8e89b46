"""A power cut at any file operation: the n-th one, before or after it took effect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zlayer_native.identity import files


class PowerCut(BaseException):
    """Nothing of ours may catch it: the process is gone."""


def crash_at(
    monkeypatch: pytest.MonkeyPatch, operation: int, *, done: bool, work: Callable[[], Any]
) -> bool:
    """Runs `work` and cuts the power at its n-th change on disk.

    Args:
        monkeypatch: undone when this returns.
        operation: from 0.
        done: whether that change still reaches the disk.
        work: what to run.

    Returns:
        Whether the power was cut; False when there were fewer changes.
    """
    left = operation

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **keywords: Any) -> Any:
            nonlocal left
            left -= 1
            if left == -1:
                if done:
                    real(*args, **keywords)
                raise PowerCut
            if left < -1:
                raise PowerCut  # A dead process cleans nothing up.
            return real(*args, **keywords)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(files, "_create", counted(files._create))
        for name in ("replace", "unlink", "mkdir"):
            patched.setattr(Path, name, counted(getattr(Path, name)))
        try:
            work()
        except PowerCut:
            return True
    return False
