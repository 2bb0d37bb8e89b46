"""Modes `single-node` and `raft`: servers without workers, each of them a node itself.

That a server is a node is nothing special: it opens a session to its own port, with a worker's
certificate for its own id, and is alive as long as its leader hears of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Mapping
from typing import Any

import structlog

import zlayer_native
from zlayer_native._bridge.lease import AdaptiveTtlConfig
from zlayer_native._bridge.server import Server
from zlayer_native._bridge.session import Session
from zlayer_native.cluster import parts
from zlayer_native.cluster.core import CoreCluster
from zlayer_native.cluster.formation import form_alone, note_address, raft_options
from zlayer_native.config import Config, RaftConfig
from zlayer_native.config.fields import SERVER_ID_MAX
from zlayer_native.errors import ConfigError, NoLeader, OutcomeUnknown, Overloaded
from zlayer_native.identity import profiles
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.keypair import KeyPair
from zlayer_native.identity.keys import new_key
from zlayer_native.identity.server_certificates import ServerCertificates

_STOP_SECS = 5.0
_LEAVE_SECS = 1.0
_RETRY_SECS = 0.1
#: A certificate for its own session is made anew so long before its end.
_RENEW_BEFORE = profiles.WORKER_LIFE / 2

#: The one port that there is for sessions is this process's own business.
_OWN_PORT = "127.0.0.1:0"
_SINGLE_ID = 1

#: How long a server may stay silent as a node: there are few, each with a session to itself. The
#: death of a leader is noticed by the next one within that, too.
_TTL = AdaptiveTtlConfig(min_ttl_secs=5, max_ttl_secs=5, grace_secs=5, failover_ttl_secs=10)

_log = structlog.get_logger("zlayer.cluster")


async def start_single_node(config: Config) -> CoreCluster:
    """Mode `single-node`: its own leader, with a log of its own. Raises as `Cluster.open`."""
    return await _start(config, "single-node", _SINGLE_ID, {}, None)


async def start_raft(config: Config, cluster: RaftConfig) -> CoreCluster:
    """Mode `raft`: one of the peers. Raises as `Cluster.open`."""
    for peer in cluster.peers:
        if peer.id > SERVER_ID_MAX:
            raise ConfigError(f"cluster.peers: id {peer.id}: a server's id is 1..{SERVER_ID_MAX}")
    raft = raft_options(cluster, None)
    return await _start(config, "raft", cluster.node_id, {"raft": raft}, raft)


async def _start(
    config: Config,
    mode: str,
    node_id: int,
    more: Mapping[str, Any],
    raft: Mapping[str, Any] | None,
) -> CoreCluster:
    folder = config.data_dir / "cluster"
    authority = parts.open_authority(folder, len(raft["members"]) if raft else 1)
    certificates = ServerCertificates(authority, folder, node_id)
    options = parts.core_options(
        config.data_dir, node_id, authority, certificates, _TTL, listen=_OWN_PORT
    )
    async with contextlib.AsyncExitStack() as exits:
        core = await parts.start_core({**options, **more})
        exits.push_async_callback(core.stop, _STOP_SECS)
        works: list[Any] = [parts.rotate(core, authority, certificates)]
        if raft is not None:
            own = {
                "id": node_id,
                "raft_addr": raft["advertise"] or core.raft_address,
                "api_addr": raft["api_addr"],
            }
            if not raft["members"]:
                await form_alone(core, own)
            works.append(note_address(core, own))
        works.append(_be_a_node(core, authority, node_id, config.name))
        await exits.enter_async_context(parts.running(*works))
        return CoreCluster(mode, node_id, core, exits.pop_all(), authority)


async def _be_a_node(core: Server, authority: Authority, node_id: int, name: str) -> None:
    """Joins as a node once somebody leads, and keeps a session until it is cancelled."""
    while True:
        try:
            await core.propose({"type": "join_peer", "id": node_id, "name": name, "labels": {}})
            break
        except (NoLeader, OutcomeUnknown, Overloaded):
            await asyncio.sleep(_RETRY_SECS)
    pair = _own_certificate(authority, node_id)
    session = Session.start(
        {
            "cluster_id": authority.cluster_id,
            "servers": [core.address],
            "node_id": node_id,
            "certificate_pem": pair.cert_pem,
            "key_pem": pair.key_pem,
            "ca_pem": authority.ca_pem,
            "incarnation": secrets.randbits(63) | 1,
            "version": str(zlayer_native.__version__),
        }
    )
    try:
        await asyncio.gather(_listen(session), _renew(session, authority, node_id, pair))
    finally:
        await session.leave(_LEAVE_SECS)
        session.stop()


async def _listen(session: Session) -> None:
    while True:
        event = await session.next_event()
        _log.debug("own session", **{key: value for key, value in event.items() if key != "event"})


async def _renew(session: Session, authority: Authority, node_id: int, pair: KeyPair) -> None:
    while True:
        await asyncio.sleep((profiles.WORKER_LIFE - _RENEW_BEFORE).total_seconds())
        pair = _own_certificate(authority, node_id)
        session.set_identity(pair.cert_pem, pair.key_pem, authority.ca_pem)


def _own_certificate(authority: Authority, node_id: int) -> KeyPair:
    key = new_key()
    certificate = authority.sign_worker(
        node_id,
        key.public_key(),
        serial=profiles.new_serial(),
        not_after=authority.worker_not_after(),
    )
    return KeyPair.of(key, certificate)
