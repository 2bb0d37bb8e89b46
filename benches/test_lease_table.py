"""The lease table from Python, beside what a Python program would write: a dict and a heap."""

from __future__ import annotations

import array
import heapq
import random

import pytest

from zlayer_native import LeaseTable

LEASES = 1_000_000
BATCH = 100_000


class DictHeap:
    """The usual Python lease table: deadlines in a dict, a heap that is cleaned lazily."""

    def __init__(self) -> None:
        self.deadlines: dict[int, int] = {}
        self.heap: list[tuple[int, int]] = []

    def grant(self, key: int, now_ms: int, window_ms: int) -> None:
        self.deadlines[key] = now_ms + window_ms
        heapq.heappush(self.heap, (now_ms + window_ms, key))

    def renew_many(self, keys: list[int], now_ms: int, window_ms: int) -> None:
        deadlines, heap = self.deadlines, self.heap
        deadline = now_ms + window_ms
        for key in keys:
            if key in deadlines:
                deadlines[key] = deadline
                heapq.heappush(heap, (deadline, key))


@pytest.fixture(scope="module")
def table_and_handles():
    table = LeaseTable(LEASES)
    handles = array.array("Q")
    handles.frombytes(table.grant_many(LEASES, now_ms=0, window_ms=30_000))
    order = list(range(LEASES))
    random.Random(1).shuffle(order)
    return table, array.array("Q", (handles[i] for i in order[:BATCH]))


def test_renew_many_rust(benchmark, table_and_handles):
    table, batch = table_and_handles
    stale = benchmark(table.renew_many, batch, now_ms=10, window_ms=30_000)
    assert stale == []


def test_renew_many_dict_and_heap(benchmark):
    table = DictHeap()
    for key in range(LEASES):
        table.grant(key, 0, 30_000)
    keys = random.Random(1).sample(range(LEASES), BATCH)

    def prepare():
        # Without this the heap would grow with every round and the comparison would flatter us.
        table.heap = [(deadline, key) for key, deadline in table.deadlines.items()]
        heapq.heapify(table.heap)
        return (keys, 10, 30_000), {}

    benchmark.pedantic(table.renew_many, setup=prepare, rounds=5)


def test_renew_many_dict_alone(benchmark):
    """The least that Python can do: write the deadline, find expiries by a full sweep later."""
    deadlines = dict.fromkeys(range(LEASES), 30_000)
    keys = random.Random(1).sample(range(LEASES), BATCH)

    def renew():
        for key in keys:
            if key in deadlines:
                deadlines[key] = 30_010

    benchmark(renew)


def test_renew_one_crossing(benchmark, table_and_handles):
    table, batch = table_and_handles
    handle = batch[0]
    benchmark(table.renew, handle, now_ms=10, window_ms=30_000)


def test_expire_ten_thousand(benchmark):
    def prepare():
        table = LeaseTable(10_000)
        table.grant_many(10_000, now_ms=0, window_ms=1_000)
        return (table,), {}

    def expire(table):
        return len(table.expire(now_ms=2_000, max=10_000))

    assert benchmark.pedantic(expire, setup=prepare, rounds=20) == 10_000
