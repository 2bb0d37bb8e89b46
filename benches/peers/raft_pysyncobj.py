"""Three PySyncObj servers on loopback, each loaded from inside: puts, and leader kills."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benches.peers.waiting import wait


class PySyncObjServer:
    def __init__(self, address: str, others: list[str], folder: Path) -> None:
        self.address = address
        self._log = folder / f"{address.rpartition(':')[2]}.log"
        script = Path(__file__).with_name("pysyncobj_server.py")
        journal = folder / address.rpartition(":")[2] / "journal"
        self._command = [sys.executable, str(script), address, *others, str(journal)]
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )

    def ask(self, do: str, **question: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, **question}).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"pysyncobj ended:\n{self._log.read_text()[-2000:]}")
        return json.loads(line)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close_pipes(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class PySyncObjTrio:
    """A context: the processes end with it."""

    def __init__(self, folder: Path, ports: list[int]) -> None:
        addresses = [f"127.0.0.1:{port}" for port in ports[:3]]
        self.servers = [
            PySyncObjServer(own, [other for other in addresses if other != own], folder)
            for own in addresses
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in self.servers:
            server.kill()
            server.close_pipes()

    def wait_leader(self) -> PySyncObjServer:
        """The one that all say leads, once all have applied what it has committed."""

        def agreed() -> PySyncObjServer | None:
            said = {server.ask("status")["leader"] for server in self.servers}
            return next((server for server in self.servers if said == {server.address}), None)

        leader = wait(agreed, "pysyncobj does not agree on a leader")
        committed = leader.ask("status")["committed"]

        def held() -> bool:
            return all(s.ask("status")["applied"] >= committed for s in self.servers)

        wait(held, "a pysyncobj server does not catch up")
        return leader

    def commits(self, in_flight: int, value_bytes: int, seconds: float) -> dict[str, Any]:
        """Puts from inside the leader, so many in flight."""
        return self.wait_leader().ask(
            "load",
            in_flight=in_flight,
            value_bytes=value_bytes,
            seconds=seconds,
            warm_up_seconds=1.0,
            server_pids=[server.process.pid for server in self.servers],
        )

    def write(self, every_ms: float, value_bytes: int) -> None:
        """Starts writing at a pace in every server."""
        for server in self.servers:
            server.ask("write", every_ms=every_ms, value_bytes=value_bytes)

    def fail_over(self, every_ms: float, value_bytes: int) -> float:
        """Kills the leader; seconds from then to a survivor's first commit with another leader."""
        leader = self.wait_leader()
        survivors = [server for server in self.servers if server is not leader]

        def flowing() -> bool:
            return any(s.ask("status")["firsts"] for s in survivors)

        wait(flowing, "no writes reach pysyncobj's leader")
        killed_ns = time.monotonic_ns()
        leader.kill()

        def taken() -> int | None:
            firsts = [first for s in survivors for first in s.ask("status")["firsts"]]
            return min(
                (at for who, at in firsts if who != leader.address and at > killed_ns), default=None
            )

        took_ns = wait(taken, "no pysyncobj survivor commits") - killed_ns
        leader.close_pipes()
        leader.start()
        leader.ask("write", every_ms=every_ms, value_bytes=value_bytes)
        return took_ns / 1e9
