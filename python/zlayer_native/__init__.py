"""Cluster membership and dispatch with a Rust core.

Public names load what they need when they are first used: importing this package pulls in neither
grpc, nor pydantic, nor rich.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zlayer_native._bridge.lease import AdaptiveTtlConfig, ExpiredLease, LeaseTable
    from zlayer_native.cluster import (
        Cluster,
        Entry,
        EventsLost,
        LeaderInfo,
        Lock,
        Node,
        NodeChanged,
        NodeEvent,
        NodeJoined,
        NodeLeft,
        NodeRecovered,
        NodeRemoved,
        NodeSuspect,
        NodeUnreachable,
        Term,
    )
    from zlayer_native.config import ClusterConfig, Config, load_config
    from zlayer_native.errors import ZLayerError
    from zlayer_native.testing import ManualClock
    from zlayer_native.worker import Worker

#: Public name, and the module that defines it.
_HOMES = {
    "AdaptiveTtlConfig": "zlayer_native._bridge.lease",
    "Cluster": "zlayer_native.cluster",
    "ClusterConfig": "zlayer_native.config",
    "Config": "zlayer_native.config",
    "Entry": "zlayer_native.cluster",
    "EventsLost": "zlayer_native.cluster",
    "ExpiredLease": "zlayer_native._bridge.lease",
    "LeaderInfo": "zlayer_native.cluster",
    "LeaseTable": "zlayer_native._bridge.lease",
    "Lock": "zlayer_native.cluster",
    "ManualClock": "zlayer_native.testing",
    "Node": "zlayer_native.cluster",
    "NodeChanged": "zlayer_native.cluster",
    "NodeEvent": "zlayer_native.cluster",
    "NodeJoined": "zlayer_native.cluster",
    "NodeLeft": "zlayer_native.cluster",
    "NodeRecovered": "zlayer_native.cluster",
    "NodeRemoved": "zlayer_native.cluster",
    "NodeSuspect": "zlayer_native.cluster",
    "NodeUnreachable": "zlayer_native.cluster",
    "Term": "zlayer_native.cluster",
    "Worker": "zlayer_native.worker",
    "ZLayerError": "zlayer_native.errors",
    "load_config": "zlayer_native.config",
}

__all__ = [
    "AdaptiveTtlConfig",
    "Cluster",
    "ClusterConfig",
    "Config",
    "Entry",
    "EventsLost",
    "ExpiredLease",
    "LeaderInfo",
    "LeaseTable",
    "Lock",
    "ManualClock",
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
    "Worker",
    "ZLayerError",
    "__version__",
    "load_config",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from zlayer_native._native import version

        return version()
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
