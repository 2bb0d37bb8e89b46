"""A clock that moves only when it is told to."""

from __future__ import annotations


class ManualClock:
    """Milliseconds that a test advances by hand; what `LeaseTable` takes as `now_ms`.

    Args:
        start_ms: where it starts.
    """

    def __init__(self, start_ms: int = 0) -> None:
        if start_ms < 0:
            raise ValueError(f"start_ms must be 0 or more, got {start_ms}")
        self._now_ms = start_ms

    def now_ms(self) -> int:
        """The present time."""
        return self._now_ms

    def advance(self, ms: int) -> int:
        """Moves on by `ms` and returns the new time. Monotonic: a negative step is a ValueError."""
        if ms < 0:
            raise ValueError(f"a monotonic clock does not go back, got {ms}")
        self._now_ms += ms
        return self._now_ms

    def __repr__(self) -> str:
        return f"ManualClock(start_ms={self._now_ms})"
