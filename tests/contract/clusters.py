"""Running clusters of each mode, for the contract that they all keep."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.cluster.harness import free_port
from zlayer_native import Cluster, Config
from zlayer_native.identity.authority import Authority

MODES = ("single-node", "raft", "worker-tier")
#: What makes an authority: the same on every server.
_AUTHORITY = ("ca.key", "ca.pem", "token.key", "cluster.json")


def _peers(count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": number,
            "raft_addr": f"127.0.0.1:{free_port()}",
            "api_addr": f"127.0.0.1:{free_port()}",
        }
        for number in range(1, count + 1)
    ]


def configs(mode: str, root: Path) -> list[Config]:
    """One configuration a process; all of one cluster."""
    count = 3 if mode == "raft" else 1
    peers, found = _peers(count), []
    for number in range(1, count + 1):
        data_dir = root / f"{mode}-{number}"
        cluster: dict[str, Any] = {"mode": mode}
        if mode != "single-node":
            cluster |= {"node_id": number, "peers": peers}
        if mode == "worker-tier":
            cluster |= {"role": "server", "worker_grpc_addr": "127.0.0.1:0"}
        found.append(Config(name=f"node-{number}", data_dir=data_dir, cluster=cluster))
    if count > 1:
        share_authority([config.data_dir for config in found])
    return found


def share_authority(data_dirs: list[Path]) -> None:
    """Makes one authority, in every data folder."""
    first, *others = data_dirs
    Authority.create(first / "cluster")
    for data_dir in others:
        (data_dir / "cluster").mkdir(parents=True, mode=0o700)
        data_dir.chmod(0o700)
        for name in _AUTHORITY:
            shutil.copy(first / "cluster" / name, data_dir / "cluster" / name)


@contextlib.asynccontextmanager
async def running(mode: str, root: Path) -> AsyncIterator[list[Cluster]]:
    """All processes of a cluster, in this one; ready."""
    async with contextlib.AsyncExitStack() as exits:
        clusters = [
            await exits.enter_async_context(Cluster.open(config)) for config in configs(mode, root)
        ]
        for cluster in clusters:
            await cluster.wait_ready(timeout=60)
        yield clusters
