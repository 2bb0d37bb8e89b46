"""The same cluster for code without asyncio: `with blocking.Cluster.open(config) as cluster: …`.

An event loop in a thread of its own does what `zlayer_native.Cluster` does; calls wait for it. A
body can't be cancelled from another thread, so a lock says by itself whether it is held still:
`lock.lost` is an event to look at, and leaving the block raises `LockLost` where it was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from zlayer_native.cluster.base import Cluster as AsyncCluster
from zlayer_native.cluster.events import EventsLost, NodeEvent
from zlayer_native.cluster.lock import Duration
from zlayer_native.cluster.lock import Lock as AsyncLock
from zlayer_native.cluster.model import LeaderInfo, Node
from zlayer_native.cluster.values import Entry
from zlayer_native.errors import LockLost

if TYPE_CHECKING:
    from zlayer_native.config import ClusterConfig, Config

_T = TypeVar("_T")


class _Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="zlayer-cluster", daemon=True
        )
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Waits for `work`; an interrupt of the waiting thread cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def end(self) -> None:
        """Ends the loop."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Lock:
    """A lock that is held.

    Attributes:
        name: which.
        fence: of this holding; grows from holder to holder.
        lost: set when it could not be kept: stop what it protects.
    """

    def __init__(self, lock: AsyncLock) -> None:
        self.name = lock.name
        self.fence = lock.fence
        self.lost = threading.Event()


class Values:
    """See `zlayer_native.cluster.Values`."""

    def __init__(self, cluster: AsyncCluster, loop: _Loop) -> None:
        self._values = cluster.values
        self._loop = loop

    def get(self, key: str, *, stale: bool = False) -> Entry | None:
        """The entry of a key; None where there is none."""
        return self._loop.run(self._values.get(key, stale=stale))

    def put(self, key: str, value: bytes | str, *, if_revision: int | None = None) -> int:
        """Writes; returns the new revision."""
        return self._loop.run(self._values.put(key, value, if_revision=if_revision))

    def delete(self, key: str, *, if_revision: int | None = None) -> int:
        """Deletes a key; returns the revision that it had."""
        return self._loop.run(self._values.delete(key, if_revision=if_revision))

    def items(self, prefix: str = "", *, stale: bool = False) -> Iterator[Entry]:
        """The entries whose keys begin so, in order."""
        return _each(self._loop, self._values.items(prefix, stale=stale))


class Cluster:
    """See `zlayer_native.Cluster`; any thread may call."""

    def __init__(self, cluster: AsyncCluster, loop: _Loop) -> None:
        self._cluster = cluster
        self._loop = loop
        self.mode = cluster.mode
        self.node_id = cluster.node_id
        self.values = Values(cluster, loop)

    @staticmethod
    @contextlib.contextmanager
    def open(config: Config | ClusterConfig) -> Iterator[Cluster]:
        """Runs this process's part of the cluster for as long as the block lasts."""
        loop = _Loop()
        try:
            context = AsyncCluster.open(config)
            cluster = loop.run(context.__aenter__())
            try:
                yield Cluster(cluster, loop)
            finally:
                loop.run(context.__aexit__(None, None, None))
        finally:
            loop.end()

    def is_leader(self) -> bool:
        """Whether this process leads now."""
        return self._cluster.is_leader()

    def leader(self) -> LeaderInfo | None:
        """Who leads, as far as this process knows."""
        return self._loop.run(self._cluster.leader())

    def nodes(self, selector: str = "", *, stale: bool = False) -> list[Node]:
        """The members, by id."""
        return self._loop.run(self._cluster.nodes(selector, stale=stale))

    def watch_nodes(
        self, selector: str = ""
    ) -> tuple[list[Node], Iterator[NodeEvent | EventsLost]]:
        """The members, and whatever happens to them from then on."""
        nodes, events = self._loop.run(self._cluster.watch_nodes(selector))
        return nodes, _each(self._loop, events)

    def wait_ready(self, timeout: float | None = None) -> None:
        """Waits until somebody leads and this process has caught up with it."""
        self._loop.run(self._cluster.wait_ready(timeout))

    @contextlib.contextmanager
    def lock(self, name: str, ttl: Duration = 30, wait: Duration | None = None) -> Iterator[Lock]:
        """Holds a lock for as long as the block lasts.

        Raises:
            LockTimeout: another one held it all the time.
            LockLost: at the end of the block, where it was lost meanwhile.
        """
        lock = self._cluster.lock(name, ttl, wait)
        self._loop.run(lock.acquire())
        held = Lock(lock)
        watch = self._loop.run(_watching(lock, held))
        try:
            yield held
        except BaseException:
            with contextlib.suppress(LockLost):  # What the body raises says more.
                self._loop.run(_end(lock, watch))
            raise
        self._loop.run(_end(lock, watch))

    def elect(self, name: str, ttl: Duration = 15) -> Iterator[Lock]:
        """Terms in office, one after another, of which one process at a time has one.

        `for term in cluster.elect("reports"): while not term.lost.is_set(): …  # term.fence`

        The office is given up when the next one is asked for, or the loop is left.
        """
        while True:
            with contextlib.suppress(LockLost), self.lock(f"elect/{name}", ttl) as term:
                yield term


async def _watching(lock: AsyncLock, held: Lock) -> asyncio.Task[None]:
    async def watch() -> None:
        if await lock.ended() is not None:
            held.lost.set()

    return asyncio.create_task(watch())


async def _end(lock: AsyncLock, watch: asyncio.Task[None]) -> None:
    try:
        await lock.release()
    finally:
        watch.cancel()


def _each(loop: _Loop, items: AsyncIterator[_T]) -> Iterator[_T]:
    async def step() -> _T:
        return await anext(items)

    with contextlib.suppress(StopAsyncIteration):
        while True:
            yield loop.run(step())
