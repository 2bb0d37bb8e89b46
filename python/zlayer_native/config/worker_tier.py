"""Mode `worker-tier`: a few servers that agree through Raft, and workers that never do."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, ValidationInfo, ValidatorFunctionWrapHandler, field_validator

from zlayer_native.config.cluster import ClusterConfig
from zlayer_native.config.data_dir import default_data_dir
from zlayer_native.config.fields import (
    BindAddress,
    BindAddressOrNull,
    DialAddressOrNull,
    FilePath,
    FilePathOrNull,
    LabelMap,
    Rate,
    Seconds,
    SecondsOrZero,
    ServerAddress,
    ServerId,
)
from zlayer_native.config.labels import Labels
from zlayer_native.config.model import many_wrong, wrong
from zlayer_native.config.peers import ServerPeer, check_peers
from zlayer_native.config.worker_limits import WorkerLimits

if TYPE_CHECKING:
    from zlayer_native._bridge.lease import AdaptiveTtlConfig

_SERVERS_MAX = 7  # Contract: 3-7 servers.
_SERVERS_MIN = 3
_ADDRESSES_MAX = 64  # Servers that a worker is told of; names may stand for the same one. Chosen.


class WorkerTierConfig(ClusterConfig):
    """What servers and workers of a worker tier share.

    Attributes:
        role: which of the two this process is.
        heartbeat_min_ttl: seconds; the shortest TTL that a worker is given.
        heartbeat_max_ttl: seconds; the longest.
        heartbeat_grace: seconds after the TTL before a silent worker is Unreachable.
        max_heartbeats_per_second: rate that the TTL is stretched for; 0 gives the longest TTL.
        failover_heartbeat_ttl: seconds that a new leader gives each worker at least.
        labels: what work is placed by.
    """

    mode: Literal["worker-tier"] = "worker-tier"
    role: Literal["server", "worker"]
    heartbeat_min_ttl: Seconds = 10
    heartbeat_max_ttl: Seconds = 600
    heartbeat_grace: SecondsOrZero = 10
    max_heartbeats_per_second: Rate = 50
    failover_heartbeat_ttl: Seconds = 300
    labels: LabelMap = Labels()

    @field_validator("heartbeat_max_ttl")
    @classmethod
    def _check_ttl_range(cls, value: int, info: ValidationInfo) -> int:
        low = info.data.get("heartbeat_min_ttl")
        if low is not None and low > value:
            raise wrong(
                f"{value} s is below heartbeat_min_ttl ({low} s)",
                f"at least {low} seconds",
                sibling="heartbeat_min_ttl",
            )
        return value

    def adaptive_ttl_config(self) -> AdaptiveTtlConfig:
        """How long workers may stay silent, as the core's own type."""
        from zlayer_native._bridge.lease import AdaptiveTtlConfig

        return AdaptiveTtlConfig(
            min_ttl_secs=self.heartbeat_min_ttl,
            max_ttl_secs=self.heartbeat_max_ttl,
            grace_secs=self.heartbeat_grace,
            max_heartbeats_per_second=self.max_heartbeats_per_second,
            failover_ttl_secs=self.failover_heartbeat_ttl,
        )


class WorkerTierServerConfig(WorkerTierConfig):
    """A server: votes, hands out certificates, keeps the leases.

    Attributes:
        node_id: this server's id; one of the peers has it.
        peers: every server, this one too: 3-7, or 1 for development. They form the cluster; once
            there are members, servers are added and removed by `zlayerd raft`.
        raft_bind: where this server listens for the others, when that is another address than its
            `raft_addr`. Port 0 takes a free one, and the others are told that.
        worker_grpc_addr: where this server listens for workers.
        worker_advertise: where workers are told to dial it, when that is another address than
            the one it listens on: behind NAT, or with a wildcard in `worker_grpc_addr`.
        worker_limits: what workers may take of the port.
        worker_ca_dir: the cluster's CA and keys; `<data_dir>/cluster/` unless set.
    """

    role: Literal["server"] = "server"
    node_id: ServerId
    peers: tuple[ServerPeer, ...]
    raft_bind: BindAddressOrNull = None
    worker_grpc_addr: BindAddress = "0.0.0.0:3670"
    worker_advertise: DialAddressOrNull = None
    worker_limits: WorkerLimits = WorkerLimits()
    worker_ca_dir: FilePath = Field(default_factory=lambda: default_data_dir() / "cluster")

    @field_validator("peers", mode="wrap")
    @classmethod
    def _check_peers(
        cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> Any:
        peers = check_peers(value, handler, info, limits=(1, _SERVERS_MAX))
        if 1 < len(peers) < _SERVERS_MIN:
            raise wrong(
                f"{len(peers)} servers stop when one of them does",
                f"{_SERVERS_MIN}..{_SERVERS_MAX}, or 1 for development",
            )
        return peers

    def is_worker_tier_server(self) -> bool:
        """True."""
        return True

    def below(self, data_dir: pathlib.Path) -> Self:
        """The same, with `worker_ca_dir` below `data_dir` unless it was set."""
        return self._with_default("worker_ca_dir", data_dir / "cluster")


class WorkerTierWorkerConfig(WorkerTierConfig):
    """A worker: enrols once, then keeps a session with one of the servers.

    Attributes:
        servers: `host:port` of servers to try, in turn. The connection is TLS in every case.
        token_file: holds the one-line token; not needed once the identity exists.
        identity_dir: cert.pem, key.pem, ca.pem; `<data_dir>/worker/identity/` unless set.
    """

    role: Literal["worker"] = "worker"
    servers: tuple[ServerAddress, ...]
    token_file: FilePathOrNull = None
    identity_dir: FilePath = Field(
        default_factory=lambda: default_data_dir() / "worker" / "identity"
    )

    @field_validator("servers", mode="wrap")
    @classmethod
    def _check_servers(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        if isinstance(value, list | tuple) and not 1 <= len(value) <= _ADDRESSES_MAX:
            raise wrong(f"{len(value)} servers", f"1..{_ADDRESSES_MAX} of host:port")
        servers: tuple[str, ...] = handler(value)
        again = [
            ((index,), wrong(f"{server} is listed twice", "each server once"))
            for index, server in enumerate(servers)
            if server in servers[:index]
        ]
        if again:
            raise many_wrong(again)
        return servers

    def is_worker_tier_worker(self) -> bool:
        """True."""
        return True

    def below(self, data_dir: pathlib.Path) -> Self:
        """The same, with `identity_dir` below `data_dir` unless it was set."""
        return self._with_default("identity_dir", data_dir / "worker" / "identity")
