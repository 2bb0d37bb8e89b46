"""Which mode runs how: the only branch on the mode."""

from __future__ import annotations

from zlayer_native.cluster.core import CoreCluster
from zlayer_native.cluster.voters import start_raft, start_single_node
from zlayer_native.config import (
    ClusterConfig,
    Config,
    RaftConfig,
    SingleNodeConfig,
    WorkerTierServerConfig,
)
from zlayer_native.errors import NotSupported
from zlayer_native.identity.hardening import forbid_core_dumps


async def opened(config: Config | ClusterConfig, *, api_addr: str | None = None) -> CoreCluster:
    """Starts this process's part of a cluster; raises as `Cluster.open`.

    Args:
        config: all of it, or its `cluster` block.
        api_addr: `host:port` of its HTTP API, where that is not as `peers` says.
    """
    whole = config if isinstance(config, Config) else Config(cluster=config)
    cluster = whole.cluster
    if cluster.is_worker_tier_worker():
        raise NotSupported("a worker is no part of the servers: use zlayer_native.Worker")
    forbid_core_dumps()
    match cluster:
        case SingleNodeConfig():
            return await start_single_node(whole)
        case RaftConfig():
            return await start_raft(whole, cluster)
        case WorkerTierServerConfig():
            from zlayer_native.cluster.worker_tier import WorkerTierServer

            return await WorkerTierServer.start(whole, cluster, api_addr=api_addr)
    raise NotSupported(f"mode {cluster.mode} has no Cluster yet")
