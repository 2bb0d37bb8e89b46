"""Thirty seconds of held GIL on the server and on a worker: nobody is late."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cluster.harness import Cluster, eventually

pytestmark = pytest.mark.cluster

HOLD_SECONDS = 30
TTL, GRACE = 2, 1
WRAPPER = str(Path(__file__).with_name("with_gil_hold.py"))


def held(trigger: Path) -> list[str]:
    return [sys.executable, WRAPPER, str(trigger), str(HOLD_SECONDS)]


@pytest.mark.timeout(180)
def test_held_gil_on_server_and_worker_makes_nobody_suspect(tmp_path: Path):
    on_server, on_worker = tmp_path / "server.trigger", tmp_path / "worker.trigger"
    running = Cluster(tmp_path, config={"heartbeat_min_ttl": TTL, "heartbeat_grace": GRACE})
    try:
        running.start_server(program=held(on_server))
        token = running.token(uses=3)
        running.start_worker("held", token, program=held(on_worker))
        running.start_worker("w1", token)
        running.start_worker("w2", token)
        names = ["held", "w1", "w2"]
        running.wait_states(dict.fromkeys(names, "Ready"), within=30)
        revision = running.revision()
        beats = running.metric("zlayer_beats_total")

        on_worker.touch()
        on_server.touch()
        for trigger in (on_server, on_worker):
            eventually(trigger.with_suffix(".holding").exists, within=5, what="the GIL is held")
        for trigger in (on_server, on_worker):
            eventually(
                trigger.with_suffix(".done").exists,
                within=HOLD_SECONDS + 10,
                what="the GIL is free again",
            )

        assert running.events(revision) == []
        assert set(running.states().values()) == {"Ready"}
        # Beats went on while no Python ran on either side: three workers, one each TTL at least.
        went_on = running.metric("zlayer_beats_total") - beats
        assert went_on >= len(names) * (HOLD_SECONDS / TTL - 2)
    finally:
        running.close()
