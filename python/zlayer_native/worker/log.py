"""The worker's log: structured in a daemon, one plain line in a process that is not ours.

A library must not print, nor depend on how its host has set up structlog (whose import alone brings
rich along). So this is the host's own `logging`, with records that bring their fields:
`zlayer_native.cli.logs` renders them as fields, any other handler as `text key=value`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

#: Seconds between two lines that say the same.
_REPEAT_SECS = 60.0


class _Fields(dict[str, Any]):
    """A record's message: `logging` asks it for a text, structlog's formatter for the fields."""

    def __str__(self) -> str:
        rest = (f"{key}={value}" for key, value in self.items() if key != "event")
        return " ".join([str(self["event"]), *rest])


class Log:
    """`logging.getLogger(name)`, with fields."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: Any) -> None:
        """For who looks for a fault."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Something happened, as it should."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something went wrong, and is tried again."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Somebody has to do something."""
        self._write(logging.ERROR, event, fields)

    def _write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if self._logger.isEnabledFor(level):
            # The two attributes are how structlog's ProcessorFormatter knows a record with fields.
            extra = {"_logger": self._logger, "_name": logging.getLevelName(level).lower()}
            self._logger.log(level, _Fields(event=event, **fields), extra=extra, stacklevel=3)


class Repeats:
    """Keeps a cause that comes again and again from filling the log."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._last: tuple[str, float] | None = None
        self._held_back = 0

    def due(self, text: str) -> int | None:
        """How many times it was held back since the last line, if it is time for one; else None.

        A text that differs from the last one is due at once, the same one once a minute.
        """
        now = self._monotonic()
        if self._last is not None and self._last[0] == text and now - self._last[1] < _REPEAT_SECS:
            self._held_back += 1
            return None
        held_back = self._held_back if self._last is not None and self._last[0] == text else 0
        self._last, self._held_back = (text, now), 0
        return held_back
