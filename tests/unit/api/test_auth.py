"""Who may call what: every route, every scope, every way not to be let in."""

from __future__ import annotations

import re

import pytest

from tests.unit.api.api import EVENTS, JTI, NODES, RAFT, TOKENS, Api, problem
from zlayer_native.api import ApiTokens, Scope
from zlayer_native.api.auth import PREFIX, ApiToken, new_secret

#: Every route that needs a token: method, path, least scope.
GUARDED = [
    ("GET", "/metrics", Scope.READ),
    ("GET", "/api/v1/status", Scope.READ),
    ("GET", NODES, Scope.READ),
    ("GET", f"{NODES}/1000", Scope.READ),
    ("DELETE", f"{NODES}/1000", Scope.OPERATE),
    ("PUT", f"{NODES}/1000/drain", Scope.OPERATE),
    ("GET", EVENTS, Scope.READ),
    ("GET", TOKENS, Scope.OPERATE),
    ("POST", TOKENS, Scope.ADMIN),
    ("GET", f"{TOKENS}/{JTI}", Scope.OPERATE),
    ("DELETE", f"{TOKENS}/{JTI}", Scope.ADMIN),
    ("GET", f"{RAFT}/peers", Scope.READ),
    ("POST", f"{RAFT}/peers", Scope.ADMIN),
    ("DELETE", f"{RAFT}/peers/3", Scope.ADMIN),
    ("POST", f"{RAFT}/leader", Scope.OPERATE),
    ("GET", f"{RAFT}/snapshot", Scope.ADMIN),
]
BODIES = {
    f"{NODES}/1000/drain": {"draining": True},
    TOKENS: {},
    f"{RAFT}/peers": {"id": 3, "raft_addr": "10.0.0.3:3671", "api_addr": "10.0.0.3:3669"},
    f"{RAFT}/leader": {"to": 2},
}


def body_of(method: str, path: str) -> dict[str, object] | None:
    return BODIES.get(path) if method in ("PUT", "POST") else None


def test_every_route_is_in_the_table(api: Api) -> None:
    """A new route must say here who may call it."""
    known = {
        (method, re.sub("1000|3$", "{id}", path).replace(JTI, "{jti}"))
        for method, path, _ in GUARDED
    }
    known |= {("GET", "/health"), ("GET", "/readyz")}
    routes = {
        (method, route.path) for route in api.app.routes for method in route.methods - {"HEAD"}
    }
    assert routes == known


@pytest.mark.parametrize(("method", "path", "least"), GUARDED)
async def test_a_route_wants_its_scope_and_no_more(
    api: Api, method: str, path: str, least: Scope
) -> None:
    api.core.node_views[1000] = {"id": 1000}
    api.core.token_views[JTI] = {"jti": JTI}
    for scope in Scope:
        api.core.proposed.clear()
        api.core.asked.clear()
        response = await api.call(method, path, scope, json=body_of(method, path))
        if scope >= least:
            assert response.status_code in (200, 201), response.text
            changed = api.core.asked if path.startswith(RAFT) else api.core.proposed
            assert bool(changed) == (method != "GET" or path.startswith(RAFT))
        else:
            assert problem(response, 403) == "not_allowed"
            assert least.name.lower() in response.json()["error"]["message"]
            assert api.core.proposed == api.core.asked == []


@pytest.mark.parametrize(("method", "path", "least"), GUARDED)
async def test_a_route_without_a_token_does_nothing(
    api: Api, method: str, path: str, least: Scope
) -> None:
    response = await api.call(method, path, None, json=body_of(method, path))
    assert problem(response, 401) == "not_authenticated"
    assert response.headers["www-authenticate"] == "Bearer"
    assert api.core.proposed == []


@pytest.mark.parametrize("path", ["/health", "/readyz"])
async def test_probes_need_no_token(api: Api, path: str) -> None:
    assert (await api.call("GET", path, None)).status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/v1/none", "/health/", "/health/x", "//health", "/healthz", "/docs"]
)
async def test_an_unknown_path_says_nothing_to_a_stranger(api: Api, path: str) -> None:
    assert problem(await api.client.get(f"http://127.0.0.1:3669{path}"), 401) == "not_authenticated"


def mangled(secret: str) -> list[str]:
    return [
        "",
        "Bearer",
        "Bearer ",
        secret,
        f"Basic {secret}",
        f"Token {secret}",
        f"Bearer{secret}",
        f"Bearer {secret}x",
        f"Bearer {secret[:-1]}",
        f"Bearer {secret.swapcase()}",
        f"Bearer {PREFIX}",
        f"Bearer {secret} {secret}",
        f"Bearer {secret}, Bearer {secret}",
        "Bearer " + "x" * 300,
        "Bearer \xff\xfe",
        f"Bearer {new_secret()}",
    ]


async def test_only_the_exact_secret_in_the_right_scheme_is_let_in(api: Api) -> None:
    secret = api.secrets[Scope.ADMIN]
    for value in mangled(secret):
        headers = {"authorization": value.encode("latin-1")}
        response = await api.client.get(NODES, headers=headers)
        assert problem(response, 401) == "not_authenticated", value
    for value in (f"Bearer {secret}", f"bearer {secret}", f"BEARER  {secret} "):
        assert (await api.client.get(NODES, headers={"authorization": value})).status_code == 200


async def test_two_authorization_headers_are_one_too_many(api: Api) -> None:
    value = f"Bearer {api.secrets[Scope.ADMIN]}"
    headers = [("authorization", value), ("authorization", value)]
    assert problem(await api.client.get(NODES, headers=headers), 401) == "not_authenticated"


async def test_a_secret_in_the_query_or_a_cookie_is_not_looked_at(api: Api) -> None:
    secret = api.secrets[Scope.ADMIN]
    for options in (
        {"params": {"token": secret}},
        {"params": {"access_token": secret}},
        {"headers": {"cookie": f"token={secret}"}},
        {"headers": {"x-api-key": secret}},
    ):
        assert problem(await api.call("GET", NODES, None, **options), 401)


async def test_a_token_ends_when_it_says(api: Api) -> None:
    secret = new_secret()
    token = ApiToken.of_secret(secret, name="ci", scope=Scope.READ, expires_s=2_000_000)
    api.clock.tokens = ApiTokens([token])
    headers = {"authorization": f"Bearer {secret}"}
    api.clock.now_s = 1_999_999.9
    assert (await api.client.get(NODES, headers=headers)).status_code == 200
    api.clock.now_s = 2_000_000.0
    assert problem(await api.client.get(NODES, headers=headers), 401) == "not_authenticated"


async def test_a_refusal_does_not_say_which_part_was_wrong(api: Api) -> None:
    secret = new_secret()
    expired = ApiToken.of_secret(secret, name="old", scope=Scope.ADMIN, expires_s=1)
    api.clock.tokens = ApiTokens([expired])
    known = await api.client.get(NODES, headers={"authorization": f"Bearer {secret}"})
    unknown = await api.client.get(NODES, headers={"authorization": f"Bearer {new_secret()}"})
    assert known.json() == unknown.json()


def test_a_secret_has_256_bits_and_its_record_does_not_tell_it() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        assert secret.startswith(PREFIX)
        assert len(secret) == len(PREFIX) + 43
        token = ApiToken.of_secret(secret, name="x", scope=Scope.READ)
        for text in (repr(token), ApiTokens([token]).to_json()):
            assert secret[len(PREFIX) :] not in text
