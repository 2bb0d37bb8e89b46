"""S26, the end of the interpreter: live handles hold up no process and crash none."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.boundary.scripts import Ended, run_script

#: Starts a server and a connected session, then does BODY and comes to its end.
_LIVE = """
    import asyncio, gc, json, os, sys, threading, time
    from pathlib import Path
    from tests.boundary.real_core import RealCore, create_token, server_options
    from zlayer_native import LeaseTable
    from zlayer_native._bridge import Server, Session
    from zlayer_native.errors import CoreStopped
    from zlayer_native.identity.authority import Authority

    root = Path(sys.argv[1])
    kept = []

    async def live():
        authority = Authority.open_or_create(root / "cluster")
        server = await Server.start(server_options(authority, root))
        core = RealCore(authority, server)
        session = Session.start(await core.session_options())
        assert (await session.next_event())["type"] == "connected"
        kept.extend([core, server, session])
        return core, server, session

    async def main():
        core, server, session = await live()
        BODY
        print("ending")

    asyncio.run(main())
"""

ENDINGS = {
    "falls_off_its_end": "pass",
    "forgets_its_handles": "kept.clear(); gc.collect()",
    "stops_its_session_only": "session.stop()",
    "stops_its_server_only": "await server.stop()",
    "has_commands_in_flight": """
        for _ in range(200):
            task = asyncio.ensure_future(server.propose(create_token()))
            kept.append(task)
        await asyncio.sleep(0)
    """,
    "waits_for_events": """
        kept.append(asyncio.ensure_future(session.next_event()))
        kept.append(asyncio.ensure_future(server.wait_revision(10**9, 3600)))
        await asyncio.sleep(0)
    """,
    "exits_in_the_middle": 'print("ending"); sys.exit(0)',
    "has_a_thread_that_looks": """
        def look():
            while True:
                try:
                    server.nodes({}), server.metrics(), session.state()
                except CoreStopped:
                    return
        threading.Thread(target=look, daemon=True).start()
        await asyncio.sleep(0.05)
    """,
    "has_a_thread_in_a_batch": """
        table = LeaseTable()
        handles = table.grant_many(500_000, now_ms=0, window_ms=1000)
        def renew():
            while True:
                table.renew_many(handles, now_ms=0, window_ms=1000)
        for _ in range(3):
            threading.Thread(target=renew, daemon=True).start()
        await asyncio.sleep(0.05)
    """,
    "has_a_thread_in_a_long_call": """
        other = Session.start({**await core.session_options(), "servers": ["127.0.0.1:9"]})
        kept.append(other)
        inside = threading.Event()
        def leave():
            inside.set()
            other.leave_blocking(60)
        threading.Thread(target=leave, daemon=True).start()
        inside.wait()
        await asyncio.sleep(0.05)
    """,
}


def run_ending(root: Path, body: str) -> Ended:
    indented = body.strip().replace("\n", "\n    ").replace("\n            ", "\n        ")
    return run_script(_LIVE.replace("BODY", indented), root, within=40)


@pytest.mark.parametrize("body", ENDINGS.values(), ids=ENDINGS.keys())
def test_s26_a_process_with_live_handles_ends_promptly(tmp_path: Path, body: str) -> None:
    ended = run_ending(tmp_path, body)
    assert ended.code == 0, ended.errors
    assert "ending" in ended.output
    assert ended.ending_s < 8, ended.errors
    noise = [line for line in ended.errors.splitlines() if "Task was destroyed" not in line]
    assert "Exception ignored" not in "".join(noise)


def test_s26_an_error_ends_a_process_with_that_error(tmp_path: Path) -> None:
    ended = run_ending(tmp_path, 'print("ending"); raise LookupError("of the program")')
    assert ended.code == 1
    assert ended.errors.splitlines()[-1] == "LookupError: of the program"
    assert ended.ending_s < 8


def test_s26_what_was_acknowledged_before_the_end_is_there_after_it(tmp_path: Path) -> None:
    assert run_ending(tmp_path, "jti = await core.token(); print(jti)").code == 0
    body = "print(sorted(t['jti'] for t in json.loads(server.tokens())['items']))"
    first, second = run_ending(tmp_path, "print(await core.token())"), run_ending(tmp_path, body)
    assert first.output.split()[0] in second.output


def test_s26_an_interrupt_stops_a_program_that_waits(tmp_path: Path) -> None:
    body = 'print("ready"); await session.next_event()\n        await asyncio.sleep(3600)'
    ended = run_script(_LIVE.replace("BODY", body), tmp_path, interrupt_on="ready", within=40)
    assert ended.code == -signal.SIGINT
    assert ended.errors.splitlines()[-1] == "KeyboardInterrupt"


def test_s26_an_interrupt_during_a_call_comes_after_it(tmp_path: Path) -> None:
    """The call is in Rust with the GIL released; its end is bounded by its own time limit."""
    ended = run_script(
        """
        import asyncio, os, signal, sys, threading
        from pathlib import Path
        from tests.boundary.real_core import real_core
        from zlayer_native._bridge import Session

        async def options():
            async with real_core(Path(sys.argv[1])) as core:
                return await core.session_options()

        session = Session.start({**asyncio.run(options()), "servers": ["127.0.0.1:9"]})
        interrupt = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
        try:
            interrupt.start()
            session.leave_blocking(2.0)
            while True:
                pass
        except KeyboardInterrupt:
            print("interrupted", session.state()["state"])
        """,
        tmp_path,
        within=40,
    )
    assert ended.code == 0, ended.errors
    assert ended.output.splitlines()[-1] == "interrupted stopped"
