"""`LeaseTable` as a Python program meets it: values, errors, buffers, threads, fork."""

from __future__ import annotations

import array
import pickle
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlayer_native import AdaptiveTtlConfig, LeaseTable, ManualClock
from zlayer_native.errors import ConfigError, LeaseTableFull, StaleLease


@pytest.mark.parametrize(
    ("workers", "seconds"),
    [(0, 10), (10, 10), (100, 10), (500, 10), (1_000, 20), (10_000, 200), (100_000, 600)],
)
def test_ttl_of_the_contract(workers, seconds):
    assert AdaptiveTtlConfig().compute_ttl(workers) == seconds


@given(
    workers=st.integers(0, 2**63),
    rate=st.integers(0, 2**32 - 1),
    low=st.integers(1, 1000),
    high=st.integers(1000, 100_000),
)
def test_ttl_is_the_clamped_quotient(workers, rate, low, high):
    config = AdaptiveTtlConfig(min_ttl_secs=low, max_ttl_secs=high, max_heartbeats_per_second=rate)
    expected = high if rate == 0 else max(low, min(high, -(-workers // rate)))
    assert config.compute_ttl(workers) == expected


def test_ttl_config_is_a_value():
    config = AdaptiveTtlConfig(min_ttl_secs=15)
    assert config == AdaptiveTtlConfig(min_ttl_secs=15)
    assert config != AdaptiveTtlConfig()
    assert hash(config) == hash(AdaptiveTtlConfig(min_ttl_secs=15))
    assert pickle.loads(pickle.dumps(config)) == config
    assert "min_ttl_secs=15" in repr(config)


def test_ttl_config_refuses_min_above_max():
    with pytest.raises(ConfigError, match="min"):
        AdaptiveTtlConfig(min_ttl_secs=100, max_ttl_secs=10)


@pytest.mark.parametrize("workers", [-1, 2**64, "10", None, 1.5])
def test_s26_ttl_refuses_what_is_no_count(workers):
    with pytest.raises((OverflowError, TypeError)):
        AdaptiveTtlConfig().compute_ttl(workers)


def test_a_lease_lives_as_long_as_it_is_renewed():
    clock = ManualClock()
    table = LeaseTable()
    handle = table.grant(now_ms=clock.now_ms(), window_ms=1000)
    assert table.renew(handle, now_ms=clock.advance(900), window_ms=1000) == 1900
    assert table.expire(now_ms=clock.advance(900)) == []
    [expired] = table.expire(now_ms=clock.advance(200))
    assert (expired.handle, expired.deadline_ms, expired.overdue_ms) == (handle, 1900, 100)
    with pytest.raises(StaleLease) as caught:
        table.renew(handle, now_ms=clock.now_ms(), window_ms=1000)
    assert caught.value.handle == handle


def test_expiry_is_ordered_and_bounded():
    table = LeaseTable()
    handles = [table.grant(now_ms=0, window_ms=1000 - i) for i in range(10)]
    first = table.expire(now_ms=5000, max=4)
    rest = table.expire(now_ms=5000, max=100)
    assert [lease.handle for lease in first + rest] == handles[::-1]
    assert len(table) == 0


def test_renew_many_takes_arrays_and_bytes_and_names_the_stale():
    table = LeaseTable()
    raw = table.grant_many(3, now_ms=0, window_ms=1000)
    handles = array.array("Q")
    handles.frombytes(raw)
    table.revoke(handles[1])
    assert table.renew_many(handles, now_ms=10, window_ms=1000) == [handles[1]]
    assert table.renew_many(raw, now_ms=10, window_ms=1000) == [handles[1]]
    with pytest.raises(ValueError, match="8 bytes"):
        table.renew_many(raw[:-1], now_ms=10, window_ms=1000)


def test_a_full_table_says_so_and_grants_nothing():
    table = LeaseTable(4)
    table.grant(now_ms=0, window_ms=1000)
    with pytest.raises(LeaseTableFull, match="4"):
        table.grant_many(4, now_ms=0, window_ms=1000)
    assert len(table) == 1


def test_freeze_holds_every_expiry_and_thaw_gives_the_time_back():
    table = LeaseTable()
    handle = table.grant(now_ms=0, window_ms=1000)
    table.freeze(now_ms=500)
    assert table.expire(now_ms=10_000) == []
    table.thaw(now_ms=10_500)
    assert table.expire(now_ms=10_900) == []
    assert [lease.handle for lease in table.expire(now_ms=11_100)] == [handle]


@pytest.mark.parametrize("value", [-1, 2**64, "x", None, b"1", 1.5])
def test_s26_wrong_types_are_python_errors(value):
    table = LeaseTable()
    with pytest.raises((TypeError, OverflowError)):
        table.renew(value, now_ms=0, window_ms=1)
    with pytest.raises((TypeError, OverflowError)):
        table.grant(now_ms=value, window_ms=1)


def test_s26_threads_share_one_table():
    table = LeaseTable()
    handles = array.array("Q")
    handles.frombytes(table.grant_many(1000, now_ms=0, window_ms=10_000))
    stale: list[int] = []

    def renew(start: int) -> None:
        for step in range(200):
            stale.extend(table.renew_many(handles, now_ms=start + step, window_ms=10_000))

    threads = [threading.Thread(target=renew, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stale == []
    assert len(table) == 1000
