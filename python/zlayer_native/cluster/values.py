"""Keys and values: small, replicated, with compare-and-swap."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from zlayer_native._bridge.server import Server

_PAGE = 500


@dataclass(frozen=True)
class Entry:
    """A key's value.

    Attributes:
        key: 1..256 bytes of printable ASCII.
        value: at most 64 KiB.
        revision: grows with every write of the cluster; what `if_revision` compares with.
        created_revision: of the write that made the key.
    """

    key: str
    value: bytes
    revision: int
    created_revision: int

    @classmethod
    def of(cls, record: dict[str, Any]) -> Entry:
        """From the core's record."""
        value = base64.b64decode(record["value"])
        return cls(record["key"], value, record["revision"], record["created_revision"])


class Values:
    """A small store: configuration, cursors, who does what. Not a database.

    Reads are linearizable unless `stale=True`, which reads what this process knows now, at once.
    """

    def __init__(self, core: Server) -> None:
        self._core = core

    async def get(self, key: str, *, stale: bool = False) -> Entry | None:
        """The entry of a key; None where there is none.

        Raises:
            NoLeader: no server leads, and the read is not a stale one.
        """
        if not stale:
            await self._core.settle()
        content = self._core.value(key)
        return None if content is None else Entry.of(json.loads(content))

    async def put(self, key: str, value: bytes | str, *, if_revision: int | None = None) -> int:
        """Writes; durable on a majority when this returns.

        Args:
            key: where.
            value: what; text is written as UTF-8.
            if_revision: only if the key's revision is this; 0: only if there is no such key.

        Returns:
            The new revision.

        Raises:
            RevisionMismatch: the key has another revision, `.revision`; nothing was changed.
            InvalidRequest: key or value are out of their ranges.
            LimitReached: there are too many.
            NoLeader: no server leads; nothing was changed.
            OutcomeUnknown: it may have been written: read before you write again.
        """
        content = value.encode() if isinstance(value, str) else value
        command = {
            "type": "put",
            "key": key,
            "value": base64.b64encode(content).decode(),
            "if_revision": if_revision,
        }
        return int((await self._core.propose(command))["revision"])

    async def delete(self, key: str, *, if_revision: int | None = None) -> int:
        """Deletes a key; raises as `put`.

        Returns:
            The revision that it had; 0 where there was none.
        """
        command = {"type": "delete", "key": key, "if_revision": if_revision}
        return int((await self._core.propose(command))["revision"])

    async def items(self, prefix: str = "", *, stale: bool = False) -> AsyncIterator[Entry]:
        """The entries whose keys begin so, in order of the keys. Raises as `get`."""
        if not stale:
            await self._core.settle()
        after = ""
        while page := json.loads(self._core.values(prefix, after, _PAGE))["items"]:
            for record in page:
                yield Entry.of(record)
            after = page[-1]["key"]
