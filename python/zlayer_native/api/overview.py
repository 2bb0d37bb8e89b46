"""`/health`, `/readyz`, `/api/v1/status` and `/metrics`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from zlayer_native.api import reading
from zlayer_native.api import request as ask
from zlayer_native.api.protocol import ApiOptions, Core

#: A counter of the core that is split by a reason: `handshakes_failed_total_timeout`.
_BY_REASON = re.compile(r"(?P<name>[a-z0-9_]+)_total_(?P<reason>[a-z0-9_]+)")


class Overview:
    """How the server and the cluster are."""

    def __init__(self, core: Core, options: ApiOptions) -> None:
        self._core = core
        self._options = options
        self._registry = CollectorRegistry()
        self._registry.register(_CoreCollector(core))
        ProcessCollector(registry=self._registry)

    async def health(self, request: Request) -> Response:
        """200 while the core runs: restart the process when this says otherwise."""
        if self._core.failed.done():
            return JSONResponse({"status": "stopped"}, status_code=503)
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """200 when workers can enrol and report: send no traffic when this says otherwise."""
        if self._core.failed.done() or not self._options.is_ready():
            return JSONResponse({"status": "not ready"}, status_code=503)
        return JSONResponse({"status": "ready"})

    async def status(self, request: Request) -> Response:
        """The cluster at a glance, as this server sees it."""
        ask.query(request, reading.PARAMETER)
        consistency = await reading.settle(request, self._core)
        return reading.answer(self._core.status(), consistency)

    async def metrics(self, request: Request) -> Response:
        """Prometheus text. No series names a worker: 10,000 of them stay some 50 series."""
        return Response(
            generate_latest(self._registry), headers={"content-type": CONTENT_TYPE_PLAIN_0_0_4}
        )


class _CoreCollector(Collector):
    """The core's counters and the status's numbers, read when they are scraped."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def describe(self) -> Iterator[Metric]:
        return iter(())  # Names come from the core: nothing is asked before it runs.

    def collect(self) -> Iterator[Metric]:
        yield from _families(self._core.metrics())
        yield from _status_families(json.loads(self._core.status()))


def _families(metrics: dict[str, float]) -> Iterator[Metric]:
    by_reason: dict[str, CounterMetricFamily] = {}
    for name, value in sorted(metrics.items()):
        split = _BY_REASON.fullmatch(name)
        if split is not None:
            base = f"zlayer_{split['name']}_by_reason"
            text = f"{split['name'].replace('_', ' ')}, by reason"
            family = by_reason.setdefault(base, CounterMetricFamily(base, text, labels=["reason"]))
            family.add_metric([split["reason"]], value)
        elif name.endswith("_total"):
            plain = name.removesuffix("_total")
            yield CounterMetricFamily(f"zlayer_{plain}", plain.replace("_", " "), value=value)
        else:
            yield GaugeMetricFamily(f"zlayer_{name}", name.replace("_", " "), value=value)
    yield from by_reason.values()


def _status_families(status: dict[str, Any]) -> Iterator[Metric]:
    workers = GaugeMetricFamily("zlayer_workers", "workers by state", labels=["state"])
    counts = status.get("workers", {})
    for state in ("Ready", "Suspect", "Unreachable", "Draining", "Left"):
        workers.add_metric([state], counts.get(state, 0))
    yield workers
    # Only what the core's own metrics do not have: no number is there under two names.
    plain = (
        ("beats_per_second_max", status.get("max_heartbeats_per_second"), "the cap on beats"),
        ("events_revision", status.get("revision"), "newest event"),
        ("uptime_seconds", _scaled(status.get("uptime_ms"), 1000), "since the core started"),
    )
    for name, value, text in plain:
        if value is not None:
            yield GaugeMetricFamily(f"zlayer_{name}", text, value=float(value))


def _scaled(value: float | None, by: float) -> float | None:
    return None if value is None else value / by
