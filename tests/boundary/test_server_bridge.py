"""`Server`: many commands, each answered once with its own answer; none is left without one."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import threading
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.boundary.real_core import create_token, real_core, redeem, server_options
from zlayer_native._bridge import Server
from zlayer_native.errors import CoreError, CoreStopped, Overloaded, TokenNotFound
from zlayer_native.identity.authority import Authority

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.mark.parametrize("loop_factory", LOOPS, ids=["asyncio", "uvloop"])
def test_ten_thousand_commands_are_answered_each_with_its_own(
    tmp_path: Path, loop_factory: Any
) -> None:
    count = 10_000

    async def run() -> None:
        async with real_core(tmp_path) as core:
            jti = await core.token(uses=count)
            places = asyncio.Semaphore(2_000)  # The core takes 4,096 at once.
            answered: list[int] = []

            async def enrol(number: int) -> None:
                async with places:
                    outcome = await core.server.propose(redeem(jti, 1 + number, name=f"n{number}"))
                assert outcome["name"] == f"n{number}"
                assert outcome["first"] is True
                answered.append(outcome["node_id"])

            await asyncio.gather(*map(enrol, range(count)))
            assert sorted(answered) == list(range(1000, 1000 + count))
            assert json.loads(core.server.status())["workers"]["total"] == count
            assert len(json.loads(core.server.token(jti) or b"")["uses"]) == count
            assert core.server._waiting == {}

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())


async def test_one_callers_commands_keep_their_order(tmp_path: Path) -> None:
    async with real_core(tmp_path) as core:
        kinds = ["token_created", "token_revoked"] * 100
        for _ in range(100):
            jti = await core.token()
            await core.server.propose({"type": "revoke_token", "jti": jti})
        events = json.loads(core.server.events(0, 1000))["items"]
        assert [event["kind"] for event in events] == kinds
        assert [event["revision"] for event in events] == list(range(1, 201))


async def test_answers_and_refusals_that_are_mixed_find_their_callers(tmp_path: Path) -> None:
    async with real_core(tmp_path) as core:
        jti = await core.token(uses=1000)

        async def one(number: int) -> None:
            await asyncio.sleep(random.random() / 50)
            match number % 3:
                case 0:
                    outcome = await core.server.propose(redeem(jti, number + 1, name=f"n{number}"))
                    assert outcome["name"] == f"n{number}"
                case 1:
                    with pytest.raises(TokenNotFound, match=f"{number:032x}"):
                        await core.server.propose({"type": "revoke_token", "jti": f"{number:032x}"})
                case _:
                    assert await core.server.propose(create_token()) == {"type": "done"}

        await asyncio.gather(*map(one, range(900)))


async def test_more_than_it_takes_is_refused_and_the_rest_is_done(tmp_path: Path) -> None:
    async with real_core(tmp_path, limits={"commands_max": 8}) as core:
        answers = await asyncio.gather(
            *(core.server.propose(create_token()) for _ in range(500)), return_exceptions=True
        )
        kinds = Counter(type(answer) for answer in answers)
        assert kinds.keys() == {dict, Overloaded}
        assert kinds[dict] >= 8
        assert len(json.loads(core.server.tokens())["items"]) == kinds[dict]
        assert await core.server.propose(create_token()) == {"type": "done"}


async def test_a_stop_answers_every_command_and_its_answers_are_true(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "cluster")
    done: set[str] = set()
    unknown: set[str] = set()
    refused: set[str] = set()

    async def propose(server: Server) -> None:
        command = create_token()
        try:
            await server.propose(command)
            done.add(command["jti"])
        except CoreStopped:
            unknown.add(command["jti"])
        except Overloaded:
            refused.add(command["jti"])

    for _ in range(5):
        server = await Server.start(server_options(authority, tmp_path))
        tasks = [asyncio.create_task(propose(server)) for _ in range(300)]
        await asyncio.sleep(random.random() / 100)
        async with asyncio.timeout(20):
            await server.stop()
            await asyncio.gather(*tasks)
        assert server._waiting == {}
        with pytest.raises(CoreStopped):
            await server.propose(create_token())
    assert len(done) + len(unknown) + len(refused) == 5 * 300
    server = await Server.start(server_options(authority, tmp_path))
    recorded = {token["jti"] for token in json.loads(server.tokens())["items"]}
    await server.stop()
    assert done <= recorded <= done | unknown
    assert done


async def test_stopping_again_or_twice_at_once_is_no_error(tmp_path: Path) -> None:
    async with real_core(tmp_path) as core:
        await asyncio.gather(core.server.stop(), core.server.stop())
        await core.server.stop()


async def test_a_stopped_server_is_gone_and_its_log_is_free(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "cluster")
    for _ in range(3):
        server = await Server.start(server_options(authority, tmp_path))
        with pytest.raises(CoreError, match="control"):
            await Server.start(server_options(authority, tmp_path))
        await server.stop()
        gone = weakref.ref(server)
        del server
        gc.collect()
        assert gone() is None


async def test_a_caller_that_is_cancelled_leaves_nothing_behind(tmp_path: Path) -> None:
    async with real_core(tmp_path) as core:
        tasks = [asyncio.create_task(core.server.propose(create_token())) for _ in range(200)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(answer == {"type": "done"} for answer in answers[1::2])
        assert core.server._waiting == {}


async def test_waiters_for_a_revision_wake_with_it_or_with_the_time(tmp_path: Path) -> None:
    async with real_core(tmp_path) as core:
        assert await core.server.wait_revision(0, 0.01) == 0
        waiting = [asyncio.create_task(core.server.wait_revision(0, 20)) for _ in range(50)]
        await asyncio.sleep(0)
        await core.token()
        assert await asyncio.gather(*waiting) == [1] * 50
        assert await core.server.wait_revision(0, 20) == 1
        late = asyncio.create_task(core.server.wait_revision(99, 3600))
        await asyncio.sleep(0)
        await core.server.stop()
        async with asyncio.timeout(5):
            assert await late == 1


async def test_threads_look_while_the_loop_writes(tmp_path: Path) -> None:
    async with real_core(tmp_path) as core:
        server, stop = core.server, threading.Event()
        looks = [0] * 6
        wrong: list[object] = []

        def look(index: int) -> None:
            last = 0
            while not stop.is_set():
                page = json.loads(server.events(0, 1000))
                revisions = [event["revision"] for event in page["items"]]
                if revisions != list(range(1, len(revisions) + 1)) or page["revision"] < last:
                    wrong.append(page)
                last = page["revision"]
                nodes = json.loads(server.nodes({"limit": 10}))["items"]
                if nodes and json.loads(server.node(nodes[0]["id"]) or b"{}")["id"] != 1000:
                    wrong.append(nodes)
                json.loads(server.tokens())
                json.loads(server.status())
                server.metrics()
                looks[index] += 1

        threads = [threading.Thread(target=look, args=(index,)) for index in range(len(looks))]
        for thread in threads:
            thread.start()
        for _ in range(200):
            await core.node()
        stop.set()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert wrong == []
        assert all(looks)


async def test_s26_memory_is_collected_while_answers_are_on_their_way(tmp_path: Path) -> None:
    async with real_core(tmp_path) as core:
        threshold = gc.get_threshold()
        gc.set_threshold(1, 1, 1)
        try:
            await asyncio.gather(*(core.token() for _ in range(200)))
            waiting = asyncio.create_task(core.server.wait_revision(200, 20))
            await asyncio.sleep(0)
            gc.collect()
            await core.token()
            assert await waiting == 201
        finally:
            gc.set_threshold(*threshold)


async def test_two_servers_share_a_loop(tmp_path: Path) -> None:
    async with real_core(tmp_path / "a") as first, real_core(tmp_path / "b") as second:
        assert first.server.address != second.server.address
        await asyncio.gather(*(core.token() for core in (first, second) * 50))
        for core in (first, second):
            assert len(json.loads(core.server.tokens())["items"]) == 50
