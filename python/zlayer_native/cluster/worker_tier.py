"""A server of a worker tier: core, enrolment, and certificates that stay new.

Started from the inside out, so that nothing is reachable before what it needs; stopped in reverse.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from zlayer_native._bridge.server import Server
from zlayer_native.cluster import parts
from zlayer_native.cluster.core import CoreCluster
from zlayer_native.cluster.formation import form_alone, note_address, raft_options
from zlayer_native.config import Config, WorkerTierServerConfig
from zlayer_native.enroll.join_server import Joined
from zlayer_native.enroll.records import CoreRecords
from zlayer_native.enroll.serve import serve as serve_enrollment
from zlayer_native.enroll.service import EnrollmentService, LeaseTerms
from zlayer_native.identity import files
from zlayer_native.identity.server_certificates import ServerCertificates

#: Seconds for sessions to be told goodbye and the log to be flushed.
_STOP_SECS = 5.0


class WorkerTierServer(CoreCluster):
    """One server. Made with `start`."""

    @classmethod
    async def start(
        cls, config: Config, cluster: WorkerTierServerConfig, *, api_addr: str | None = None
    ) -> WorkerTierServer:
        """Starts a server; it answers workers when this returns.

        Args:
            config: all of it.
            cluster: its `cluster` block.
            api_addr: `host:port` of its HTTP API, where that is not as `peers` says.

        Raises:
            IdentityError: the CA's files, or the data directory, can't be used.
            CoreError: the worker port or the control log can't be used.
            NoLeader: it is alone and does not lead after some seconds.
        """
        parts.allow_many_files()
        files.make_private_dir(config.data_dir)
        authority = parts.open_authority(cluster.worker_ca_dir, len(cluster.peers))
        certificates = ServerCertificates(authority, cluster.worker_ca_dir, cluster.node_id)
        raft = raft_options(cluster, api_addr)
        async with contextlib.AsyncExitStack() as exits:
            core = await parts.start_core(
                {
                    **parts.core_options(
                        config.data_dir,
                        cluster.node_id,
                        authority,
                        certificates,
                        cluster.adaptive_ttl_config(),
                        listen=cluster.worker_grpc_addr,
                    ),
                    "limits": cluster.worker_limits.model_dump(),
                    "raft": raft,
                }
            )
            exits.push_async_callback(core.stop, _STOP_SECS)
            own = {
                "id": cluster.node_id,
                "raft_addr": raft["advertise"] or core.raft_address,
                "api_addr": raft["api_addr"],
            }
            if not raft["members"] and Joined.read(cluster.worker_ca_dir) is None:
                await form_alone(core, own)
            service = EnrollmentService(
                authority,
                CoreRecords(core),
                _lease_terms(core, cluster),
                raft_addresses=lambda: [item["raft_addr"] for item in core.members()["items"]],
            )
            socket = parts.join_socket(config.data_dir)
            enrollment = await serve_enrollment(socket, service, certificates.join)
            exits.push_async_callback(enrollment.stop)
            await exits.enter_async_context(
                parts.running(parts.rotate(core, authority, certificates), note_address(core, own))
            )
            return cls("worker-tier", cluster.node_id, core, exits.pop_all(), authority)


def _lease_terms(core: Server, cluster: WorkerTierServerConfig) -> Callable[[], LeaseTerms]:
    ttl = cluster.adaptive_ttl_config()

    def terms() -> LeaseTerms:
        members = int(core.metrics()["members"])
        return LeaseTerms(ttl.compute_ttl(members + 1), cluster.heartbeat_grace)

    return terms
