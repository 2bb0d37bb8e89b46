"""`Worker` in a Python process, against a real server: enrolment, life, farewell, and odd hosts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import zlayer_native as zl
from tests.boundary.live_server import LiveServer, live_server
from tests.boundary.scripts import run_script
from tests.cluster.harness import eventually
from zlayer_native.errors import EnrollmentError, IdentityError, ZLayerError
from zlayer_native.worker import NodeRemoved, Phase

READY_SECS = 20
TTL = {"min_ttl_secs": 2, "grace_secs": 1}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    with live_server(tmp_path / "server", **TTL) as running:
        yield running


@pytest.fixture
def options(server: LiveServer, tmp_path: Path) -> dict[str, Any]:
    """What a worker `w1` is made with; the token is in a file."""
    token = tmp_path / "token"
    token.write_text(server.token(labels_allowed=["zone"]) + "\n")
    return {
        "servers": [server.address],
        "token_file": token,
        "data_dir": tmp_path / "w1",
        "name": "w1",
        "labels": {"zone": "a"},
    }


# --- the ordinary life ------------------------------------------------------------------------


def test_it_enrols_stays_and_leaves(server: LiveServer, options: dict[str, Any]):
    with zl.Worker(**options) as worker:
        assert worker.wait_ready(READY_SECS)
        node = server.wait_state("w1", "Ready")
        assert (worker.node_id, worker.labels) == (node["id"], {"zone": "a"})
        assert node["labels"] == {"zone": "a"}
        assert node["profile"]["os"] == "linux"
        assert node["profile"]["cpu_cores"] > 0
        state = worker.state()
        assert (state.phase, state.server) == (Phase.CONNECTED, server.address)
        assert state.ttl_ms == 2000
        assert state.certificate_not_after is not None
    assert server.nodes()["w1"]["state"] == "Left"
    assert server.kinds("w1") == ["enrolled", "joined", "left"]
    assert worker.state().phase is Phase.STOPPED


def test_it_reports_the_machine_s_use(server: LiveServer, options: dict[str, Any]):
    with zl.Worker(**options) as worker:
        worker.wait_ready(READY_SECS)
        node = server.nodes()["w1"]  # Its first report has them.
        assert node["resources"]["memory_bytes"] > 0
        assert node["resources"]["disk_bytes"] > 0


def test_a_restart_keeps_the_id_and_needs_no_token(server: LiveServer, options: dict[str, Any]):
    with zl.Worker(**options) as worker:
        worker.wait_ready(READY_SECS)
        node_id = worker.node_id
    options["token_file"].unlink()
    with zl.Worker(**options) as worker:
        assert worker.wait_ready(READY_SECS)
        assert worker.node_id == node_id
        assert worker.labels == {"zone": "a"}
    assert server.token_uses() == 1
    assert server.kinds("w1") == ["enrolled", "joined", "left", "joined", "left"]


def test_one_object_can_be_started_again(server: LiveServer, options: dict[str, Any]):
    worker = zl.Worker(**options)
    for _ in range(2):
        worker.start()
        with pytest.raises(ZLayerError, match="runs already"):
            worker.start()
        assert worker.wait_ready(READY_SECS)
        worker.stop()
        worker.stop()
    assert server.kinds("w1") == ["enrolled", "joined", "left", "joined", "left"]


def test_a_used_up_token_is_refused_with_a_reason(
    server: LiveServer, options: dict[str, Any], tmp_path: Path
):
    with zl.Worker(**options):
        other = {**options, "data_dir": tmp_path / "w2", "name": "w2"}
        with pytest.raises(EnrollmentError, match="no uses left") as refused, zl.Worker(**other):
            pytest.fail("the block must not be entered")
        assert not refused.value.retryable
    assert "w2" not in server.nodes()


def test_a_start_without_a_server_ends_in_time(options: dict[str, Any]):
    worker = zl.Worker(**{**options, "servers": ["127.0.0.1:1"], "enrol_timeout": 0.5})
    with pytest.raises(EnrollmentError, match="can't be reached") as failed:
        worker.start()
    assert failed.value.retryable


def test_a_member_starts_also_when_no_server_answers(server: LiveServer, options: dict[str, Any]):
    with zl.Worker(**options) as worker:
        worker.wait_ready(READY_SECS)
        node_id = worker.node_id
    with zl.Worker(**{**options, "servers": ["127.0.0.1:1"]}) as worker:
        assert worker.node_id == node_id
        assert not worker.wait_ready(0.1)
        assert worker.state().phase is Phase.CONNECTING


def test_two_workers_of_one_identity_are_told_apart(options: dict[str, Any]):
    with zl.Worker(**options), pytest.raises(IdentityError, match="another Worker"):
        zl.Worker(**options).start()


def test_a_block_that_raises_leaves_too(server: LiveServer, options: dict[str, Any]):
    def block() -> None:
        with zl.Worker(**options) as worker:
            worker.wait_ready(READY_SECS)
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        block()
    assert server.kinds("w1") == ["enrolled", "joined", "left"]


def wait_end(worker: zl.Worker) -> None:
    """Waits until the membership has ended by an error."""
    eventually(lambda: "delete" in str(worker.state().last_error), within=5, what="it is cut off")
    assert worker.state().phase is Phase.REMOVED


def test_a_removed_node_ends_and_says_what_to_delete(server: LiveServer, options: dict[str, Any]):
    with zl.Worker(**options) as worker:
        worker.wait_ready(READY_SECS)
        assert worker.node_id is not None
        server.remove(worker.node_id)
        wait_end(worker)
        with pytest.raises(NodeRemoved, match=r"delete .*identity"):
            worker.wait_ready(READY_SECS)
    with zl.Worker(**options) as again, pytest.raises(NodeRemoved):
        again.wait_ready(READY_SECS)
    assert (options["data_dir"] / "worker" / "identity" / "cert.pem").exists()


# --- certificates ---------------------------------------------------------------------------------


def newer_than(ends_ms: int) -> Callable[[dict[str, Any]], bool]:
    """Whether a node has a certificate that ends later than that."""
    return lambda node: node["certificate_not_after_ms"] > ends_ms


def test_a_renewal_is_not_noticed(tmp_path: Path):
    # Dated back five minutes, so past its half when it comes: renewed every five seconds.
    with live_server(tmp_path / "server", life_s=20, **TTL) as server:
        given = {"servers": [server.address], "token": server.token(), "name": "w1"}
        with zl.Worker(**given, data_dir=tmp_path / "w1") as worker:
            worker.wait_ready(READY_SECS)
            ends = server.nodes()["w1"]["certificate_not_after_ms"]
            for _ in range(2):
                last, node = ends, server.wait_node("w1", newer_than(ends))
                ends = node["certificate_not_after_ms"]
            # The newest one is in use: the server has let go of the connection with the last.
            assert worker.wait_ready(0)
            not_after = worker.state().certificate_not_after
            assert not_after is not None
            assert not_after.timestamp() * 1000 >= last
            assert node["connected"]
            assert worker.state().phase is Phase.CONNECTED
        assert server.kinds("w1") == ["enrolled", "joined", "left"]


def wait_until(ends: datetime | None) -> None:
    assert ends is not None
    eventually(lambda: datetime.now(UTC) > ends, within=10, what="the certificate has expired")


def test_an_expired_certificate_is_renewed_at_the_start(tmp_path: Path):
    with live_server(tmp_path / "server", life_s=2, **TTL) as server:
        given = {"servers": [server.address], "data_dir": tmp_path / "w1", "name": "w1"}
        with zl.Worker(**given, token=server.token()) as worker:
            node_id, ends = worker.node_id, worker.state().certificate_not_after
        wait_until(ends)
        with zl.Worker(**given) as worker:
            assert worker.node_id == node_id
            assert worker.state().certificate_not_after > ends


def test_one_that_expired_too_long_ago_says_to_enrol_again(tmp_path: Path):
    with live_server(tmp_path / "server", life_s=1, renewal_grace_s=0, **TTL) as server:
        given = {"servers": [server.address], "data_dir": tmp_path / "w1", "name": "w1"}
        with zl.Worker(**given, token=server.token()) as worker:
            ends = worker.state().certificate_not_after
        wait_until(ends)
        with pytest.raises(EnrollmentError, match="enrol again with a token") as refused:
            zl.Worker(**given).start()
        assert "delete" in refused.value.__notes__[0]


# --- coroutines -----------------------------------------------------------------------------------


async def test_in_a_coroutine_it_lives_on_the_caller_s_loop(
    server: LiveServer, options: dict[str, Any]
):
    threads = set(asyncio.all_tasks())
    async with zl.Worker(**options) as worker:
        assert await worker.wait_ready_async(READY_SECS)
        assert {task.get_name() for task in asyncio.all_tasks() - threads} > {"zlayer-worker"}
        server.wait_state("w1", "Ready")
    assert server.kinds("w1") == ["enrolled", "joined", "left"]
    assert set(asyncio.all_tasks()) == threads


async def test_a_coroutine_that_raises_leaves_too(server: LiveServer, options: dict[str, Any]):
    async def block() -> None:
        async with zl.Worker(**options) as worker:
            await worker.wait_ready_async(READY_SECS)
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await block()
    assert server.kinds("w1") == ["enrolled", "joined", "left"]


async def test_a_task_that_is_cancelled_leaves_too(server: LiveServer, options: dict[str, Any]):
    ready = asyncio.Event()

    async def member() -> None:
        async with zl.Worker(**options) as worker:
            await worker.wait_ready_async(READY_SECS)
            ready.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(member())
    await ready.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.kinds("w1") == ["enrolled", "joined", "left"]


async def test_to_cancel_a_start_ends_the_enrolment(options: dict[str, Any]):
    worker = zl.Worker(**{**options, "servers": ["127.0.0.1:1"], "enrol_timeout": None})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await worker.start_async()
    with pytest.raises(TimeoutError):  # It can be started again: nothing of the first is left.
        async with asyncio.timeout(0.1):
            await worker.start_async()


async def test_a_removed_node_in_a_coroutine(server: LiveServer, options: dict[str, Any]):
    async with zl.Worker(**options) as worker:
        await worker.wait_ready_async(READY_SECS)
        assert worker.node_id is not None
        server.remove(worker.node_id)
        await asyncio.to_thread(wait_end, worker)
        with pytest.raises(NodeRemoved):
            await worker.wait_ready_async(READY_SECS)


async def test_the_plain_form_works_inside_a_running_loop(
    server: LiveServer, options: dict[str, Any]
):
    """A notebook always has a running loop."""
    with zl.Worker(**options) as worker:
        assert worker.wait_ready(READY_SECS)
        await asyncio.sleep(0)
        with pytest.raises(ZLayerError, match="async with"):
            await worker.wait_ready_async()
    assert server.kinds("w1") == ["enrolled", "joined", "left"]


# --- processes of their own -------------------------------------------------------------------


def program(options: dict[str, Any], body: str) -> tuple[str, str]:
    """A program with a `make()` that makes the worker, and its argument."""
    head = """
        import json, logging, os, sys, threading, asyncio
        import zlayer_native as zl
        from zlayer_native.errors import ForkedProcess, IdentityError
        from zlayer_native.testing import hold_gil
        logging.basicConfig(level=logging.INFO)
        options = json.loads(sys.argv[1])
        def make(): return zl.Worker(**options)
    """
    return head + body, json.dumps(options, default=str)


def run(options: dict[str, Any], body: str, **how: Any) -> Any:
    code, argument = program(options, body)
    return run_script(code, argument, **how)


def test_nothing_heavy_gets_into_the_process(options: dict[str, Any]):
    ended = run(
        options,
        """
        with make() as worker:
            worker.wait_ready(20)
            print([name for name in ("grpc", "google", "pydantic", "rich") if name in sys.modules])
        """,
    )
    assert (ended.code, ended.output) == (0, "[]\n"), ended.errors


def test_an_interpreter_that_ends_without_a_stop_leaves_and_ends_soon(
    server: LiveServer, options: dict[str, Any]
):
    ended = run(
        options,
        """
        worker = make()
        worker.start()
        worker.wait_ready(20)
        print("ending")
        """,
    )
    assert ended.code == 0, ended.errors
    assert ended.ending_s < 5
    assert server.kinds("w1") == ["enrolled", "joined", "left"]


def test_so_does_one_whose_loop_ended_without_a_stop(server: LiveServer, options: dict[str, Any]):
    ended = run(
        options,
        """
        loop = asyncio.new_event_loop()
        worker = make()
        loop.run_until_complete(worker.start_async())
        loop.run_until_complete(worker.wait_ready_async(20))
        print("ending")
        """,
    )
    assert ended.code == 0, ended.errors
    assert ended.ending_s < 5
    assert server.kinds("w1") == ["enrolled", "joined", "left"]


def test_an_end_without_a_server_does_not_hang(server: LiveServer, options: dict[str, Any]):
    with zl.Worker(**options):
        pass
    ended = run(
        {**options, "servers": ["127.0.0.1:1"]},
        """
        make().start()
        print("ending")
        """,
    )
    assert ended.code == 0, ended.errors
    assert ended.ending_s < 5


def test_an_end_while_it_enrols_does_not_hang(options: dict[str, Any]):
    ended = run(
        {**options, "servers": ["127.0.0.1:1"], "enrol_timeout": None},
        """
        threading.Thread(target=make().start, daemon=True).start()
        while "zlayer-worker" not in [thread.name for thread in threading.enumerate()]:
            pass
        print("ending")
        """,
    )
    assert ended.code == 0, ended.errors
    assert ended.ending_s < 10


def test_ctrl_c_in_the_block_leaves(server: LiveServer, options: dict[str, Any]):
    ended = run(
        options,
        """
        with make() as worker:
            worker.wait_ready(20)
            print("ready")
            threading.Event().wait()
        """,
        interrupt_on="ready",
    )
    assert "KeyboardInterrupt" in ended.errors
    assert server.kinds("w1") == ["enrolled", "joined", "left"]


def test_a_forked_child_says_so_and_takes_nothing_from_its_parent(
    server: LiveServer, options: dict[str, Any]
):
    ended = run(
        options,
        """
        def child(worker):
            for call in (worker.state, worker.stop, lambda: worker.wait_ready(0)):
                try:
                    call()
                except ForkedProcess as error:
                    print(type(error).__name__)
            try:
                worker.start()  # Its own, and the folder is the parent's.
            except IdentityError as error:
                print("has this identity" in str(error))

        with make() as worker:
            worker.wait_ready(20)
            beats = worker.state().beats
            pid = os.fork()
            if pid == 0:
                child(worker)
                sys.stdout.flush()
                sys.exit(0)  # Through the block's end and atexit.
            assert os.waitpid(pid, 0)[1] == 0
            while worker.state().beats < beats + 2:
                threading.Event().wait(0.05)
            print(worker.state().phase, worker.state().reconnects)
        """,
    )
    assert ended.code == 0, ended.errors
    assert ended.output.split() == [*["ForkedProcess"] * 3, "True", "connected", "0"]
    assert server.kinds("w1") == ["enrolled", "joined", "left"]


def test_a_forked_child_can_be_a_worker_of_its_own(
    server: LiveServer, options: dict[str, Any], tmp_path: Path
):
    own = {**options, "token_file": None, "token": server.token(), "name": "w2", "labels": {}}
    ended = run(
        {"first": options, "second": {**own, "data_dir": tmp_path / "w2"}},
        """
        with zl.Worker(**options["first"]) as worker:
            worker.wait_ready(20)
            pid = os.fork()
            if pid == 0:
                with zl.Worker(**options["second"]) as second:
                    os._exit(0 if second.wait_ready(20) else 1)
            print(os.waitpid(pid, 0)[1], worker.state().phase)
        """,
    )
    assert ended.output == "0 connected\n", ended.errors
    assert server.kinds("w2")[:2] == ["enrolled", "joined"]


def test_a_killed_parent_is_missed_at_once_although_its_forked_child_lives(
    server: LiveServer, options: dict[str, Any]
):
    code, argument = program(
        options,
        """
        import signal
        with make() as worker:
            worker.wait_ready(20)
            pid = os.fork()
            if pid == 0:
                sys.stdin.read()  # Lives until the test lets go of it.
                os._exit(0)
            print(pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    command = [sys.executable, "-c", textwrap.dedent(code), argument]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        child = int(process.stdout.readline())
        assert process.wait(10) == -signal.SIGKILL
        server.wait_state("w1", "Suspect", within=1)
        os.kill(child, 0)  # It is still there.
        process.stdin.close()


def test_a_held_gil_is_not_noticed(server: LiveServer, options: dict[str, Any]):
    ended = run(
        options,
        """
        with make() as worker:
            worker.wait_ready(20)
            acks = worker.state().acks
            hold_gil(6)  # Three times the TTL, twice the lease.
            print(worker.state().phase, worker.state().acks - acks >= 2)
        """,
    )
    assert (ended.code, ended.output) == (0, "connected True\n"), ended.errors
    assert server.kinds("w1") == ["enrolled", "joined", "left"]


def test_a_process_with_loops_and_grpc_of_its_own_is_no_matter(
    server: LiveServer, options: dict[str, Any]
):
    """Its grpc.aio loop goes on while a worker enrols beside it."""
    ended = run(
        options,
        """
        import grpc.aio

        async def main():
            own = grpc.aio.server()
            port = own.add_insecure_port("127.0.0.1:0")
            await own.start()
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
            with make() as worker:
                await channel.channel_ready()
                assert worker.wait_ready(20)
            await channel.close()
            await own.stop(None)
            print("done")

        asyncio.run(main())
        """,
    )
    assert (ended.code, ended.output) == (0, "done\n"), ended.errors
    assert "BlockingIOError" not in ended.errors
