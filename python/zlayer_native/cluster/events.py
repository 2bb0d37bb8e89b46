"""What happens to nodes, as a stream that has no gap, or says that it has one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from zlayer_native._bridge.server import Server
from zlayer_native.cluster.model import Node

#: Events that are read at once.
_PAGE = 500
#: Seconds that one wait for the next event lasts at most; then it is asked again.
_WAIT_SECS = 60.0


@dataclass(frozen=True)
class NodeEvent:
    """Something happened to a node. `node` is as it was known when the event was read."""

    node: Node
    revision: int
    reason: str = ""


class NodeJoined(NodeEvent):
    """A process of this node has its first session."""


class NodeSuspect(NodeEvent):
    """Its connection was lost; its lease is held."""


class NodeUnreachable(NodeEvent):
    """Its lease ended."""


class NodeRecovered(NodeEvent):
    """It is back."""


class NodeLeft(NodeEvent):
    """It stopped on purpose."""


class NodeRemoved(NodeEvent):
    """An operator removed it for good."""


class NodeChanged(NodeEvent):
    """It enrolled, or draining was switched: `reason` says which."""


@dataclass(frozen=True)
class EventsLost:
    """The reader was too slow, and `count` events are kept no more: ask for the nodes again.

    Attributes:
        count: how many.
        revision: the newest of those that were lost.
    """

    count: int
    revision: int


_KINDS: dict[str, type[NodeEvent]] = {
    "joined": NodeJoined,
    "suspect": NodeSuspect,
    "unreachable": NodeUnreachable,
    "recovered": NodeRecovered,
    "left": NodeLeft,
    "removed": NodeRemoved,
    "enrolled": NodeChanged,
    "drain_started": NodeChanged,
    "drain_stopped": NodeChanged,
}


async def follow(
    core: Server, after: int, selects: Callable[[Node], bool]
) -> AsyncIterator[NodeEvent | EventsLost]:
    """Events above the revision `after`, for as long as the core runs.

    Raises:
        CoreStopped: the core ended.
    """
    while True:
        page = json.loads(core.events(after, _PAGE))
        if page["first_kept"] > after + 1:
            lost = page["first_kept"] - after - 1
            after = page["first_kept"] - 1
            yield EventsLost(lost, after)
        for item in page["items"]:
            if item["revision"] <= after:
                continue
            after = item["revision"]
            event = _event(core, item)
            if event is not None and selects(event.node):
                yield event
        while after >= page["revision"] and await core.wait_revision(after, _WAIT_SECS) <= after:
            if core.failed.done():
                raise core.failed.result()
            if core.is_stopped:
                return


def _event(core: Server, item: dict[str, Any]) -> NodeEvent | None:
    kind = _KINDS.get(item["kind"])
    if kind is None:
        return None  # About tokens or servers.
    content = core.node(item["node_id"])
    if content is None:
        node = Node(item["node_id"], item["node_name"], "Removed", "removed", item["at_ms"])
    else:
        node = Node.of(json.loads(content))
    reason = item["reason"] or item["kind"]
    return kind(node=node, revision=item["revision"], reason=reason)
