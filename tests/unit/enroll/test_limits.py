"""Token buckets against what they promise; time is a number."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from zlayer_native.enroll.limits import Bucket, Buckets


def test_a_burst_then_the_rate() -> None:
    bucket = Bucket(2.0, 3.0)
    assert [bucket.take(0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bucket.take(0.4) > 0
    assert bucket.take(0.5) == 0.0
    assert bucket.take(0.5) == 0.5
    assert [bucket.take(100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_time_that_goes_back_gives_nothing() -> None:
    bucket = Bucket(1.0, 1.0)
    assert bucket.take(10.0) == 0.0
    assert bucket.take(5.0) > 0.0
    assert bucket.take(5.5) > 0.0


@settings(deadline=None)
@given(
    per_second=st.floats(0.1, 1000),
    burst=st.integers(1, 50),
    steps=st.lists(st.floats(0, 0.5), max_size=200),
)
def test_never_more_than_burst_and_rate(per_second: float, burst: int, steps: list[float]) -> None:
    bucket, now, taken = Bucket(per_second, burst), 0.0, 0
    for step in steps:
        now += step
        taken += bucket.take(now) == 0.0
        assert taken <= burst + per_second * now + 1e-6


def test_keys_do_not_share_and_the_oldest_is_forgotten() -> None:
    buckets = Buckets(1.0, 1.0, keys_max=2)
    assert buckets.take(1, 0.0) == 0.0
    assert buckets.take(1, 0.0) > 0.0
    assert buckets.take(2, 0.0) == 0.0
    assert buckets.take(1, 0.0) > 0.0
    assert buckets.take(3, 0.0) == 0.0
    # 2 was used longest ago, so it made room.
    assert buckets.take(1, 0.0) > 0.0
    assert buckets.take(2, 0.0) == 0.0
