"""The worker's log: structured in a daemon, one plain line in a process that is not ours.

A library must not print, nor depend on how its host has set up structlog. So records go through the
host's own `logging`, and bring their fields along: `zlayer_native.cli.logs` renders them as fields,
any other handler as `text key=value`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, MutableMapping
from typing import Any, cast

import structlog

#: Seconds between two lines that say the same.
_REPEAT_SECS = 60.0


class _Fields(dict[str, Any]):
    """A record's message: `logging` asks it for a text, structlog's formatter for the fields."""

    def __str__(self) -> str:
        rest = (f"{key}={value}" for key, value in self.items() if key != "event")
        return " ".join([str(self.get("event", "")), *rest])


def _to_record(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> tuple[tuple[_Fields], dict[str, Any]]:
    # The two attributes are how structlog's ProcessorFormatter knows a record with fields.
    return (_Fields(event),), {"extra": {"_logger": logger, "_name": method}}


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger over `logging.getLogger(name)`."""
    logger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, _to_record],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
    )
    return cast("structlog.stdlib.BoundLogger", logger)


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
