"""`/api/v1/cluster/tokens`: bootstrap tokens are made, shown without secrets, revoked."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from tests.unit.api.api import JTI, TOKENS, Api, problem
from zlayer_native.api.tokens import TTL_DEFAULT, TTL_MAX, TTL_MIN, USES_MAX
from zlayer_native.errors import InvalidRequest, LimitReached, TokenNotFound
from zlayer_native.identity import claims


def test_its_limits_are_those_of_a_token_line() -> None:
    assert (TTL_DEFAULT, TTL_MAX) == (claims.TTL_SECS_DEFAULT, claims.TTL_SECS_MAX)
    assert USES_MAX == claims.USES_MAX
    assert 0 < TTL_MIN < TTL_DEFAULT


@pytest.mark.parametrize(
    ("body", "uses", "ttl_secs"),
    [
        ({}, 1, TTL_DEFAULT),
        ({"uses": 20, "ttl_secs": 60}, 20, 60),
        ({"uses": USES_MAX, "ttl_secs": TTL_MAX}, USES_MAX, TTL_MAX),
        ({"ttl_secs": TTL_MIN}, 1, TTL_MIN),
        (
            {"name": "ci.fleet-1", "labels": {"zone": "a"}, "labels_allowed": ["disk", "rack"]},
            1,
            TTL_DEFAULT,
        ),
    ],
)
async def test_a_token_is_made_once_and_in_step_with_its_record(
    api: Api, body: dict[str, Any], uses: int, ttl_secs: int
) -> None:
    before = int(time.time())
    response = await api.call("POST", TOKENS, json=body)
    assert response.status_code == 201, response.text
    answer = response.json()
    (command,) = api.core.proposed
    (signed,) = api.issuer.issued
    assert re.fullmatch(r"[0-9a-f]{32}", answer["jti"])
    assert answer["token"] == "zlt1-secret-line"
    assert answer["cluster_id"] == "zl-test"
    assert answer["join_address"] == "127.0.0.1:3670"
    assert before + ttl_secs <= answer["expires_ms"] / 1000 <= time.time() + ttl_secs
    shared = {
        "jti": answer["jti"],
        "name": body.get("name", ""),
        "expires_ms": answer["expires_ms"],
        "role": "worker",
        "uses_max": uses,
        "labels": body.get("labels", {}),
        "labels_allowed": body.get("labels_allowed", []),
    }
    assert command == {"type": "create_token", **shared}
    assert {key: answer[key] for key in shared} == shared
    assert (signed.jti, signed.uses_max, signed.expires_s * 1000) == (
        answer["jti"],
        uses,
        answer["expires_ms"],
    )
    assert (dict(signed.labels), list(signed.labels_allowed)) == (
        shared["labels"],
        shared["labels_allowed"],
    )
    assert signed.expires_s - signed.created_s == ttl_secs


async def test_no_two_tokens_have_one_id(api: Api) -> None:
    made = [(await api.call("POST", TOKENS, json={})).json()["jti"] for _ in range(20)]
    assert len(set(made)) == 20


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"uses": 0}, "uses"),
        ({"uses": -1}, "uses"),
        ({"uses": USES_MAX + 1}, "uses"),
        ({"uses": 2**32 - 1}, "uses"),
        ({"uses": 10**400}, "uses"),
        ({"uses": 1.0}, "uses"),
        ({"uses": True}, "uses"),
        ({"uses": "1"}, "uses"),
        ({"uses": None}, "uses"),
        ({"ttl_secs": TTL_MIN - 1}, "ttl_secs"),
        ({"ttl_secs": TTL_MAX + 1}, "ttl_secs"),
        ({"ttl_secs": "1h"}, "ttl_secs"),
        ({"ttl_secs": -3600}, "ttl_secs"),
        ({"name": "Ä"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 64}, "name"),
        ({"name": 5}, "name"),
        ({"name": None}, "name"),
        ({"labels": []}, "labels"),
        ({"labels": None}, "labels"),
        ({"labels": {"a": 1}}, "labels.a"),
        ({"labels": {"a": ""}}, "labels.a"),
        ({"labels": {"a": "\x1b[2J"}}, "labels.a"),
        ({"labels": {"../a": "b"}}, "labels"),
        ({"labels": {"zlayer.io/role": "server"}}, "labels"),
        ({"labels": {f"k{n}": "v" for n in range(33)}}, "labels"),
        ({"labels_allowed": "disk"}, "labels_allowed"),
        ({"labels_allowed": ["Disk"]}, "labels_allowed"),
        ({"labels_allowed": [1]}, "labels_allowed"),
        ({"labels_allowed": ["a", "a"]}, "labels_allowed"),
        ({"labels_allowed": [f"k{n}" for n in range(33)]}, "labels_allowed"),
        ({"use": 1}, "use"),
        ({"jti": JTI}, "jti"),
        ({"expires_ms": 1}, "expires_ms"),
    ],
    ids=str,
)
async def test_a_field_out_of_its_range_is_named_and_nothing_is_made(
    api: Api, body: dict[str, Any], field: str
) -> None:
    response = await api.call("POST", TOKENS, json=body)
    assert problem(response, 400) == "invalid_request"
    assert response.json()["error"]["message"].startswith(f"{field}: ")
    assert api.core.proposed == []
    assert api.issuer.issued == []


async def test_labels_that_do_not_fit_into_a_line_leave_no_record(api: Api) -> None:
    api.issuer.refusal = InvalidRequest("give it fewer or shorter labels", code="invalid")
    response = await api.call("POST", TOKENS, json={})
    assert problem(response, 400) == "invalid_request"
    assert "fewer" in response.json()["error"]["message"]
    assert api.core.proposed == []


async def test_a_token_that_was_not_recorded_is_not_shown(api: Api) -> None:
    api.core.refusal = LimitReached("limit reached: tokens (10000)", code="limit_reached")
    response = await api.call("POST", TOKENS, json={})
    assert problem(response, 409) == "limit_reached"
    assert "zlt1" not in response.text


async def test_tokens_are_listed_and_shown(api: Api) -> None:
    api.core.token_views[JTI] = {"jti": JTI, "uses": {}}
    assert (await api.call("GET", TOKENS)).json()["items"] == [{"jti": JTI, "uses": {}}]
    assert (await api.call("GET", f"{TOKENS}/{JTI}")).json() == {"jti": JTI, "uses": {}}


async def test_a_token_is_revoked(api: Api) -> None:
    response = await api.call("DELETE", f"{TOKENS}/{JTI}")
    assert (response.status_code, response.json()) == (200, {"jti": JTI, "revoked": True})
    assert api.core.proposed == [{"type": "revoke_token", "jti": JTI}]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_unknown_token_is_not_found(api: Api, method: str) -> None:
    api.core.refusal = TokenNotFound("there is no token", code="token_not_found")
    assert problem(await api.call(method, f"{TOKENS}/{JTI}"), 404) == "token_not_found"


@pytest.mark.parametrize(
    "text", ["x", JTI[:-1], JTI + "0", JTI.upper(), f"{JTI}%0a", "zlt1", "%00", "..%2f", "0" * 5000]
)
async def test_what_is_no_id_is_no_token(api: Api, text: str) -> None:
    for method in ("GET", "DELETE"):
        problem(await api.call(method, f"{TOKENS}/{text}"), 404)
    assert api.core.proposed == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", TOKENS), ("POST", TOKENS), ("GET", f"{TOKENS}/{JTI}"), ("DELETE", f"{TOKENS}/{JTI}")],
)
async def test_a_query_that_nobody_reads_is_refused(api: Api, method: str, path: str) -> None:
    api.core.token_views[JTI] = {"jti": JTI}
    response = await api.call(
        method, path, params={"uses": "5"}, json={} if method == "POST" else None
    )
    assert problem(response, 400) == "invalid_request"
    assert api.core.proposed == []
