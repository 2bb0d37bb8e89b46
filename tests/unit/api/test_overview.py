"""`/health`, `/readyz`, `/api/v1/status` and `/metrics`."""

from __future__ import annotations

from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.api.api import Api, problem, running_api
from zlayer_native.errors import CoreStopped


async def test_a_running_server_is_healthy_and_ready(api: Api) -> None:
    assert await api.get("/health", None) == {"status": "ok"}
    assert await api.get("/readyz", None) == {"status": "ready"}


async def test_a_stopped_core_is_neither(api: Api) -> None:
    api.core.failed.set_result(CoreStopped("a failed fsync"))
    for path, status in (("/health", "stopped"), ("/readyz", "not ready")):
        response = await api.call("GET", path, None)
        assert (response.status_code, response.json()) == (503, {"status": status})
        assert "fsync" not in response.text  # It says nothing about the cluster to a stranger.


async def test_a_server_that_stops_is_healthy_and_not_ready() -> None:
    async with running_api(is_ready=lambda: False) as api:
        assert await api.get("/health", None) == {"status": "ok"}
        assert (await api.call("GET", "/readyz", None)).status_code == 503


async def test_probes_take_any_query(api: Api) -> None:
    """Load balancers add their own; nothing depends on it."""
    assert await api.get("/health", None, nocache="1") == {"status": "ok"}


async def test_status_is_the_cores_and_takes_no_query(api: Api) -> None:
    assert await api.get("/api/v1/status") == api.core.status_view
    response = await api.call("GET", "/api/v1/status", params={"verbose": "1"})
    assert problem(response, 400) == "invalid_request"


async def test_metrics_are_prometheus_text(api: Api) -> None:
    api.core.metric_values = {
        "beats_total": 2.0,
        "open_connections": 7,
        "handshakes_failed_total": 5,
        "handshakes_failed_total_timeout": 3,
        "handshakes_failed_total_server_name": 2,
        "expiry_held": 0,
    }
    api.core.status_view = {
        "workers": {"Ready": 4, "Suspect": 1, "connected": 4, "total": 5},
        "max_heartbeats_per_second": 50,
        "uptime_ms": 1500,
        "revision": 9,
    }
    response = await api.call("GET", "/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(response.text)}
    samples = {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in families.values()
        for sample in family.samples
        if sample.name.startswith("zlayer_")
    }
    assert samples == {
        ("zlayer_beats_total", ()): 2,
        ("zlayer_open_connections", ()): 7,
        ("zlayer_handshakes_failed_total", ()): 5,
        ("zlayer_handshakes_failed_by_reason_total", ("timeout",)): 3,
        ("zlayer_handshakes_failed_by_reason_total", ("server_name",)): 2,
        ("zlayer_expiry_held", ()): 0,
        ("zlayer_workers", ("Ready",)): 4,
        ("zlayer_workers", ("Suspect",)): 1,
        ("zlayer_workers", ("Unreachable",)): 0,
        ("zlayer_workers", ("Draining",)): 0,
        ("zlayer_workers", ("Left",)): 0,
        ("zlayer_beats_per_second_max", ()): 50,
        ("zlayer_uptime_seconds", ()): 1.5,
        ("zlayer_events_revision", ()): 9,
    }
    assert families["zlayer_beats"].type == "counter"
    assert families["zlayer_open_connections"].type == "gauge"
    assert "process_cpu_seconds" in families
    assert all(family.documentation for family in families.values())


def duplicates(text: str) -> list[str]:
    """Series and types that are there twice, which a scraper refuses."""
    lines = [line for line in text.splitlines() if line]
    types = [" ".join(line.split()[1:3]) for line in lines if line.startswith("# TYPE")]
    series = [line.rsplit(" ", 1)[0] for line in lines if not line.startswith("#")]
    return [name for name, count in Counter(types + series).items() if count > 1]


def test_a_duplicate_would_be_seen() -> None:
    assert duplicates('# TYPE a gauge\na 1\n# TYPE a gauge\na 2\nb{c="d"} 1\n') == ["TYPE a", "a"]


@pytest.mark.parametrize("status", [{}, {"workers": {}}])
async def test_metrics_of_a_core_that_says_little(api: Api, status: dict[str, object]) -> None:
    api.core.status_view = status
    api.core.metric_values = {}
    response = await api.call("GET", "/metrics")
    assert response.status_code == 200
    assert duplicates(response.text) == []
