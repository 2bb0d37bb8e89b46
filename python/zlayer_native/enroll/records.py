"""What enrolment needs from the control state: a way to change it, and two kinds of records."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol, cast

#: Seconds that a token's record may be old. It only saves proposals: the redemption itself decides.
_TOKEN_AGE_SECS = 1.0
#: Token records kept. Chosen; an entry that falls out is read again.
_TOKENS_KEPT = 256


class Proposer(Protocol):
    """The control state as enrolment sees it."""

    async def propose(self, command: dict[str, Any]) -> dict[str, Any]:
        """Commits a command and returns its outcome; raises the error of its refusal."""

    async def settle(self) -> None:
        """Waits until the records hold all that was acknowledged before the call."""

    def token(self, jti: str) -> dict[str, Any] | None:
        """A token's record; may be stale."""

    def node(self, node_id: int) -> dict[str, Any] | None:
        """A node's record; None if there is none or it was removed. May be stale."""


class Core(Protocol):
    """The part of the bridge's `Server` that is behind it: records as JSON."""

    async def propose(self, command: dict[str, Any]) -> dict[str, Any]:
        """Commits a command."""

    async def settle(self) -> None:
        """Waits until the records hold all that was acknowledged before the call."""

    def token(self, jti: str) -> bytes | None:
        """A token's record."""

    def node(self, node_id: int) -> bytes | None:
        """A node's record."""


class CoreRecords:
    """A `Proposer` over the server's core."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def propose(self, command: dict[str, Any]) -> dict[str, Any]:
        """See `Proposer`."""
        return await self._core.propose(command)

    async def settle(self) -> None:
        """See `Proposer`."""
        await self._core.settle()

    def token(self, jti: str) -> dict[str, Any] | None:
        """See `Proposer`."""
        return _document(self._core.token(jti))

    def node(self, node_id: int) -> dict[str, Any] | None:
        """See `Proposer`."""
        return _document(self._core.node(node_id))


def _document(content: bytes | None) -> dict[str, Any] | None:
    return None if content is None else cast("dict[str, Any]", json.loads(content))


class TokenRecords:
    """Token records that may be a second old.

    A record lists every use, so reading it for each of 10,000 machines that come with one token
    would cost 10,000 times 10,000. Staleness is safe: uses are only ever added, and a revocation is
    seen by the redemption itself.
    """

    def __init__(self, proposer: Proposer, monotonic: Callable[[], float]) -> None:
        self._proposer = proposer
        self._monotonic = monotonic
        self._kept: OrderedDict[str, tuple[float, dict[str, Any]]] = OrderedDict()

    def get(self, jti: str) -> dict[str, Any] | None:
        """The record, at most a second old; None if there is no such token."""
        now = self._monotonic()
        kept = self._kept.get(jti)
        if kept is not None and now - kept[0] < _TOKEN_AGE_SECS:
            return kept[1]
        record = self._proposer.token(jti)
        if record is None:
            self._kept.pop(jti, None)
            return None
        self._kept[jti] = (now, record)
        self._kept.move_to_end(jti)
        while len(self._kept) > _TOKENS_KEPT:
            self._kept.popitem(last=False)
        return record
