"""What writers know of their own writes, and what the servers have to show for it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.cluster.servers import OneServer

EVENTS = "/api/v1/cluster/events"
TOKENS = "/api/v1/cluster/tokens"
LINEARIZABLE = "linearizable"

#: The event of each kind of write; its detail is the token's name.
EVENT_OF = {"create": "token_created", "revoke": "token_revoked"}
_PAGE = 1000


@dataclass(frozen=True)
class Write:
    """One write. Times are of the monotonic clock, in seconds."""

    kind: str
    name: str
    sent: float
    ended: float
    jti: str = ""

    @property
    def event(self) -> tuple[str, str]:
        return EVENT_OF[self.kind], self.name


class Ledger:
    """Every write by its outcome. Threads share it."""

    def __init__(self) -> None:
        self.acked: list[Write] = []
        #: It may have been done.
        self.unknown: list[Write] = []
        #: The server said that it was not done.
        self.refused: list[Write] = []
        self._changed = threading.Condition()

    def note(self, of: list[Write], write: Write) -> None:
        with self._changed:
            of.append(write)
            self._changed.notify_all()

    def count(self) -> int:
        """Writes that are acknowledged so far."""
        with self._changed:
            return len(self.acked)

    def wait_count(self, count: int, *, within: float) -> Write:
        """Waits until so many are acknowledged, and returns the newest."""
        with self._changed:
            reached = self._changed.wait_for(lambda: len(self.acked) >= count, within)
            assert reached, f"{len(self.acked)} of {count} writes acknowledged within {within} s"
            return self.acked[-1]

    def first_sent_after(self, at: float, *, within: float) -> Write:
        """Waits for an acknowledged write that was sent after `at`; the one acknowledged first."""

        def found() -> Write | None:
            # In order of their ends but for threads that met here; so old ones end the search.
            later = []
            for write in reversed(self.acked):
                if write.ended < at:
                    break
                if write.sent > at:
                    later.append(write)
            return min(later, key=lambda write: write.ended, default=None)

        with self._changed:
            self._changed.wait_for(found, within)
            write = found()
        assert write is not None, f"no write within {within} s: {self.refused[-3:]}"
        return write


class Trail:
    """The event log as one server shows it, followed without a gap."""

    def __init__(self, server: OneServer) -> None:
        self._server = server
        self.events: list[dict[str, Any]] = []

    def advance(self) -> None:
        """Reads on, linearizable, up to the newest event."""
        while True:
            after = len(self.events)
            page = self._server.get(EVENTS, after=after, limit=_PAGE, consistency=LINEARIZABLE)
            assert page["lost"] is None, page["lost"]
            items = page["items"]
            wanted = list(range(after + 1, after + 1 + len(items)))
            assert [event["revision"] for event in items] == wanted, "revisions have a hole"
            self.events += items
            if len(self.events) >= page["revision"]:
                return


def check_trails(trails: Iterable[Trail], ledger: Ledger) -> None:
    """Reads every server's events: one order, all that was acknowledged, nothing twice."""
    must = {write.event for write in list(ledger.acked)}  # Before the reads: all have to show it.
    trails = list(trails)
    for trail in trails:
        trail.advance()
    longest = max(trails, key=lambda trail: len(trail.events)).events
    for trail in trails:
        assert trail.events == longest[: len(trail.events)], "two servers order events differently"
        seen = Counter(
            (event["kind"], event["detail"])
            for event in trail.events
            if event["kind"] in EVENT_OF.values()
        )
        lost = must - seen.keys()
        assert not lost, f"acknowledged and lost: {sorted(lost)}"
        twice = [write for write, count in seen.items() if count > 1]
        assert not twice, f"done twice: {twice}"


def check_tokens(servers: Iterable[OneServer], ledger: Ledger) -> None:
    """Compares all servers' tokens with each other and with the ledger, once nobody writes."""
    servers = list(servers)
    shown = [server.get(TOKENS, consistency=LINEARIZABLE)["items"] for server in servers]
    assert all(each == shown[0] for each in shown), "the servers hold different tokens"
    indexes = {server.status()["log"]["last_index"] for server in servers}
    assert len(indexes) == 1, f"the logs end at {indexes}"

    names = Counter(token["name"] for token in shown[0])
    assert max(names.values()) == 1, "a token was made twice"
    by_name = {token["name"]: token for token in shown[0]}
    for write in ledger.acked:
        token = by_name.get(write.name)
        assert token is not None, f"acknowledged and lost: {write}"
        assert token["jti"] == write.jti, f"another token than the acknowledged one: {write}"
        assert write.kind != "revoke" or token["revoked"], f"acknowledged and lost: {write}"
    for write in ledger.refused:
        done = write.name in by_name if write.kind == "create" else by_name[write.name]["revoked"]
        assert not done, f"refused and done all the same: {write}"


def now() -> float:
    return time.monotonic()
