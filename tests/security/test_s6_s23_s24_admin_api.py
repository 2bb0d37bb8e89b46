"""S6, S23, S24: the admin API on a real socket, against strangers, other sites and odd requests.

Also T32, T33. Every route with every scope is in `tests/unit/api`; here is what goes over the wire.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from tests.boundary.real_core import redeem
from tests.unit.api.api import EVENTS, NODES, TOKENS, problem
from tests.unit.api.over_core import Running, api_over_core
from zlayer_native.api import Scope
from zlayer_native.errors import TokenInvalid


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with api_over_core(tmp_path) as running_:
        await running_.core.node()
        yield running_


def untouched(running: Running) -> bool:
    """Nothing but the fixture's own node and token has ever been written."""
    return json.loads(running.core.server.status())["revision"] == 2


async def raw(running: Running, *lines: str, body: bytes = b"") -> tuple[int, str]:
    """Sends a request as it is; returns status and everything that came back."""
    host, port = running.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1") + body)
        answer = b""
        async with asyncio.timeout(20):
            while b"\r\n\r\n" not in answer and (chunk := await reader.read(65_536)):
                answer += chunk
    finally:
        writer.close()
    text = answer.decode("latin-1")
    return (int(text.split()[1]) if text else 0), text


# --- S6 -------------------------------------------------------------------------------------------


async def test_s6_a_join_token_opens_nothing_of_the_api(running: Running) -> None:
    line = await running.core.token_line(uses=5)
    jti = json.loads(running.core.server.tokens())["items"][-1]["jti"]
    async with httpx.AsyncClient(base_url=running.url) as stranger:
        for secret in (line, jti, line[:64]):
            for path in (NODES, TOKENS, "/metrics", "/api/v1/status"):
                headers = {"authorization": f"Bearer {secret}"}
                assert problem(await stranger.get(path, headers=headers), 401)


async def test_s6_an_admin_token_is_no_tokens_id(running: Running) -> None:
    """The service refuses it as a line; the control state knows no such id either."""
    with pytest.raises(TokenInvalid):
        await running.core.server.propose(redeem(running.secrets[Scope.ADMIN], 9))
    assert untouched(running)


# --- S23 ------------------------------------------------------------------------------------------


async def test_s23_no_bad_and_too_small_tokens(running: Running) -> None:
    async with httpx.AsyncClient(base_url=running.url) as stranger:
        for headers in ({}, {"authorization": "Bearer zlat_" + "x" * 43}):
            assert problem(await stranger.delete(f"{NODES}/1000", headers=headers), 401)
        reader = running.bearer(Scope.READ)
        for method, path in (
            ("DELETE", f"{NODES}/1000"),
            ("PUT", f"{NODES}/1000/drain"),
            ("POST", TOKENS),
            ("GET", TOKENS),
        ):
            assert problem(await stranger.request(method, path, headers=reader), 403)
    assert untouched(running)


@pytest.mark.parametrize(
    "target",
    [
        "//api/v1/cluster/nodes/1000",
        "/api/v1//cluster/nodes/1000",
        "/api/v1/cluster/nodes//1000",
        "/api/v1/cluster/nodes/1000/",
        "/api/v1/cluster/nodes/./1000",
        "/api/v1/cluster/../cluster/nodes/1000",
        "/health/../api/v1/cluster/nodes/1000",
        "/health;/api/v1/cluster/nodes/1000",
        "/api/v1/cluster/nodes/%2e%2e/nodes/1000",
        "/API/v1/cluster/nodes/1000",
    ],
)
async def test_s23_other_spellings_of_a_path_lead_nowhere(running: Running, target: str) -> None:
    bearer = f"Authorization: {running.headers['authorization']}"
    status, _ = await raw(running, f"DELETE {target} HTTP/1.1", "Host: localhost")
    assert status == 401
    status, _ = await raw(running, f"DELETE {target} HTTP/1.1", "Host: localhost", bearer)
    assert status == 404
    assert untouched(running)


@pytest.mark.parametrize(
    "lines",
    [
        ("GET http://127.0.0.1/api/v1/status HTTP/1.1", "Host: evil.example"),
        ("GET /api/v1/status HTTP/1.1", "Host: evil.example"),
        ("GET /api/v1/status HTTP/1.1", "Host: 127.0.0.1.evil.example"),
        ("GET /api/v1/status HTTP/1.0",),
    ],
    ids=range(4),
)
async def test_s23_another_host_is_misdirected(running: Running, lines: tuple[str, ...]) -> None:
    bearer = f"Authorization: {running.headers['authorization']}"
    status, text = await raw(running, *lines, bearer)
    assert status == 421
    assert "host_not_allowed" in text
    assert running.core.cluster_id not in text


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
    ids=str,
)
async def test_s23_another_site_writes_nothing(running: Running, headers: dict[str, str]) -> None:
    response = await running.client.delete(f"{NODES}/1000", headers=headers)
    assert problem(response, 403) in ("cross_site", "cross_origin")
    response = await running.client.post(TOKENS, headers=headers, json={})
    assert problem(response, 403) in ("cross_site", "cross_origin")
    assert untouched(running)


async def test_s23_a_browser_is_never_told_that_it_may(running: Running) -> None:
    """The bearer header is the custom one that a form of another site can't send: a browser asks
    first, and gets no leave."""
    asking = {
        "origin": "http://evil.example",
        "access-control-request-method": "DELETE",
        "access-control-request-headers": "authorization",
    }
    async with httpx.AsyncClient(base_url=running.url) as browser:
        for headers in (asking, asking | running.headers):
            response = await browser.options(f"{NODES}/1000", headers=headers)
            assert response.status_code in (401, 405)
            assert not [name for name in response.headers if name.startswith("access-control")]
        for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data"):
            response = await browser.post(TOKENS, headers={"content-type": kind}, content="{}")
            assert problem(response, 401)
    assert untouched(running)


async def test_s23_a_method_is_what_it_says(running: Running) -> None:
    for header in ("x-http-method-override", "x-method-override", "x-http-method"):
        response = await running.client.get(f"{NODES}/1000", headers={header: "DELETE"})
        assert response.status_code == 200
        response = await running.client.post(f"{NODES}/1000", headers={header: "DELETE"})
        assert problem(response, 405)
    assert untouched(running)


async def test_s23_ten_mebibytes_are_not_read(running: Running) -> None:
    response = await running.client.post(TOKENS, content=b" " * 10 * 1024 * 1024)
    assert problem(response, 413) == "body_too_large"

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(10_240):
            yield b" " * 1024

    response = await running.client.post(TOKENS, content=endless())
    assert problem(response, 413) == "body_too_large"
    assert untouched(running)


async def test_s23_a_websocket_is_refused(running: Running) -> None:
    upgrade = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    bearer = f"Authorization: {running.headers['authorization']}"
    for more in (
        ("Origin: http://evil.example",),
        ("Origin: http://evil.example", bearer),
        (bearer,),
    ):
        status, text = await raw(
            running, f"GET {EVENTS} HTTP/1.1", "Host: localhost", *upgrade, *more
        )
        assert status != 101
        assert "Sec-WebSocket-Accept" not in text


@pytest.mark.parametrize(
    "lines",
    [
        ("GET / HTTP/1.1", "Host: localhost", "X: " + "x" * 100_000),
        ("GET /" + "x" * 100_000 + " HTTP/1.1", "Host: localhost"),
        ("GET / HTTP/1.1", "Host: localhost", *[f"X{n}: x" for n in range(5000)]),
        ("GET / HTTP/9.9", "Host: localhost"),
        ("GET  / HTTP/1.1", "Host: localhost"),
        ("G\x00T / HTTP/1.1", "Host: localhost"),
        ("POST / HTTP/1.1", "Host: localhost", "Content-Length: 1", "Content-Length: 2"),
        ("POST / HTTP/1.1", "Host: localhost", "Content-Length: -1"),
        ("POST / HTTP/1.1", "Host: localhost", "Transfer-Encoding: chunked, chunked"),
        ("POST / HTTP/1.1", "Host: localhost", "Transfer-Encoding: gzip"),
        ("\x16\x03\x01\x00\x05hello",),
        ("PRI * HTTP/2.0",),
    ],
    ids=range(12),
)
async def test_s23_what_is_no_request_is_refused(running: Running, lines: tuple[str, ...]) -> None:
    status, text = await raw(running, *lines)
    assert status in (400, 401, 413, 414, 421, 431), text[:200]
    assert (await running.client.get("/health")).status_code == 200
    assert untouched(running)


# --- S24, S27 -------------------------------------------------------------------------------------


async def test_s24_a_nodes_words_are_data_wherever_they_are_shown(running: Running) -> None:
    """There is no page yet; whatever a browser opens here, it renders and runs nothing of it."""
    script = "<script>alert(1)</script>"
    jti = await running.core.token()
    await running.core.server.propose(redeem(jti, 77, profile={"os": script, "version": script}))
    pages: list[Any] = [NODES, f"{NODES}/1001", EVENTS, TOKENS, f"/{script}", f"{NODES}/{script}"]
    for path in pages:
        response = await running.client.get(path, headers={"accept": "text/html"})
        assert response.headers["content-type"] == "application/json"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in response.headers["content-security-policy"]
    assert (await running.get(f"{NODES}/1001"))["profile"]["os"] == script
    for label in (script, "a\x1b[2J", "\u202e"):
        response = await running.client.post(TOKENS, json={"labels": {"a": label}})
        assert problem(response, 400) == "invalid_request"
        assert label not in response.text


async def test_s27_no_answer_and_no_log_of_the_api_tells_a_secret(running: Running) -> None:
    with capture_logs() as lines:
        made = (await running.client.post(TOKENS, json={})).json()
        answers = [
            await running.client.get(TOKENS),
            await running.client.get(f"{TOKENS}/{made['jti']}"),
            await running.client.get(EVENTS),
            await running.client.get("/metrics"),
            await running.client.get(f"{NODES}/{running.secrets[Scope.ADMIN]}x"),
            await running.client.get(NODES, params={made["token"][:60]: "1"}),
            await running.client.delete(f"{TOKENS}/{made['token']}"),
        ]
    logged = repr(lines)
    for secret in (made["token"][-60:], *running.secrets.values()):
        assert secret not in logged
        for answer in answers:
            assert secret not in answer.text
