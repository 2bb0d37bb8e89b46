"""Mode `raft`: nodes that agree through Raft; no workers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ValidationInfo, ValidatorFunctionWrapHandler, field_validator

from zlayer_native.config.cluster import ClusterConfig
from zlayer_native.config.fields import BindAddressOrNull, PeerId
from zlayer_native.config.peers import RaftPeer, check_peers

#: Every write waits for a majority of disks; nobody gains from more voters than this. Chosen.
_VOTERS_MAX = 99


class RaftConfig(ClusterConfig):
    """Voters that elect a leader and replicate a log.

    Attributes:
        node_id: this node's id; one of the peers has it.
        peers: every voter, this one too.
        raft_bind: where this node listens for the others, when that is another address than its
            `raft_addr`. Port 0 takes a free one, and the others are told that.
    """

    mode: Literal["raft"] = "raft"
    node_id: PeerId
    peers: tuple[RaftPeer, ...]
    raft_bind: BindAddressOrNull = None

    @field_validator("peers", mode="wrap")
    @classmethod
    def _check_peers(
        cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> Any:
        return check_peers(value, handler, info, limits=(1, _VOTERS_MAX))
