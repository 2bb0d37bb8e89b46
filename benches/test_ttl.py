"""AdaptiveTtlConfig: one call from Python into Rust and back."""

from __future__ import annotations

from zlayer_native import AdaptiveTtlConfig


def _python_ttl(n: int, rate: int = 50, low: int = 10, high: int = 600) -> int:
    return max(low, min(high, -(-n // rate)))


def test_compute_ttl(benchmark):
    config = AdaptiveTtlConfig()
    assert benchmark(config.compute_ttl, 10_000) == 200


def test_compute_ttl_in_python_for_comparison(benchmark):
    assert benchmark(_python_ttl, 10_000) == 200


def test_make_config(benchmark):
    assert benchmark(AdaptiveTtlConfig).max_ttl_secs == 600
