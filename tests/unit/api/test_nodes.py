"""`/api/v1/cluster/nodes`: what is asked of the core, and what is refused before."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.api.api import NODES, Api, problem
from zlayer_native import errors
from zlayer_native.api import Scope


async def test_a_plain_list_is_the_first_page(api: Api) -> None:
    api.core.node_views = {1000: {"id": 1000, "labels": {"größe": "é"}}}
    api.core.revision = 7
    assert await api.get(NODES) == {
        "items": [{"id": 1000, "labels": {"größe": "é"}}],
        "revision": 7,
    }
    assert api.core.queries == [{"after_id": 0, "limit": 100, "labels": {}}]


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("after=1099", {"after_id": 1099}),
        ("after=9223372036854775807", {"after_id": 2**63 - 1}),
        ("limit=1", {"limit": 1}),
        ("limit=1000", {"limit": 1000}),
        ("limit=0010", {"limit": 10}),
        ("state=Ready", {"state": "Ready"}),
        ("state=Draining", {"state": "Draining"}),
        ("label=zone=a", {"labels": {"zone": "a"}}),
        ("label=zone%3Da&label=disk=ssd", {"labels": {"zone": "a", "disk": "ssd"}}),
        ("label=zone=a&label=zone=a", {"labels": {"zone": "a"}}),
        (
            "after=1&limit=2&state=Left&label=a=b",
            {"after_id": 1, "limit": 2, "state": "Left", "labels": {"a": "b"}},
        ),
    ],
)
async def test_a_query_is_handed_on(api: Api, query: str, asked: dict[str, Any]) -> None:
    response = await api.call("GET", f"{NODES}?{query}")
    assert response.status_code == 200, response.text
    assert api.core.queries == [{"after_id": 0, "limit": 100, "labels": {}, **asked}]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("after=", "after"),
        ("after=-1", "after"),
        ("after=+1", "after"),
        ("after=1.0", "after"),
        ("after=1e3", "after"),
        ("after=0x10", "after"),
        ("after=%201", "after"),
        ("after=1%0a", "after"),
        ("after=%D9%A1", "after"),
        ("after=9223372036854775808", "after"),
        ("after=" + "9" * 5000, "after"),
        ("after=1&after=2", "after"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=all", "limit"),
        ("limit=10&limit=10", "limit"),
        ("state=ready", "state"),
        ("state=", "state"),
        ("state=Ready,Left", "state"),
        ("state=Ready&state=Left", "state"),
        ("label=", "label"),
        ("label=zone", "label"),
        ("label==a", "label"),
        ("label=zone=", "label"),
        ("label=Zone=a", "label"),
        ("label=zone=a=b", "label"),
        ("label=zone=a%00", "label"),
        ("label=../x=a", "label"),
        ("label=zlayer.io/x=a", "label"),
        ("label=" + "x" * 64 + "=a", "label"),
        ("label=zone=a&label=zone=b", "label"),
        ("&".join(f"label=k{n}=v" for n in range(33)), "label"),
        ("labels=zone=a", "labels"),
        ("stat=Ready", "stat"),
        ("Limit=1", "Limit"),
        ("limit[]=1", "limit[]"),
        ("%1b[2J=1", "\\x1b[2J"),
    ],
)
async def test_a_query_that_can_not_be_meant_is_named(api: Api, query: str, field: str) -> None:
    response = await api.call("GET", f"{NODES}?{query}")
    assert problem(response, 400) == "invalid_request"
    assert response.json()["error"]["message"].startswith(f"{field}: ")
    assert len(response.text) < 500
    assert api.core.queries == []


async def test_one_node(api: Api) -> None:
    api.core.node_views[1000] = {"id": 1000, "name": "w1"}
    assert await api.get(f"{NODES}/1000") == {"id": 1000, "name": "w1"}
    response = await api.call("GET", f"{NODES}/1001")
    assert problem(response, 404) == "node_not_found"
    assert "1001" in response.json()["error"]["message"]
    assert response.json()["error"]["hint"]


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "-1",
        "+1",
        "01000",
        "1000.0",
        "1e3",
        "x",
        "w1",
        "%D9%A1",
        "1000%0a",
        "%201000",
        "%00",
        "9" * 19,
        "9" * 5000,
        "..",
        "%2e%2e%2f",
    ],
)
async def test_what_is_no_id_is_no_node(api: Api, text: str) -> None:
    api.core.node_views[1000] = {"id": 1000}
    for method in ("GET", "DELETE"):
        problem(await api.call(method, f"{NODES}/{text}"), 404)
    assert api.core.proposed == []


async def test_a_node_is_removed(api: Api) -> None:
    response = await api.call("DELETE", f"{NODES}/1000", Scope.OPERATE)
    assert (response.status_code, response.json()) == (200, {"id": 1000, "removed": True})
    assert api.core.proposed == [{"type": "remove_node", "node_id": 1000}]


@pytest.mark.parametrize("draining", [True, False])
async def test_draining_is_switched(api: Api, draining: bool) -> None:
    body = {"draining": draining}
    response = await api.call("PUT", f"{NODES}/1000/drain", Scope.OPERATE, json=body)
    assert (response.status_code, response.json()) == (200, {"id": 1000, "draining": draining})
    assert api.core.proposed == [{"type": "set_draining", "node_id": 1000, "draining": draining}]


@pytest.mark.parametrize("path", [f"{NODES}/1000", f"{NODES}/1000/drain"])
async def test_a_write_with_a_query_that_nobody_reads_is_refused(api: Api, path: str) -> None:
    """`?dry_run=1` must not remove a node."""
    method = "PUT" if path.endswith("drain") else "DELETE"
    response = await api.call(method, path, params={"dry_run": "1"}, json={"draining": True})
    assert problem(response, 400) == "invalid_request"
    assert api.core.proposed == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"null",
        b"true",
        b"[]",
        b'"draining"',
        b'{"draining": 1}',
        b'{"draining": "true"}',
        b'{"draining": null}',
        b'{"draining": true, "draining": false}',
        b'{"draining": true, "node_id": 1}',
        b'{"draining": true,}',
        b'{"draining": true} {}',
        b"{'draining': true}",
        b"draining=true",
        b'{"draining": NaN}',
        b'{"draining": ' + b"9" * 5000 + b"}",
        b"[" * 50_000,
        b'{"a":' * 10_000,
        b"\xff\xfe",
        b"\xef\xbb\xbf" + b'{"draining": true}',
        '{"draining": true}'.encode("utf-16"),
        '{"draining": true}'.encode("utf-32"),
        b'{"\\ud800": true}',
        b'{"draining": "\\udfff"}',
        b'{"' + b"x" * 10_000 + b'": 1}',
        b'{"\\u001b[2J": 1}',
        b"\x00",
    ],
    ids=lambda content: repr(content[:30]),
)
async def test_a_body_that_can_not_be_meant_is_refused(api: Api, content: bytes) -> None:
    response = await api.call("PUT", f"{NODES}/1000/drain", content=content)
    assert problem(response, 400) == "invalid_request"
    assert len(response.text) < 500
    assert json.loads(response.text)["error"]["message"].isprintable()
    assert api.core.proposed == []


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (
            errors.NodeNotFound("there is no node 1000", code="node_not_found"),
            404,
            "node_not_found",
        ),
        (errors.NodeNotFound("there is no node 1000"), 404, "node_not_found"),
        (errors.InvalidRequest("x: y", code="invalid"), 400, "invalid_request"),
        (errors.LabelNotPermitted("x", code="label_not_permitted"), 400, "label_not_permitted"),
        (errors.LimitReached("x", code="limit_reached"), 409, "limit_reached"),
        (errors.KeyInUse("x", code="key_in_use"), 409, "key_in_use"),
        (errors.TokenExists("x", code="token_exists"), 409, "token_exists"),
        (errors.Refused("x", code="of_a_newer_core"), 409, "of_a_newer_core"),
        (errors.Refused("x"), 409, "refused"),
        (errors.Overloaded("x"), 503, "overloaded"),
        (errors.NotLeader("x", leader_id=2), 503, "not_leader"),
        (errors.NoLeader("x"), 503, "no_leader"),
        (errors.CoreStopped("x"), 503, "core_stopped"),
        (errors.CoreError("secret detail"), 500, "internal"),
        (errors.IdentityError("secret detail"), 500, "internal"),
        (RuntimeError("secret detail"), 500, "internal"),
        (KeyError("secret detail"), 500, "internal"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
async def test_what_the_core_says_has_a_status_and_a_stable_code(
    api: Api, error: Exception, status: int, code: str
) -> None:
    api.core.refusal = error
    response = await api.call("DELETE", f"{NODES}/1000")
    assert problem(response, status) == code
    assert "secret" not in response.text
    assert ("retry-after" in response.headers) == (status == 503)
