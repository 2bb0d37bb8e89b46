"""S22: a server is killed and started again; its whole fleet is back, nobody is called dead."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.boundary.scripts import ROOT
from tests.cluster.harness import eventually
from zlayer_native._bridge import run_load

#: Runs a server on an address and answers each line of its input with what the line asks for.
_SERVER = """
import asyncio, json, sys
from pathlib import Path
from tests.boundary.real_core import real_core, redeem

async def nodes(core, count):
    jti, ids = await core.token(uses=count), []
    places = asyncio.Semaphore(1000)
    async def one(key):
        async with places:
            ids.append((await core.server.propose(redeem(jti, key)))["node_id"])
    await asyncio.gather(*map(one, range(1, count + 1)))
    return ids

async def main(root, listen):
    async with real_core(root, listen=listen) as core:
        hello = {"address": core.server.address, "cluster_id": core.cluster_id}
        print(json.dumps(hello), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            verb, argument = json.loads(line)
            if verb == "nodes":
                answer = await nodes(core, argument)
            elif verb == "status":
                answer = json.loads(core.server.status())
            else:
                answer = json.loads(core.server.events(argument, 1_000_000))["items"]
            print(json.dumps(answer), flush=True)

asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


class ServerProcess:
    """A server that can be killed."""

    def __init__(self, root: Path, listen: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, str(root), listen],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.hello: dict[str, str] = self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the server has ended"
        return json.loads(line)

    def ask(self, verb: str, argument: int = 0) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([verb, argument]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def connected(self) -> int:
        return int(self.ask("status")["workers"]["connected"])

    def kill(self) -> None:
        with self._process as process:
            process.kill()


@pytest.mark.parametrize(
    ("workers", "seconds"),
    [
        pytest.param(300, 15, marks=pytest.mark.timeout(240)),
        pytest.param(10_000, 120, marks=[pytest.mark.slow, pytest.mark.timeout(1200)]),
    ],
)
def test_s22_a_fleet_is_back_within_a_minute_and_nobody_was_called_dead(
    tmp_path: Path, workers: int, seconds: int
) -> None:
    server = ServerProcess(tmp_path, "127.0.0.1:0")
    address = server.hello["address"]
    try:
        options = {
            "kind": "enroll_and_run",
            "phase": "paced",
            "server": address,
            "cluster_id": server.hello["cluster_id"],
            "ca_pem": (tmp_path / "cluster" / "ca.pem").read_text(),
            "identities": {
                "ca_key_pem": (tmp_path / "cluster" / "ca.key").read_text(),
                "node_ids": server.ask("nodes", workers),
            },
            "workers": workers,
            "seconds": seconds,
            "server_pid": os.getpid(),  # The server's own ends; its figures are of no interest.
        }
        reports: list[dict[str, Any]] = []
        swarm = threading.Thread(target=lambda: reports.append(run_load(options)))
        swarm.start()
        eventually(lambda: server.connected() == workers, within=120, what="all are connected")
        revision = server.ask("status")["revision"]
        server.kill()
        server = ServerProcess(tmp_path, address)
        assert server.ask("status")["workers"]["total"] == workers
        eventually(lambda: server.connected() == workers, within=60, what="all are back")
        swarm.join()
        (report,) = reports
        assert report["false_suspects"] >= workers  # Every session saw its server die.
        # Its last lease may have ended meanwhile, as far as a worker can know: the server that came
        # after gives everybody the time to come back, and what it says is what counts.
        kinds = {event["kind"] for event in server.ask("events", revision)}
        assert kinds <= {"joined", "left"}
        assert server.ask("status")["workers"]["Left"] == workers
    finally:
        server.kill()
