"""`/api/v1/raft`, and how fresh a read is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.unit.api.api import EVENTS, JTI, NODES, RAFT, TOKENS, Api, problem
from zlayer_native.api.reading import HEADER
from zlayer_native.errors import NoLeader, OutcomeUnknown, ServersUnchanged

NEW = {"id": 4, "raft_addr": "10.0.0.4:3671", "api_addr": "10.0.0.4:3669"}


def member(server_id: int, lag: int = 0, *, voter: bool = True) -> dict[str, Any]:
    return {"id": server_id, "voter": voter, "lag": lag}


async def test_peers_are_what_the_leader_sees(api: Api) -> None:
    api.core.servers_view = {"items": [member(1), member(2)], "leader": 2, "is_changing": False}
    assert await api.get(f"{RAFT}/peers") == api.core.servers_view


async def test_without_a_leader_peers_are_what_this_server_knows(api: Api) -> None:
    api.core.servers_view = {"items": [member(1)], "leader": 2}
    api.core.refusal = NoLeader("no server leads")
    seen = await api.get(f"{RAFT}/peers")
    assert seen == {"items": [member(1)], "is_changing": False, "leader": None}


@pytest.mark.parametrize("learner", [True, False])
async def test_a_server_is_added_and_votes_unless_it_shall_not(api: Api, learner: bool) -> None:
    answer = await api.call("POST", f"{RAFT}/peers", json={**NEW, "learner": learner})
    assert answer.status_code == 201
    assert answer.json() == {**NEW, "voter": not learner}
    promoted = [{"promote": {"ids": [4]}}]
    assert api.core.asked == [{"add": NEW}, *([] if learner else promoted)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", 0),
        ("id", 1000),
        ("id", "4"),
        ("raft_addr", "10.0.0.4"),
        ("raft_addr", "0.0.0.0:3671"),
        ("api_addr", 3669),
        ("learner", "yes"),
        ("voter", True),
    ],
)
async def test_a_bad_server_is_named_and_nothing_asked(api: Api, field: str, value: Any) -> None:
    answer = await api.call("POST", f"{RAFT}/peers", json={**NEW, field: value})
    assert problem(answer, 400) == "invalid_request"
    assert answer.json()["error"]["message"].startswith(f"{field}: ")
    assert api.core.asked == []


async def test_a_server_is_removed(api: Api) -> None:
    answer = await api.call("DELETE", f"{RAFT}/peers/3")
    assert answer.json() == {"id": 3, "removed": True}
    assert api.core.asked == [{"remove": {"id": 3}}]
    assert problem(await api.call("DELETE", f"{RAFT}/peers/x"), 400) == "invalid_request"


async def test_leadership_goes_to_the_one_asked_for(api: Api) -> None:
    answer = await api.call("POST", f"{RAFT}/leader", json={"to": 3})
    assert answer.json() == {"leader": 3}
    assert api.core.asked == [{"transfer": {"to": 3}}]


async def test_the_core_says_who_leads_when_nobody_is_asked_for(api: Api) -> None:
    answer = await api.call("POST", f"{RAFT}/leader", json={})
    assert answer.json() == {"leader": 3}
    assert api.core.asked == [{"transfer": {"to": None}}]
    api.core.refusal = ServersUnchanged("there is no other server that votes", code="last_voter")
    assert problem(await api.call("POST", f"{RAFT}/leader", json={}), 409) == "last_voter"


async def test_a_backup_comes_whole_and_leaves_nothing_behind(api: Api) -> None:
    answer = await api.call("GET", f"{RAFT}/snapshot")
    assert answer.status_code == 200
    assert answer.content == api.core.backup
    assert await asyncio.to_thread(lambda: list(api.options.scratch.iterdir())) == []


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ServersUnchanged("server 9 is not a member", code="not_member"), 409, "not_member"),
        (OutcomeUnknown("nobody answered"), 503, "outcome_unknown"),
        (NoLeader("no server leads"), 503, "no_leader"),
    ],
)
async def test_why_not_has_a_code(api: Api, error: Exception, status: int, code: str) -> None:
    api.core.refusal = error
    assert problem(await api.call("DELETE", f"{RAFT}/peers/9"), status) == code


READS = [NODES, f"{NODES}/1000", EVENTS, TOKENS, f"{TOKENS}/{JTI}", "/api/v1/status"]


@pytest.mark.parametrize("path", READS)
async def test_a_read_is_as_fresh_as_it_is_asked_to_be(api: Api, path: str) -> None:
    api.core.node_views[1000] = {"id": 1000}
    api.core.token_views[JTI] = {"jti": JTI}
    stale = await api.call("GET", path)
    assert (stale.status_code, stale.headers[HEADER]) == (200, "stale")
    assert api.core.asked == []
    fresh = await api.call("GET", path, params={"consistency": "linearizable"})
    assert (fresh.status_code, fresh.headers[HEADER]) == (200, "linearizable")
    assert api.core.asked == [{"barrier": {}}]
    api.core.refusal = NoLeader("no server leads")
    none = await api.call("GET", path, params={"consistency": "linearizable"})
    assert problem(none, 503) == "no_leader"
    wrong = await api.call("GET", path, params={"consistency": "fresh"})
    assert problem(wrong, 400) == "invalid_request"
