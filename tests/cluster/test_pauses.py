"""A paused server declares nobody dead."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.cluster.harness import cluster

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize(
    "pause", [6, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(300)])]
)
def test_sigstop_of_the_server_expires_nobody(tmp_path: Path, pause: int):
    with cluster(tmp_path, heartbeat_min_ttl=2, heartbeat_grace=1) as running:
        token = running.token(uses=3)
        names = [f"w{i}" for i in range(3)]
        for name in names:
            running.start_worker(name, token)
        running.wait_states(dict.fromkeys(names, "Ready"), within=30)
        revision = running.revision()

        running.server.signal(signal.SIGSTOP)
        time.sleep(pause)  # The pause is what is tested.
        running.server.signal(signal.SIGCONT)

        running.wait_states(dict.fromkeys(names, "Ready"), within=20)
        time.sleep(4)  # A whole TTL and grace later still nobody may have expired.
        kinds = {event["kind"] for event in running.events(revision)}
        assert "unreachable" not in kinds, running.events(revision)
        assert set(running.states().values()) == {"Ready"}
