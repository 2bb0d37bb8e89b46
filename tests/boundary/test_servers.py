"""Several servers through the native module, with certificates as the authority issues them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.boundary.real_core import create_token, server_options
from zlayer_native._native import ServerNode
from zlayer_native.errors import CoreError
from zlayer_native.identity.authority import Authority

Answer = tuple[dict[str, Any] | None, dict[str, Any] | None]


class Core:
    """One server, asked without the event loop's help."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.node = ServerNode.start(json.dumps(options).encode())
        self.member = {"id": options["node_id"], "raft_addr": self.node.raft_addr()}
        self._ticket = 0

    async def ask(self, question: dict[str, Any]) -> Answer:
        self._ticket += 1
        self.node.ask(self._ticket, json.dumps(question).encode())
        return await self._answer()

    async def propose(self, command: dict[str, Any]) -> Answer:
        self._ticket += 1
        self.node.submit(self._ticket, json.dumps(command).encode())
        return await self._answer()

    async def _answer(self) -> Answer:
        async with asyncio.timeout(30):
            while True:
                for ticket, outcome, error in self.node.drain():
                    if ticket == self._ticket:
                        return outcome and json.loads(outcome), error and json.loads(error)
                await asyncio.sleep(0.005)

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.node.status()))


@pytest.fixture
async def cores(tmp_path: Path) -> AsyncIterator[list[Core]]:
    authority = Authority.open_or_create(tmp_path / "cluster")
    started = []
    for node_id in (1, 2, 3):
        pair = authority.issue_server(node_id)
        root = tmp_path / str(node_id)
        root.mkdir()
        changes = {
            "node_id": node_id,
            "certificate_pem": pair.cert_pem,
            "key_pem": pair.key_pem,
            "raft": {"listen": "127.0.0.1:0"},
        }
        options = server_options(authority, root, **changes)
        started.append(await asyncio.to_thread(Core, options))
    yield started
    for core in started:
        await asyncio.to_thread(core.node.shutdown, 10)


async def led(cores: list[Core]) -> Core:
    """The one that all of them say leads."""
    async with asyncio.timeout(30):
        while True:
            said = {core.status()["leader"] for core in cores}
            for core in cores:
                if said == {core.member["id"]}:
                    return core
            await asyncio.sleep(0.01)


async def test_servers_form_agree_and_say_who_leads(cores: list[Core]) -> None:
    members = [core.member for core in cores]
    assert await cores[0].ask({"form": {"members": members}}) == ({"type": "done"}, None)
    leader = await led(cores)
    follower = next(core for core in cores if core is not leader)
    assert (await leader.propose(create_token()))[1] is None
    assert await follower.ask({"barrier": {}}) == ({"type": "done"}, None)
    page = json.loads(follower.node.tokens())
    assert len(page["items"]) == 1
    assert page["consistency"] == "stale"
    shown = json.loads(follower.node.members())["items"]
    assert [item["id"] for item in shown] == [1, 2, 3]
    assert all(item["voter"] for item in shown)
    assert (await follower.propose(create_token()))[1] is None
    seen, _ = await follower.ask({"members": {}})
    assert seen is not None
    assert seen["leader"] == leader.member["id"]
    assert [item["voter"] for item in seen["items"]] == [True, True, True]
    _, error = await leader.ask({"remove": {"id": 9}})
    assert error is not None
    assert (error["code"], error["leader_id"]) == ("not_member", None)
    with pytest.raises(CoreError, match="question"):
        leader.node.ask(0, b'{"remove": 9}')
