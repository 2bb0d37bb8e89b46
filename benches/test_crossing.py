"""What a crossing between Python and Rust costs, kind by kind."""

from __future__ import annotations

import array

from zlayer_native import LeaseTable, _native


def test_look(benchmark):
    benchmark(_native.version)


def test_look_with_state(benchmark):
    table = LeaseTable(10)
    handle = table.grant(now_ms=0, window_ms=1000)
    assert benchmark(table.deadline_ms, handle) == 1000


def test_batch_of_one(benchmark):
    table = LeaseTable(10)
    batch = array.array("Q", [table.grant(now_ms=0, window_ms=1000)])
    benchmark(table.renew_many, batch, now_ms=0, window_ms=1000)


def test_batch_of_a_thousand(benchmark):
    table = LeaseTable(1000)
    batch = array.array("Q")
    batch.frombytes(table.grant_many(1000, now_ms=0, window_ms=1000))
    benchmark(table.renew_many, batch, now_ms=0, window_ms=1000)
