"""S26, fork: a handle that was copied into a child says so there, and works on in its parent."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.boundary.scripts import run_script

#: A parent with a live server and a connected session forks; `child` is what the child does.
_PROGRAM = """
    import asyncio, contextlib, gc, json, os, sys, threading
    from pathlib import Path
    from tests.boundary.real_core import create_token, real_core
    from zlayer_native import LeaseTable
    from zlayer_native._bridge import Session
    from zlayer_native.errors import ForkedProcess

    def calls(core, session, options):
        server = core.server
        identity = [options[key] for key in ("certificate_pem", "key_pem", "ca_pem")]
        return {
            "server.propose": lambda: server.propose(create_token()),
            "server.wait_revision": lambda: server.wait_revision(10**9, 5),
            "server.stop": lambda: server.stop(),
            "server.nodes": lambda: server.nodes({}),
            "server.node": lambda: server.node(1000),
            "server.tokens": lambda: server.tokens(),
            "server.token": lambda: server.token("0" * 32),
            "server.events": lambda: server.events(0, 10),
            "server.status": lambda: server.status(),
            "server.metrics": lambda: server.metrics(),
            "server.set_identity": lambda: server.set_identity(*identity),
            "session.state": lambda: session.state(),
            "session.set_resources": lambda: session.set_resources(1, 2, 3),
            "session.set_identity": lambda: session.set_identity(*identity),
            "session.next_event": lambda: session.next_event(),
            "session.leave": lambda: session.leave(5),
            "session.leave_blocking": lambda: session.leave_blocking(5),
            "session.stop": lambda: session.stop(),
        }

    def forked(calls):
        for name, call in calls.items():
            try:
                result = call()
                if asyncio.iscoroutine(result):
                    asyncio.run(result)
            except ForkedProcess as error:
                assert str(os.getppid()) in str(error) and str(os.getpid()) in str(error), error
                assert "after the fork" in str(error), error
            else:
                print("NOT REFUSED", name)

    async def main(root):
        async with real_core(root) as core:
            options = await core.session_options()
            session = Session.start(options)
            assert (await session.next_event())["type"] == "connected"
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                CHILD
            _, status = await asyncio.to_thread(os.waitpid, pid, 0)
            print("child", os.waitstatus_to_exitcode(status))
            # The parent goes on: commands are answered, events wake it, the session beats.
            await core.token()
            revision = json.loads(core.server.status())["revision"]
            waiting = asyncio.create_task(core.server.wait_revision(revision, 20))
            await asyncio.sleep(0)
            await core.token()
            assert await waiting > revision
            assert session.state()["state"] == "connected"
            await core.server.propose({"type": "remove_node", "node_id": options["node_id"]})
            while (event := await session.next_event())["type"] != "refused":
                pass
            session.stop()
            print("parent", event["removed"])

    asyncio.run(main(Path(sys.argv[1])))
"""


def run_parent(root: Path, child: str) -> list[str]:
    ended = run_script(_PROGRAM.replace("CHILD", child), root)
    assert ended.code == 0, ended.errors
    assert ended.output.splitlines()[-1] == "parent True"
    return ended.output.splitlines()[:-1]


def test_s26_every_call_of_a_handle_is_refused_in_a_child(tmp_path: Path) -> None:
    child = "forked(calls(core, session, options)); sys.stdout.flush(); os._exit(7)"
    assert run_parent(tmp_path, child) == ["child 7"]


@pytest.mark.parametrize(
    "child",
    ["del server, session; gc.collect(); os._exit(7)", "sys.exit(7)"],
    ids=["thrown_away", "interpreter_ends"],
)
def test_s26_a_child_that_destroys_its_handles_ends_and_harms_nobody(
    tmp_path: Path, child: str
) -> None:
    """The threads that a handle would wait for are not there."""
    ended = run_script(
        f"""
        import asyncio, gc, json, os, select, sys
        from pathlib import Path
        from tests.boundary.real_core import real_core, server_options
        from zlayer_native._native import ServerNode, WorkerSession
        from zlayer_native.identity.authority import Authority

        root = Path(sys.argv[1])

        async def options():
            async with real_core(root) as core:
                return await core.session_options()

        worker = asyncio.run(options())
        authority = Authority.open(root / "cluster")
        server = ServerNode.start(json.dumps(server_options(authority, root)).encode())
        worker["servers"] = [server.local_addr()]
        session = WorkerSession.start(json.dumps(worker).encode())

        def connected():
            select.select([session.wake_fd()], [], [], 20)
            return any(json.loads(event)["type"] == "connected" for event in session.drain())

        assert connected()
        if (pid := os.fork()) == 0:
            {child}
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        assert json.loads(session.state())["state"] == "connected"
        server.submit(5, b'{{"type": "revoke_token", "jti": "00"}}')
        done = []
        while not done:
            select.select([server.wake_fd()], [], [], 20)
            done = server.drain()
        assert done[0][0] == 5 and "token_not_found" in done[0][2]
        session.stop()
        server.shutdown(5.0)
        print("ending")
        """,
        tmp_path,
        within=30,
    )
    assert ended.code == 0, ended.errors
    assert ended.output.split() == ["7", "ending"]
    assert ended.ending_s < 5


def test_s26_a_child_can_have_handles_of_its_own(tmp_path: Path) -> None:
    child = """
                table = LeaseTable()
                handle = table.grant(now_ms=0, window_ms=1)
                assert [lease.handle for lease in table.expire(now_ms=5)] == [handle]

                async def fresh():
                    async with real_core(root / "child") as own:
                        await own.token()
                        other = Session.start(await own.session_options())
                        assert (await other.next_event())["type"] == "connected"
                        other.stop()

                asyncio.run(fresh())
                os._exit(7)
    """.strip()
    assert run_parent(tmp_path, child) == ["child 7"]


def test_s26_a_lease_table_is_memory_and_goes_into_the_child(tmp_path: Path) -> None:
    """It has no thread: parent and child have a copy each."""
    ended = run_script(
        """
        import os
        from zlayer_native import LeaseTable
        table = LeaseTable()
        handle = table.grant(now_ms=0, window_ms=1000)
        if (pid := os.fork()) == 0:
            assert table.renew(handle, now_ms=500, window_ms=1000) == 1500
            table.revoke(handle)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert table.deadline_ms(handle) == 1000
        """
    )
    assert ended.code == 0, ended.errors
