"""A fleet of real mTLS workers, paced by a real server: nobody is suspected, the cap holds."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.cluster.harness import ZLAYERD

pytestmark = pytest.mark.cluster

CAP = 50


@pytest.mark.parametrize(
    ("workers", "seconds"),
    [
        pytest.param(500, 15, marks=pytest.mark.timeout(240)),
        pytest.param(10_000, 300, marks=[pytest.mark.slow, pytest.mark.timeout(1200)]),
    ],
)
def test_a_paced_fleet_is_never_suspected_and_stays_below_the_cap(workers: int, seconds: int):
    command = [*ZLAYERD, "bench", "heartbeats", "--json", "--phase", "paced"]
    command += ["--workers", str(workers), "--seconds", str(seconds), "--cap", str(CAP)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)

    assert report["workers"] == workers
    # The swarm's own view: no connection was lost, nobody was refused or late.
    assert (report["false_suspects"], report["false_expiries"]) == (0, 0), report
    # The server's: every worker said goodbye, and none was ever anything but Ready.
    assert (report["server"]["suspects"], report["server"]["expiries"]) == (0, 0), report
    assert report["server"]["workers"]["Left"] == workers
    # Everybody beats within its TTL, and never more at once than the cap allows.
    ttl = max(10, workers / CAP)
    assert report["heartbeats"] >= workers * (seconds // ttl)
    assert report["peak_beats_per_second"] <= CAP * 1.05
