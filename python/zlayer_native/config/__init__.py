"""Configuration: one model for each mode, read from a file, the environment and flags.

    defaults < implied < file < environment < flags

`load_config` gives the values, `resolve` also where each one came from. Everything is validated
once, and every problem is in one report. Public names load what they need when they are first
used, because `labels` and `addresses` are also read by parts that need no pydantic.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zlayer_native.config.advice import advise
    from zlayer_native.config.cluster import ClusterConfig
    from zlayer_native.config.document import Config, HttpConfig, LogConfig
    from zlayer_native.config.flags import Flag
    from zlayer_native.config.load import Resolved, load_config, resolve
    from zlayer_native.config.origins import Origin
    from zlayer_native.config.peers import RaftPeer, ServerPeer, StaticPeer
    from zlayer_native.config.problems import Advice
    from zlayer_native.config.raft import RaftConfig
    from zlayer_native.config.rendering import render
    from zlayer_native.config.show import show_resolved
    from zlayer_native.config.single_node import SingleNodeConfig
    from zlayer_native.config.static import StaticConfig
    from zlayer_native.config.worker_limits import WorkerLimits
    from zlayer_native.config.worker_tier import (
        WorkerTierConfig,
        WorkerTierServerConfig,
        WorkerTierWorkerConfig,
    )

#: Public name, and the module of this package that defines it.
_HOMES = {
    "Advice": "problems",
    "ClusterConfig": "cluster",
    "Config": "document",
    "Flag": "flags",
    "HttpConfig": "document",
    "LogConfig": "document",
    "Origin": "origins",
    "RaftConfig": "raft",
    "RaftPeer": "peers",
    "Resolved": "load",
    "ServerPeer": "peers",
    "SingleNodeConfig": "single_node",
    "StaticConfig": "static",
    "StaticPeer": "peers",
    "WorkerLimits": "worker_limits",
    "WorkerTierConfig": "worker_tier",
    "WorkerTierServerConfig": "worker_tier",
    "WorkerTierWorkerConfig": "worker_tier",
    "advise": "advice",
    "load_config": "load",
    "render": "rendering",
    "resolve": "load",
    "show_resolved": "show",
}

__all__ = [
    "Advice",
    "ClusterConfig",
    "Config",
    "Flag",
    "HttpConfig",
    "LogConfig",
    "Origin",
    "RaftConfig",
    "RaftPeer",
    "Resolved",
    "ServerPeer",
    "SingleNodeConfig",
    "StaticConfig",
    "StaticPeer",
    "WorkerLimits",
    "WorkerTierConfig",
    "WorkerTierServerConfig",
    "WorkerTierWorkerConfig",
    "advise",
    "load_config",
    "render",
    "resolve",
    "show_resolved",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
