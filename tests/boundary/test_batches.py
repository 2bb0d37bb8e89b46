"""Batches let the GIL go: threads renew at the same time, and everybody else runs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from zlayer_native import LeaseTable

COUNT = 1_000_000


@pytest.fixture(scope="module")
def table() -> LeaseTable:
    return LeaseTable(COUNT)


@pytest.fixture(scope="module")
def handles(table: LeaseTable) -> bytes:
    return table.grant_many(COUNT, now_ms=0, window_ms=1000)


@pytest.fixture
def no_switches() -> Iterator[None]:
    """A thread gives the GIL away by its own will only."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.usefixtures("no_switches")
def test_four_threads_are_in_a_batch_at_once(table: LeaseTable, handles: bytes) -> None:
    inside = [False] * 4
    ready, most = threading.Barrier(5), 0
    stop = False

    def renew(index: int) -> None:
        ready.wait()
        while not stop:
            inside[index] = True
            assert table.renew_many(handles, now_ms=1, window_ms=1000) == []
            inside[index] = False

    threads = [threading.Thread(target=renew, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    ready.wait()
    pause = threading.Event()
    for _ in range(2000):
        pause.wait(0.001)  # Gives the GIL away; it comes back while the others are in their call.
        most = max(most, sum(inside))
        if most == 4:
            break
    stop = True
    for thread in threads:
        thread.join()
    assert most == 4


@pytest.mark.usefixtures("no_switches")
def test_a_batch_holds_up_no_other_thread(table: LeaseTable, handles: bytes) -> None:
    """The one that waits wakes while the call runs, not when it has ended."""
    inside, saw_inside = False, []
    for _ in range(20):
        begin = threading.Event()

        def renew(begin: threading.Event = begin) -> None:
            nonlocal inside
            inside = True
            begin.set()
            table.renew_many(handles, now_ms=1, window_ms=1000)
            inside = False

        thread = threading.Thread(target=renew)
        thread.start()
        begin.wait()
        saw_inside.append(inside)
        thread.join()
    assert any(saw_inside)


def test_batches_of_many_threads_name_the_stale_and_only_them() -> None:
    table = LeaseTable(4000)
    shares = [table.grant_many(1000, now_ms=0, window_ms=1000) for _ in range(4)]
    revoked = [share[:8] for share in shares]
    for handle in revoked:
        table.revoke(int.from_bytes(handle, sys.byteorder))
    found: list[list[int]] = [[] for _ in shares]

    def renew(index: int) -> None:
        for step in range(100):
            stale = table.renew_many(shares[index], now_ms=step, window_ms=1000)
            found[index].append(stale == [int.from_bytes(revoked[index], sys.byteorder)])

    threads = [threading.Thread(target=renew, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(share) == 100 and all(share) for share in found)
    assert len(table) == 4000 - 4
    assert table.stats()["revoked"] == 4
