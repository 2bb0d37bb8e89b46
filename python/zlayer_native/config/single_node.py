"""Mode `single-node`: this node alone. It always leads."""

from __future__ import annotations

from typing import Literal

from zlayer_native.config.cluster import ClusterConfig


class SingleNodeConfig(ClusterConfig):
    """One node, no peers, nothing to agree on. The default."""

    mode: Literal["single-node"] = "single-node"
