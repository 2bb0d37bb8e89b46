"""What benchmarks reckon with."""

from __future__ import annotations

from pathlib import Path

import pytest

from zlayer_native.cli.figures import fdatasync_us, quantile
from zlayer_native.cli.raft_bench import failover_figures, text


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 10), (0.51, 11), (0.95, 19), (0.99, 20), (1.0, 20)]
)
def test_a_quantile_is_a_value_that_was_seen(share: float, expected: int) -> None:
    assert quantile([*range(20, 0, -1)], share) == expected


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.5), ([1.0], -0.1)])
def test_no_quantile_of_nothing(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="no quantile"):
        quantile(values, share)


def test_one_value_is_all_its_quantiles() -> None:
    figures = failover_figures([0.4321])
    assert (figures["p50_s"], figures["p99_s"], figures["max_s"]) == (0.432, 0.432, 0.432)


def test_the_disk_is_asked_in_the_folder_and_nothing_stays(tmp_path: Path) -> None:
    times = fdatasync_us(tmp_path, count=20)
    assert 0 < times["p50"] <= times["p99"]
    assert list(tmp_path.iterdir()) == []


def test_the_table_for_people() -> None:
    load = {
        "in_flight": 64,
        "commits_per_second": 12345.6,
        "p50_ms": 1.234,
        "p99_ms": 5.678,
        "cpu_seconds_per_1000": 0.1234,
    }
    report = {"loads": [load], "fdatasync_us": {"p50": 99.6}, "failover": None}
    head, row, disk = text(report).splitlines()
    assert " ".join(head.split()) == "in flight commits/s p50 ms p99 ms CPU-s per 1,000"
    assert row.split() == ["64", "12346", "1.23", "5.68", "0.123"]
    assert disk == "one fdatasync of this disk: 100 us"
    report["failover"] = failover_figures([0.3, 0.5])
    assert text(report).endswith("leader killed 2 times, writes again after p50 0.30 s, p99 0.50 s")
