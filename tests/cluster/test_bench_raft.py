"""`zlayerd bench raft`: real server processes agree, commit, and lose their leader."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.cluster.harness import ZLAYERD

pytestmark = pytest.mark.cluster


def bench(*args: str) -> subprocess.CompletedProcess[str]:
    command = [*ZLAYERD, "bench", "raft", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def report_of(*args: str) -> dict[str, Any]:
    done = bench(*args, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_the_document_has_its_fields() -> None:
    report = report_of("--seconds", "1", "--in-flight", "1,16")
    assert (report["servers"], report["value_bytes"]) == (3, 100)
    assert [load["in_flight"] for load in report["loads"]] == [1, 16]
    for load in report["loads"]:
        assert load["commits"] > 0
        assert load["commits_per_second"] > 0
        assert 0 < load["p50_ms"] <= load["p99_ms"] <= load["max_ms"]
        assert load["cpu_seconds_per_1000"] > 0
    disk = report["fdatasync_us"]
    assert 0 < disk["p50"] <= disk["p99"]
    assert report["one_in_fdatasyncs"] > 0
    assert report["failover"] is None
    assert report["machine"]["cores"] >= 1


def test_a_killed_leader_is_followed_by_another() -> None:
    report = report_of("--seconds", "0.2", "--in-flight", "4", "--kills", "2")
    failover = report["failover"]
    assert failover["kills"] == len(failover["rounds_s"]) == 2
    assert 0 < failover["p50_s"] <= failover["p99_s"] <= failover["max_s"]
    assert report["one_in_fdatasyncs"] is None


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("--in-flight", "1,0"), "--in-flight"),
        (("--in-flight", "many"), "--in-flight"),
        (("--servers", "1", "--kills", "1"), "--kills"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(args: tuple[str, ...], named: str) -> None:
    done = bench(*args)
    assert done.returncode == 2
    assert named in done.stderr
