"""HEAD, OPTIONS, and what is not there."""

from __future__ import annotations

import pytest

from tests.unit.api.api import EVENTS, JTI, NODES, TOKENS, Api, problem

#: Every path, and what may be done with it.
PATHS = {
    "/health": "GET, HEAD",
    "/readyz": "GET, HEAD",
    "/metrics": "GET, HEAD",
    "/api/v1/status": "GET, HEAD",
    NODES: "GET, HEAD",
    f"{NODES}/1000": "DELETE, GET, HEAD",
    f"{NODES}/1000/drain": "PUT",
    EVENTS: "GET, HEAD",
    TOKENS: "GET, HEAD, POST",
    f"{TOKENS}/{JTI}": "DELETE, GET, HEAD",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "NONSENSE")


@pytest.mark.parametrize("path", PATHS)
async def test_a_method_that_a_path_does_not_have_names_those_it_has(api: Api, path: str) -> None:
    for method in METHODS:
        if method in PATHS[path].split(", "):
            continue
        response = await api.call(method, path)
        assert response.status_code == 405
        assert response.headers["allow"] == PATHS[path], method
        if method != "HEAD":
            assert problem(response, 405) == "method_not_allowed"
        assert api.core.proposed == []


@pytest.mark.parametrize("path", [path for path, methods in PATHS.items() if "HEAD" in methods])
async def test_head_is_get_without_a_body(api: Api, path: str) -> None:
    api.core.node_views[1000] = {"id": 1000}
    api.core.token_views[JTI] = {"jti": JTI}
    head, get = await api.call("HEAD", path), await api.call("GET", path)
    assert head.status_code == get.status_code == 200
    assert head.headers["content-type"] == get.headers["content-type"]


async def test_head_of_a_stream_ends(api: Api) -> None:
    response = await api.call("HEAD", EVENTS, params={"follow": "true"})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.content == b""


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api",
        "/api/v1",
        "/api/v1/cluster",
        "/api/v1/status/",
        f"{NODES}/",
        f"{NODES}//1000",
        f"{NODES}/1000/",
        f"{NODES}/1000/none",
        "/api/v1/cluster/Nodes",
        "/api/v1/cluster/../cluster/nodes/x/y",
        "/%00",
        "/\u202e",
    ],
)
async def test_an_unknown_path_is_not_found(api: Api, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert problem(await api.call(method, path), 404) == "not_found"


async def test_a_method_can_not_be_overridden(api: Api) -> None:
    for headers in ({"x-http-method-override": "DELETE"}, {"x-method-override": "DELETE"}):
        response = await api.call("GET", f"{NODES}/1000", headers=headers)
        assert problem(response, 404) == "node_not_found"
        response = await api.call("POST", f"{NODES}/1000", headers=headers)
        assert problem(response, 405) == "method_not_allowed"
    response = await api.call("GET", f"{NODES}/1000", params={"_method": "DELETE"})
    assert problem(response, 400) == "invalid_request"
    assert api.core.proposed == []
