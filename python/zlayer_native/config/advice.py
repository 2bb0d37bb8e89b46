"""What works, and will hurt later: never an error, always a reason and a figure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from zlayer_native.config.cluster import ClusterConfig
from zlayer_native.config.document import Config
from zlayer_native.config.origins import DEFAULT, Origin, Path, dotted
from zlayer_native.config.problems import Advice
from zlayer_native.config.raft import RaftConfig
from zlayer_native.config.static import StaticConfig
from zlayer_native.config.worker_tier import WorkerTierConfig, WorkerTierServerConfig

#: Seconds that a worker waits for an ack before it says the same over a new connection.
_ACK_TIMEOUT_SECS = 2


def advise(config: Config, origin_of: Callable[[Path], Origin] = lambda _: DEFAULT) -> list[Advice]:
    """The advice for a configuration.

    Args:
        config: a valid one.
        origin_of: the origin of a value; `Resolved.origin_of`.
    """
    found = _cluster(config.cluster)
    return [Advice(dotted(path), text, origin_of(path)) for path, text in found]


def failover_limit(cluster: WorkerTierConfig) -> tuple[int, int] | None:
    """From which fleet on `failover_heartbeat_ttl` is shorter than what a worker may hold.

    Returns the smallest number of workers with `compute_ttl(n) + heartbeat_grace` above it, and
    that sum in seconds; None when no fleet is so large. Not asked of the core, which need not be
    loaded to read a configuration.
    """
    longest = cluster.failover_heartbeat_ttl - cluster.heartbeat_grace
    rate, grace = cluster.max_heartbeats_per_second, cluster.heartbeat_grace
    if cluster.heartbeat_max_ttl <= longest:
        return None
    if rate == 0:
        return 1, cluster.heartbeat_max_ttl + grace
    if cluster.heartbeat_min_ttl > longest:
        return 1, cluster.heartbeat_min_ttl + grace
    return longest * rate + 1, longest + 1 + grace


def _cluster(cluster: ClusterConfig) -> Iterator[tuple[Path, str]]:
    if isinstance(cluster, RaftConfig | WorkerTierServerConfig):
        yield from _voters(len(cluster.peers))
    if isinstance(cluster, WorkerTierServerConfig):
        yield from _leases(cluster)
    if isinstance(cluster, StaticConfig):
        yield from _probes(cluster)


def _voters(count: int) -> Iterator[tuple[Path, str]]:
    if count % 2 == 0:
        lost = count // 2 - 1
        yield (
            ("cluster", "peers"),
            f"{count} voters survive the loss of {lost}, as {count - 1} do: use an odd number",
        )


def _leases(cluster: WorkerTierServerConfig) -> Iterator[tuple[Path, str]]:
    limit = failover_limit(cluster)
    if limit is not None:
        workers, held = limit
        count = "1 worker" if workers == 1 else f"{workers:,} workers"
        yield (
            ("cluster", "failover_heartbeat_ttl"),
            f"{cluster.failover_heartbeat_ttl} s is too short from {count} on: each may hold its"
            f" lease for {held} s (TTL and grace), and a new leader will go by that instead",
        )
    if cluster.max_heartbeats_per_second == 0:
        silent = cluster.heartbeat_max_ttl + cluster.heartbeat_grace
        yield (
            ("cluster", "max_heartbeats_per_second"),
            f"0 gives every worker the longest TTL: a silent one is noticed after {silent} s",
        )
    if cluster.heartbeat_grace <= _ACK_TIMEOUT_SECS:
        yield (
            ("cluster", "heartbeat_grace"),
            f"{cluster.heartbeat_grace} s: a beat whose ack is lost is repeated after"
            f" {_ACK_TIMEOUT_SECS} s, which is too late for its lease",
        )


def _probes(cluster: StaticConfig) -> Iterator[tuple[Path, str]]:
    if cluster.failure_threshold < 2 * cluster.heartbeat_interval:
        yield (
            ("cluster", "failure_threshold"),
            f"{cluster.failure_threshold} s: one lost probe makes a healthy peer fail; use at least"
            f" {2 * cluster.heartbeat_interval} s",
        )
