"""No request, however odd, is answered with a 5xx or a traceback, and a refusal changes nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.unit.api.api import EVENTS, JTI, NODES, TOKENS, Api, running_api
from zlayer_native.api import Scope

METHODS = st.sampled_from(
    ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "\x00", "get"]
)
SEGMENTS = st.one_of(
    st.sampled_from(["", "1000", JTI, "drain", "..", "cluster", "nodes", "tokens", "events"]),
    st.text(max_size=20),
)
PATHS = st.one_of(
    st.sampled_from(
        ["/", "/health", "/readyz", "/metrics", "/api/v1/status", NODES, EVENTS, TOKENS]
    ),
    st.builds(
        lambda prefix, rest: f"{prefix}/{'/'.join(rest)}",
        st.sampled_from([NODES, TOKENS]),
        st.lists(SEGMENTS, max_size=3),
    ),
    st.text(max_size=30).map(lambda text: "/" + text),
)
NAMES = st.one_of(
    st.sampled_from(["after", "limit", "state", "label", "dry_run"]), st.text(max_size=10)
)
VALUES = st.one_of(
    st.sampled_from(["", "0", "5", "-1", "Ready", "zone=a", "a=b=c", "1e9", "9" * 30]),
    st.text(max_size=20),
)
QUERIES = st.one_of(
    st.lists(st.tuples(NAMES, VALUES), max_size=4).map(
        lambda pairs: "&".join(f"{name}={value}" for name, value in pairs).encode(
            "utf-8", "surrogatepass"
        )
    ),
    st.binary(max_size=40),
)
HEADER_NAMES = st.sampled_from(
    [
        b"host",
        b"origin",
        b"sec-fetch-site",
        b"authorization",
        b"content-length",
        b"content-type",
        b"accept",
        b"x",
    ]
)
HEADER_VALUES = st.one_of(
    st.sampled_from([b"", b"http://[", b"null", b"[::1", b"text/event-stream", b"-1", b"Bearer "]),
    st.binary(max_size=40),
)
HEADERS = st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = st.dictionaries(
    st.sampled_from(
        ["name", "ttl_secs", "uses", "labels", "labels_allowed", "draining", "x", "\ud800"]
    ),
    JSON,
    max_size=4,
)
BODIES = st.one_of(
    st.binary(max_size=60),
    JSON.map(lambda value: json.dumps(value).encode()),
    FIELDS.map(lambda value: json.dumps(value).encode()),
    st.sampled_from([b"[" * 20_000, b'"' + b"\\ud800" * 50 + b'"', b"9" * 5000, b"{" * 9]),
)


async def answer(api: Api, scope: dict[str, Any], body: bytes) -> list[Any]:
    """What the application says to one request; an exception of it fails the test."""
    sent: list[Any] = []
    parts = [body[:10], body[10:]]

    async def receive() -> dict[str, Any]:
        if not parts:  # A reader of a stream waits for its client to go: it goes at once.
            return {"type": "http.disconnect"}
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async with asyncio.timeout(10):
        await api.app(scope, receive, send)
    return sent


@settings(max_examples=1500, deadline=None)
@given(
    method=METHODS,
    path=PATHS,
    query=QUERIES,
    headers=HEADERS,
    body=BODIES,
    scope=st.sampled_from([None, *Scope]),
)
def test_no_request_breaks_it(
    method: str,
    path: str,
    query: bytes,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
    scope: Scope | None,
) -> None:
    async def run() -> None:
        async with running_api() as api:
            own = [(b"host", b"127.0.0.1:3669")]
            if scope is not None:
                own.append((b"authorization", api.bearer(scope)["authorization"].encode()))
            request = {
                "type": "http",
                "asgi": {"version": "3.0"},
                "http_version": "1.1",
                "method": method,
                "path": path,
                "raw_path": path.encode("utf-8", "surrogatepass"),
                "query_string": query,
                "scheme": "http",
                "server": ("127.0.0.1", 3669),
                "client": ("127.0.0.1", 1),
                "headers": [*own, *headers],
            }
            with capture_logs() as lines:
                sent = await answer(api, request, body)
            check(api, scope, sent, lines)

    asyncio.run(run())


def check(api: Api, scope: Scope | None, sent: list[Any], lines: list[Any]) -> None:
    start, *rest = sent
    status = start["status"]
    assert 200 <= status < 500
    assert not [line for line in lines if line["event"] == "request failed"]
    assert all("\n" not in str(line.get("path", "")) for line in lines)
    if status >= 400:
        assert api.core.proposed == []
        text = b"".join(message.get("body", b"") for message in rest)
        error = json.loads(text)["error"]
        assert error["code"]
        assert error["message"].isprintable()
        assert "Traceback" not in error["message"]
        assert len(text) < 2000
    if scope is None and api.core.proposed:
        raise AssertionError("a stranger changed something")
