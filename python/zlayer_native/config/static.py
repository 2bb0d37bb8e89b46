"""Mode `static`: a fixed list of nodes that probe each other; the lowest healthy id leads."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ValidationInfo, ValidatorFunctionWrapHandler, field_validator

from zlayer_native.config.cluster import ClusterConfig
from zlayer_native.config.fields import PeerId, Seconds
from zlayer_native.config.model import wrong
from zlayer_native.config.peers import StaticPeer, check_peers

#: Each node probes each other one: 1,000 nodes at 5 s are 200,000 probes a second in all. Chosen.
_NODES_MAX = 1_000


class StaticConfig(ClusterConfig):
    """Nodes without a log.

    Attributes:
        node_id: this node's id; one of the peers has it.
        peers: every node, this one too.
        heartbeat_interval: seconds between two probes of a peer.
        failure_threshold: seconds without an answer after which a peer counts as failed.
    """

    mode: Literal["static"] = "static"
    node_id: PeerId
    peers: tuple[StaticPeer, ...]
    heartbeat_interval: Seconds = 5
    failure_threshold: Seconds = 15

    @field_validator("peers", mode="wrap")
    @classmethod
    def _check_peers(
        cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> Any:
        return check_peers(value, handler, info, limits=(1, _NODES_MAX))

    @field_validator("failure_threshold")
    @classmethod
    def _check_threshold(cls, value: int, info: ValidationInfo) -> int:
        interval = info.data.get("heartbeat_interval")
        if interval is not None and value <= interval:
            raise wrong(
                f"{value} s is not above heartbeat_interval ({interval} s), so healthy peers fail",
                f"more than {interval} seconds",
                sibling="heartbeat_interval",
            )
        return value
