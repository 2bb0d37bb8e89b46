"""A server that joins, or has joined: which one it is comes from the cluster, not from a file."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zlayer_native.cli.peers import api_address
from zlayer_native.cli.settings import is_chosen
from zlayer_native.config.addresses import is_wildcard, parse_dial, split
from zlayer_native.config.peers import ServerPeer
from zlayer_native.enroll.join_server import Joined, Place, join_server
from zlayer_native.errors import ConfigError

if TYPE_CHECKING:
    from zlayer_native.config import Config, WorkerTierServerConfig
    from zlayer_native.config.load import Resolved


def as_joined(found: Resolved, cluster: WorkerTierServerConfig) -> Config:
    """The configuration of a server, with the id and the addresses that it joined with.

    A server that has not joined keeps its own. Addresses that were configured win: the cluster is
    told of them.

    Raises:
        ConfigError: the configuration says that it is another server.
        IdentityError: what it wrote down when it joined can't be read.
    """
    joined = Joined.read(cluster.worker_ca_dir)
    if joined is None:
        return found.config
    if not is_chosen(found, "cluster", "node_id"):
        peer = ServerPeer(id=joined.node_id, raft_addr=joined.raft_addr, api_addr=joined.api_addr)
        update = {"node_id": joined.node_id, "peers": (peer,)}
        return found.config.model_copy(update={"cluster": cluster.model_copy(update=update)})
    if joined.node_id != cluster.node_id:
        raise ConfigError(
            f"cluster.node_id: {cluster.node_id}, and this server joined as {joined.node_id}"
            f" ({cluster.worker_ca_dir}); set that, or use another data_dir"
        )
    return found.config


def join(
    found: Resolved,
    cluster: WorkerTierServerConfig,
    *,
    token_file: str,
    servers: Sequence[str],
) -> None:
    """Joins a cluster; what follows is an ordinary start. Does nothing where it has joined already.

    Raises:
        ConfigError: an address is missing, or one that others can't dial.
        TokenInvalid, IdentityError, EnrollmentError: as `join_server`.
    """
    if Joined.read(cluster.worker_ca_dir) is not None:
        return
    from zlayer_native.identity.token_file import read_token_file

    if not servers:
        raise ConfigError("--join needs --server HOST:PORT: the worker port of a server")
    line = read_token_file(Path(token_file))
    place = _place(found.config, cluster, is_numbered=is_chosen(found, "cluster", "node_id"))
    asyncio.run(join_server(servers, line, cluster.worker_ca_dir, place))


def _place(config: Config, cluster: WorkerTierServerConfig, *, is_numbered: bool) -> Place:
    own = next(peer for peer in cluster.peers if peer.id == cluster.node_id)
    if cluster.raft_bind and split(cluster.raft_bind)[1] == 0:
        raise ConfigError("--raft: a server that joins needs a port that the others know: not 0")
    api_addr = api_address(config, config.http.bind)
    try:
        parse_dial(api_addr)
    except ValueError as error:
        raise ConfigError(f"http.advertise, or --http: {error}") from None
    return Place(
        name=config.name or "",
        node_id=cluster.node_id if is_numbered else 0,
        raft_addr=own.raft_addr,
        api_addr=api_addr if not is_wildcard(split(api_addr)[0]) else own.api_addr,
    )
