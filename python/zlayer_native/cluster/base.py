"""`Cluster`: what every mode offers."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from zlayer_native.cluster.election import Term
from zlayer_native.cluster.events import EventsLost, NodeEvent
from zlayer_native.cluster.lock import Duration, Lock
from zlayer_native.cluster.model import LeaderInfo, Node
from zlayer_native.cluster.values import Values

if TYPE_CHECKING:
    from zlayer_native.config import ClusterConfig, Config


class Cluster(ABC):
    """This process as a part of its cluster. Belongs to one event loop.

    Attributes:
        mode: `single-node`, `raft` or `worker-tier`.
        node_id: of this process.
        values: the small replicated store.
    """

    mode: str
    node_id: int
    values: Values

    @staticmethod
    @contextlib.asynccontextmanager
    async def open(config: Config | ClusterConfig) -> AsyncIterator[Cluster]:
        """Runs this process's part of the cluster for as long as the block lasts.

        Args:
            config: all of it, or its `cluster` block alone: state is kept below the default folder
                then.

        Raises:
            NotSupported: this mode, or a worker's role, has no `Cluster`.
            IdentityError: the CA's files, or the data directory, can't be used.
            CoreError: a port or the control log can't be used.
        """
        from zlayer_native.cluster.open import opened

        cluster = await opened(config)
        try:
            yield cluster
        finally:
            await cluster.close()

    @abstractmethod
    def is_leader(self) -> bool:
        """Whether this process leads now.

        Another one may before you have acted on it: what must not be done twice shows a `fence`.
        """

    @abstractmethod
    async def leader(self) -> LeaderInfo | None:
        """Who leads, as far as this process knows; None while nobody does."""

    @abstractmethod
    async def nodes(self, selector: str = "", *, stale: bool = False) -> list[Node]:
        """The members, by id.

        Args:
            selector: such as `gpu=a100,zone in (eu-1,eu-2),!spot`; empty selects all.
            stale: what this process knows now, at once, rather than all that is acknowledged.

        Raises:
            ConfigError: the selector can't be read.
            NoLeader: no server leads, and the read is not a stale one.
        """

    @abstractmethod
    async def watch_nodes(
        self, selector: str = ""
    ) -> tuple[list[Node], AsyncIterator[NodeEvent | EventsLost]]:
        """The members, and whatever happens to them from then on: nothing in between is missing.

        A reader that is too slow is told so by one `EventsLost`: then ask for the nodes again.
        Raises as `nodes`.
        """

    @abstractmethod
    async def wait_ready(self, timeout: float | None = None) -> None:
        """Waits until somebody leads and this process has caught up with it.

        Args:
            timeout: seconds; None waits for ever.

        Raises:
            NoLeader: not in time; the message names the servers that do not answer.
        """

    @abstractmethod
    def lock(self, name: str, ttl: Duration = 30, wait: Duration | None = None) -> Lock:
        """A lock that one process at a time holds; its body is cancelled when it is lost.

        `async with cluster.lock("migrate", ttl=30, wait=5) as lock: …  # lock.fence`

        Args:
            name: of the lock; 1..256 bytes of printable ASCII.
            ttl: how long it stays taken when this process dies, 1 s to 1 h.
            wait: how long to wait while another one holds it; None: for ever.
        """

    @abstractmethod
    def elect(self, name: str, ttl: Duration = 15) -> AsyncIterator[Term]:
        """Terms in office, of which one process at a time has one.

        `async for term in cluster.elect("reports"): async with term: …  # term.fence`

        Yields each time that this process wins, and campaigns again after a loss, or when the body
        is through; leave the loop to stop. The body is cancelled when the office is lost.
        """

    @abstractmethod
    async def close(self) -> None:
        """Leaves in order. Again is no error."""
