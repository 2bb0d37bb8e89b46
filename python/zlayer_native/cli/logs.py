"""What a daemon writes to standard error: one line for each thing that happened, and no secret.

Text on a terminal, one JSON object a line elsewhere. Records of structlog and of plain `logging`
take the same way, so a library's warning looks like our own.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "text", "json"]

#: Above our own loggers: all of them begin with this name.
_OURS = "zlayer"

#: Nobody should ever log one of these. The last look, on the finished line, catches who does:
#: bootstrap tokens, API secrets, private keys.
_SECRETS = re.compile(
    r"(?:zlt1|zlat_)[\w-]{16,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[^\"']*?-----END [A-Z ]+-----|[^\"']*)"
)

_Event = MutableMapping[str, Any]


def configure(level: Level = "info", format: Format = "auto") -> None:
    """Sends all records of this process to standard error.

    Args:
        level: the least of ours that is written; of libraries' it is `warning`, or `info` at
            `debug`.
        format: `auto` is text on a terminal and JSON elsewhere.
    """
    as_text = format == "text" or (format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(as_text, colors=as_text and sys.stderr.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO if level == "debug" else logging.WARNING)
    logging.getLogger(_OURS).setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _formatter(as_text: bool, colors: bool) -> logging.Formatter:
    if as_text:
        # The default would print the values of local variables beside a traceback.
        plain = structlog.dev.plain_traceback
        finish: list[Any] = [
            structlog.dev.ConsoleRenderer(
                colors=colors, pad_event_to=0, sort_keys=False, exception_formatter=plain
            )
        ]
    else:
        finish = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    processors: list[Any] = [_describe, *finish, _hide_secrets]
    return structlog.stdlib.ProcessorFormatter(processors=processors)


def _describe(_logger: Any, _method: str, event: _Event) -> _Event:
    """Puts when, how bad and who before the rest, for every record, wherever it comes from."""
    record: logging.LogRecord = event.pop("_record")
    del event["_from_structlog"]
    when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return {
        "timestamp": when.replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": event.pop("event"),
        **event,
    }


def _hide_secrets(_logger: Any, _method: str, line: str) -> str:
    return _SECRETS.sub("***", line)
