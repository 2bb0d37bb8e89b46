"""The door: Host, where a write comes from, how long it is, and what every answer carries."""

from __future__ import annotations

from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.unit.api.api import EVENTS, NODES, TOKENS, Api, problem, running_api
from zlayer_native.api import Scope
from zlayer_native.api.guard import BODY_BYTES_MAX
from zlayer_native.errors import NodeNotFound

DRAIN = f"{NODES}/1000/drain"


# --- Host: a page whose name an attacker rebinds to this address must get nothing ----------------


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:3669",
        "localhost",
        "LOCALHOST:3669",
        "[::1]",
        "[::1]:3669",
        "zl-1.example",
        "ZL-1.Example:8080",
    ],
)
async def test_its_own_names_are_answered(host: str) -> None:
    async with running_api(hosts=frozenset({"ZL-1.example"})) as api:
        assert (await api.call("GET", "/health", headers={"host": host})).status_code == 200
        assert (await api.call("GET", NODES, headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:3669",
        "127.0.0.1.evil.example",
        "127.0.0.1.",
        "localhost.evil.example",
        "evil.example@127.0.0.1",
        "127.0.0.1@evil.example",
        "127.0.0.1:3669@evil.example",
        "127.0.0.1:x",
        "127.0.0.1:",
        "127.0.0.1:3669:1",
        "127.0.0.1, evil.example",
        "[::1",
        "[::1]evil.example",
        "::1",
        "[::2]",
        "0.0.0.0",
        "http://127.0.0.1",
        "127.0.0.1/",
        "127.0.0.1\t",
        "\xff",
    ],
)
async def test_other_names_are_not_even_with_a_token(api: Api, host: str) -> None:
    headers = {"host": host.encode("latin-1")}
    for path in ("/health", NODES, "/none"):
        response = await api.call("GET", path, headers=headers)
        if host == "127.0.0.1\t":  # White space around a value is no part of it.
            assert response.status_code != 421
        else:
            assert problem(response, 421) == "host_not_allowed"


async def test_no_host_and_two_hosts_are_refused(api: Api) -> None:
    for hosts in ([], [(b"host", b"127.0.0.1"), (b"host", b"127.0.0.1")]):
        messages = await asgi(api, {"headers": [*hosts, *bearer(api)]})
        assert messages[0]["status"] == 421


# --- Where a write comes from ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"sec-fetch-site": "cross-site"}, "cross_site"),
        ({"sec-fetch-site": "same-site"}, "cross_site"),
        ({"sec-fetch-site": "nonsense"}, "cross_site"),
        ({"sec-fetch-site": ""}, "cross_site"),
        ({"origin": "http://evil.example"}, "cross_origin"),
        ({"origin": "http://evil.example:3669"}, "cross_origin"),
        ({"origin": "http://127.0.0.1"}, "cross_origin"),
        ({"origin": "http://127.0.0.1:3670"}, "cross_origin"),
        ({"origin": "http://127.0.0.1:3669.evil.example"}, "cross_origin"),
        ({"origin": "http://127.0.0.1:3669@evil.example"}, "cross_origin"),
        ({"origin": "null"}, "cross_origin"),
        ({"origin": ""}, "cross_origin"),
        ({"origin": "http://["}, "cross_origin"),
        ({"origin": "127.0.0.1:3669"}, "cross_origin"),
    ],
)
async def test_a_write_from_another_site_is_refused(
    api: Api, headers: dict[str, str], code: str
) -> None:
    for method, path in (("PUT", DRAIN), ("DELETE", f"{NODES}/1000"), ("POST", TOKENS)):
        response = await api.call(method, path, headers=headers, json={"draining": True})
        assert problem(response, 403) == code
    assert api.core.proposed == []


async def test_a_read_from_another_site_is_answered_but_not_shared(api: Api) -> None:
    headers = {"origin": "http://evil.example", "sec-fetch-site": "cross-site"}
    response = await api.call("GET", NODES, headers=headers)
    assert response.status_code == 200  # It had the token; a browser will not show it the answer.
    assert not [name for name in response.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
        {"origin": "http://127.0.0.1:3669"},
        {"origin": "HTTP://127.0.0.1:3669", "sec-fetch-site": "Same-Origin"},
    ],
)
async def test_a_write_of_the_same_site_or_of_no_browser_is_done(
    api: Api, headers: dict[str, str]
) -> None:
    response = await api.call("PUT", DRAIN, headers=headers, json={"draining": True})
    assert response.status_code == 200
    assert len(api.core.proposed) == 1


async def test_two_origins_must_both_be_ours(api: Api) -> None:
    headers = [(b"host", b"a"), (b"origin", b"http://a"), (b"origin", b"http://evil.example")]
    async with running_api(hosts=frozenset({"a"})) as other:
        scope = {"method": "DELETE", "path": f"{NODES}/1000"}
        messages = await asgi(other, {**scope, "headers": [*headers, *bearer(other)]})
        assert messages[0]["status"] == 403


# --- Size -----------------------------------------------------------------------------------------


async def test_a_body_of_the_limit_is_read_and_one_byte_more_is_not(api: Api) -> None:
    fits = b'{"draining": true}'.ljust(BODY_BYTES_MAX)
    assert (await api.call("PUT", DRAIN, content=fits)).status_code == 200
    response = await api.call("PUT", DRAIN, content=fits + b" ")
    assert problem(response, 413) == "body_too_large"
    assert len(api.core.proposed) == 1


async def test_a_body_without_a_length_is_cut_off_at_the_limit(api: Api) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(10_000):
            taken += 1
            yield b" " * 8192

    response = await api.call("PUT", DRAIN, content=endless())
    assert problem(response, 413) == "body_too_large"
    # The transport of this test reads ahead; what was refused is what the application kept.
    assert api.core.proposed == []

    received = 0

    async def receive() -> dict[str, Any]:
        nonlocal received
        received += 1
        return {"type": "http.request", "body": b" " * 8192, "more_body": True}

    scope = {"method": "PUT", "path": DRAIN, "headers": [(b"host", b"localhost"), *bearer(api)]}
    messages = await asgi(api, scope, receive)
    assert messages[0]["status"] == 413
    assert received == BODY_BYTES_MAX // 8192 + 1


@pytest.mark.parametrize("length", ["65537", "10485760", "99999999999999999999", "-1", "0x10", ""])
async def test_a_declared_length_is_enough_to_refuse(api: Api, length: str) -> None:
    async def receive() -> dict[str, Any]:
        raise AssertionError("the body was asked for")

    headers = [(b"host", b"localhost"), (b"content-length", length.encode()), *bearer(api)]
    messages = await asgi(api, {"method": "PUT", "path": DRAIN, "headers": headers}, receive)
    assert messages[0]["status"] == 413


async def test_a_body_that_ends_early_is_no_error_of_ours(api: Api) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    headers = [(b"host", b"localhost"), *bearer(api)]
    await asgi(api, {"method": "PUT", "path": DRAIN, "headers": headers}, receive)
    assert api.core.proposed == []


# --- Every answer, every write --------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/health", NODES, "/metrics", "/none", f"{NODES}/7", EVENTS])
@pytest.mark.parametrize("scope", [Scope.READ, None])
async def test_every_answer_forbids_browsers_to_do_anything_with_it(
    api: Api, path: str, scope: Scope | None
) -> None:
    headers = (await api.call("GET", path, scope)).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "set-cookie" not in headers


async def test_a_write_leaves_one_audit_line_and_a_read_none(api: Api) -> None:
    with capture_logs() as lines:
        await api.call("PUT", DRAIN, Scope.OPERATE, json={"draining": True})
        await api.call("GET", NODES)
    (line,) = [line for line in lines if line["event"] == "write"]
    assert {**line, "ms": 0} == {
        "event": "write",
        "log_level": "info",
        "actor": "operate",
        "scope": "operate",
        "client": "192.0.2.1:5555",
        "method": "PUT",
        "path": DRAIN,
        "status": 200,
        "code": "",
        "ms": 0,
    }


@pytest.mark.parametrize(
    ("scope", "headers", "actor", "status", "code"),
    [
        (None, {}, "-", 401, "not_authenticated"),
        (Scope.READ, {}, "read", 403, "not_allowed"),
        (Scope.ADMIN, {"origin": "http://evil.example"}, "admin", 403, "cross_origin"),
        (Scope.ADMIN, {"host": "evil.example"}, "-", 421, "host_not_allowed"),
        (Scope.ADMIN, {}, "admin", 404, "node_not_found"),
    ],
)
async def test_a_refused_write_leaves_its_line_too(
    api: Api, scope: Scope | None, headers: dict[str, str], actor: str, status: int, code: str
) -> None:
    api.core.refusal = NodeNotFound("there is no node 1000", code="node_not_found")
    with capture_logs() as lines:
        await api.call("DELETE", f"{NODES}/1000", scope, headers=headers)
    (line,) = [line for line in lines if line["event"] == "write"]
    assert (line["actor"], line["status"], line["code"]) == (actor, status, code)


async def test_a_write_to_nowhere_leaves_its_line_too(api: Api) -> None:
    with capture_logs() as lines:
        await api.call("DELETE", NODES)
        await api.call("POST", "/none")
    told = [(line["status"], line["code"]) for line in lines if line["event"] == "write"]
    assert told == [(405, "method_not_allowed"), (404, "not_found")]


async def test_an_audit_line_can_not_be_forged_or_flooded(api: Api) -> None:
    with capture_logs() as lines:
        await api.call("DELETE", f"{NODES}/7%0awrite%20actor=admin%1b[2J%e2%80%ae{'x' * 5000}")
    (line,) = [line for line in lines if line["event"] == "write"]
    assert line["path"].isprintable()
    assert len(line["path"]) < 300
    assert "7\\nwrite actor=admin\\x1b[2J\\u202exxx" in line["path"]


async def test_a_secret_is_in_no_audit_line(api: Api) -> None:
    with capture_logs() as lines:
        await api.call("POST", TOKENS, json={})
    (line,) = [line for line in lines if line["event"] == "write"]
    assert "zlt1" not in str(line)
    assert api.secrets[Scope.ADMIN] not in str(line)


async def test_a_websocket_is_closed(api: Api) -> None:
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": EVENTS, "headers": [(b"host", b"localhost")]}
    await api.app(scope, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


# --- helpers --------------------------------------------------------------------------------------


def bearer(api: Api) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", f"Bearer {api.secrets[Scope.ADMIN]}".encode())]


async def asgi(api: Api, scope: dict[str, Any], receive: Any = None) -> list[Any]:
    """Calls the application as a server would, with what no HTTP client sends."""
    sent: list[Any] = []

    async def empty() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    whole = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": NODES,
        "raw_path": b"",
        "query_string": b"",
        "scheme": "http",
        "server": ("127.0.0.1", 3669),
        "client": None,
        **scope,
    }
    await api.app(whole, receive or empty, send)
    return sent
