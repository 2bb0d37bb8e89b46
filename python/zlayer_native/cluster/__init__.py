"""A cluster inside a Python process: who is a member, who leads, locks, elections, keys and values.

async with Cluster.open(config) as cluster:
await cluster.wait_ready()
"""

from __future__ import annotations

from zlayer_native.cluster.base import Cluster
from zlayer_native.cluster.election import Term
from zlayer_native.cluster.events import (
    EventsLost,
    NodeChanged,
    NodeEvent,
    NodeJoined,
    NodeLeft,
    NodeRecovered,
    NodeRemoved,
    NodeSuspect,
    NodeUnreachable,
)
from zlayer_native.cluster.lock import Lock
from zlayer_native.cluster.model import LeaderInfo, Node
from zlayer_native.cluster.values import Entry, Values

__all__ = [
    "Cluster",
    "Entry",
    "EventsLost",
    "LeaderInfo",
    "Lock",
    "Node",
    "NodeChanged",
    "NodeEvent",
    "NodeJoined",
    "NodeLeft",
    "NodeRecovered",
    "NodeRemoved",
    "NodeSuspect",
    "NodeUnreachable",
    "Term",
    "Values",
]
