"""Follows the event log over server-sent events, across broken connections, without a gap."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from zlayer_native.cli.client import Api
from zlayer_native.errors import ApiError, Unreachable

EVENTS = "/api/v1/cluster/events"
#: Kind of the frame that tells a gap.
LOST = "lost"

#: Bytes of one line. Chosen: an event has less than 1 KiB.
_LINE_BYTES_MAX = 1024 * 1024
#: Seconds between two tries, first and longest.
_PAUSE_FIRST, _PAUSE_MAX = 0.1, 5.0
#: A server that restarts, or a proxy in front of one, may say these for a while.
_PASSING = frozenset({429, 503})


@dataclass(frozen=True)
class Frame:
    """One event of the stream; after it the stream resumes at `revision`."""

    kind: str
    revision: int
    document: dict[str, Any]


def follow(
    api: Api,
    after: int,
    *,
    on_break: Callable[[ApiError | None, int], None],
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[Frame]:
    """Yields what happens above revision `after`, without end.

    Args:
        api: where.
        after: the newest revision that the caller has seen.
        on_break: is told when a connection is lost, and the revision that goes on from; once for
            each loss, not for each try.
        pause: waits seconds.

    Raises:
        ApiError: the first connection failed, or the server refuses for good.
    """
    opened, told, wait = False, False, _PAUSE_FIRST
    while True:
        broken: ApiError | None = None
        try:
            with api.stream(EVENTS, {"after": after}) as pieces:
                opened = True
                for frame in frames(pieces):
                    after, told, wait = frame.revision, False, _PAUSE_FIRST
                    yield frame
        except ApiError as error:
            passing = isinstance(error, Unreachable) or error.status in _PASSING
            if not (opened and passing):
                raise
            broken = error
        if not told:
            on_break(broken, after)
            told = True
        pause(wait * random.uniform(0.5, 1.0))  # noqa: S311 - spreads reconnects.
        wait = min(wait * 2, _PAUSE_MAX)


def frames(pieces: Iterator[bytes]) -> Iterator[Frame]:
    """Reads frames from the bytes of a stream; a frame that was cut off is left out.

    Raises:
        ApiError: it is no event stream of ours.
    """
    fields: dict[str, str] = {}
    for line in _lines(pieces):
        if line:
            name, _, value = line.partition(":")
            if name:  # A line without a name is a comment: the server is alive.
                fields[name] = value.removeprefix(" ")
        elif fields:
            yield _frame(fields)
            fields = {}


def _lines(pieces: Iterator[bytes]) -> Iterator[str]:
    pending = b""
    for piece in pieces:
        pending += piece
        *lines, pending = pending.split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")
        if len(pending) > _LINE_BYTES_MAX:
            raise _stranger()


def _frame(fields: dict[str, str]) -> Frame:
    try:
        document = json.loads(fields["data"])
        if not isinstance(document, dict):
            raise ValueError("data")
        return Frame(fields.get("event", ""), int(fields["id"]), document)
    except (KeyError, ValueError, RecursionError):
        raise _stranger() from None


def _stranger() -> ApiError:
    return ApiError("the answer is not an event stream of zlayer's", code="not_our_api")
