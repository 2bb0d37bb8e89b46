"""How a server finds the others: what the core is told, and the cluster of one that it can form.

A server that is alone is a cluster of one voter, so that it grows to three while it runs. Several
form their cluster by themselves, from the same list on each. Once there are members the list is of
no effect but for this server's own address: who belongs is in the log.
"""

from __future__ import annotations

import asyncio
import platform
from typing import Any

import structlog

from zlayer_native._bridge.server import Server
from zlayer_native.config import Config, WorkerTierServerConfig
from zlayer_native.config.addresses import is_wildcard, split
from zlayer_native.errors import NoLeader, OutcomeUnknown, ServersUnchanged, ZLayerError

#: Seconds for a server that is alone to elect itself. Chosen: some ten times what it takes.
_ALONE_SECS = 10.0
#: Seconds between two tries.
_RETRY_SECS = 0.05
#: The same, for noting an address: it waits for other servers to be up.
_NOTE_RETRY_SECS = 1.0

_log = structlog.get_logger("zlayer.server")


def reachable(listening: str) -> str:
    """An address to listen on, as others may dial it."""
    host, port = split(listening)
    return f"{platform.node() or 'localhost'}:{port}" if is_wildcard(host) else listening


def api_address(config: Config, listening: str) -> str:
    """`host:port` of this server's HTTP API, for others."""
    return str(config.http.advertise or reachable(listening))


def raft_options(cluster: WorkerTierServerConfig, api_addr: str) -> dict[str, Any]:
    """`zlayer_node::RaftOptions` as a dict."""
    own = next(peer for peer in cluster.peers if peer.id == cluster.node_id)
    listen = cluster.raft_bind or own.raft_addr
    takes_any_port = split(listen)[1] == 0
    several = len(cluster.peers) > 1
    members = [
        {"id": peer.id, "raft_addr": peer.raft_addr, "api_addr": peer.api_addr}
        for peer in cluster.peers
        if several
    ]
    return {
        "listen": listen,
        "advertise": "" if takes_any_port else own.raft_addr,
        "api_addr": own.api_addr if several else api_addr,
        "members": members,
    }


def has_leader(core: Server) -> bool:
    """Whether this server leads, or hears the one that does."""
    return bool(core.metrics()["raft_leader"])


async def form_alone(core: Server, own: dict[str, Any]) -> None:
    """Makes this server a cluster of one, unless it belongs to one; waits until it leads then.

    Args:
        core: that was started without a list of members.
        own: `id`, `raft_addr` and `api_addr` of this server.

    Raises:
        NoLeader: it does not lead after some seconds.
    """
    if not core.members()["items"]:
        await core.ask({"form": {"members": [own]}})
    if [member["id"] for member in core.members()["items"]] != [own["id"]]:
        return  # The others have a say in it.
    deadline = asyncio.get_running_loop().time() + _ALONE_SECS
    while True:
        try:
            await core.settle()
            return
        except NoLeader:
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(_RETRY_SECS)


async def note_address(core: Server, own: dict[str, Any]) -> None:
    """Tells the cluster where this server is now, where that has changed. Tries until it is known.

    Args:
        core: a running one.
        own: as of `form_alone`.
    """
    while True:
        known = {member["id"]: member for member in core.members()["items"]}
        noted = known.get(own["id"])
        if noted is not None:
            if all(noted[key] == own[key] for key in ("raft_addr", "api_addr")):
                return
            try:
                await core.ask({"move": own})
                _log.info("the cluster knows this server's new address", **own)
            except (NoLeader, OutcomeUnknown, ServersUnchanged):
                pass  # Looked at again below.
            except ZLayerError as error:
                _log.error("this server's address can't be noted", why=str(error))
                return
        await asyncio.sleep(_NOTE_RETRY_SECS)
