"""Several servers that agree, each a process with a folder of its own: for `bench raft`."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from zlayer_native.cli.child import Child
from zlayer_native.errors import CoreError, LoadError
from zlayer_native.identity.authority import Authority

T = TypeVar("T")

#: Seconds for the servers to agree on something. Chosen: far beyond every election.
_AGREE_SECS = 60.0
_POLL_SECS = 0.005
#: As a worker tier has by default; no worker comes here.
_TTL = {
    "min_ttl_secs": 10,
    "max_ttl_secs": 600,
    "grace_secs": 10,
    "max_heartbeats_per_second": 50,
    "failover_ttl_secs": 300,
}


class RaftServer:
    """One of them, asked over its standard input."""

    def __init__(self, node_id: int, folder: Path) -> None:
        self.node_id = node_id
        self.folder = folder
        self.start()

    def start(self) -> None:
        """Starts the process; it takes up what its folder holds."""
        args = ["bench", "raft-server", str(self.folder / "options.json")]
        self.child = Child(args, self.folder / "server.log", talks=True)

    def ask(self, do: str, **question: Any) -> dict[str, Any]:
        """Waits for the answer.

        Raises:
            LoadError: the process has ended, or says so.
        """
        popen = self.child.popen
        assert popen.stdin is not None  # noqa: S101 - for the type checker: it talks
        assert popen.stdout is not None  # noqa: S101
        try:
            popen.stdin.write(json.dumps({"do": do, **question}).encode() + b"\n")
            popen.stdin.flush()
            line = popen.stdout.readline()
        except OSError:
            line = b""
        if not line:
            raise LoadError(f"server {self.node_id} has ended:\n{self.child.last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LoadError(f"server {self.node_id}: {answer['error']}")
        return answer

    def stop(self) -> None:
        """Ends the process and the pipes."""
        popen = self.child.popen
        if popen.stdin is not None:
            popen.stdin.close()  # The end of its input is the end of its work.
        self.child.stop()
        if popen.stdout is not None:
            popen.stdout.close()


class RaftServers:
    """A context: the processes end and the folder is removed with it."""

    def __init__(self, count: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="zlayer-"))
        self.servers: list[RaftServer] = []
        try:
            self._start(count)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self, count: int) -> None:
        authority = Authority.create(self.folder / "cluster")
        members: list[dict[str, Any]] = [
            {"id": node_id, "raft_addr": f"127.0.0.1:{port}"}
            for node_id, port in enumerate(_free_ports(count), start=1)
        ]
        for member in members:
            node_id = member["id"]
            folder = self.folder / str(node_id)
            folder.mkdir(mode=0o700)
            pair = authority.issue_server(node_id)
            options = {
                "cluster_id": authority.cluster_id,
                "node_id": node_id,
                "listen": "127.0.0.1:0",
                "join_socket": str(folder / "join.sock"),
                "control_dir": str(folder / "control"),
                "certificate_pem": pair.cert_pem,
                "key_pem": pair.key_pem,
                "ca_pem": authority.ca_pem,
                "ttl": _TTL,
                "raft": {"listen": member["raft_addr"], "members": members},
            }
            (folder / "options.json").write_text(json.dumps(options))
            self.servers.append(RaftServer(node_id, folder))

    @property
    def pids(self) -> list[int]:
        """Of all servers."""
        return [server.child.pid for server in self.servers]

    def wait_leader(self) -> RaftServer:
        """The one that all of them say leads, once all have what it has committed.

        Raises:
            CoreError: they don't agree.
        """
        leader = self._wait(self._agreed, "the servers do not agree on a leader")
        committed = leader.ask("status")["log"]["commit_index"]
        self._wait(lambda: self._all_have(committed), "a server does not catch up")
        return leader

    def _agreed(self) -> RaftServer | None:
        said = {server.ask("status")["leader"] for server in self.servers}
        return next((server for server in self.servers if said == {server.node_id}), None)

    def _all_have(self, index: int) -> bool:
        views = (server.ask("status") for server in self.servers)
        return all(view["log"]["last_index"] >= index for view in views)

    def fail_over(self) -> float:
        """Kills the leader and starts it again.

        Returns:
            Seconds from the kill to the first commit that a survivor acknowledged.

        Raises:
            CoreError: no survivor takes over.
        """
        leader = self.wait_leader()
        survivors = [server for server in self.servers if server is not leader]
        killed_ns = time.monotonic_ns()
        leader.child.kill()

        def taken() -> int | None:
            stamps = (stamp for s in survivors for stamp in s.ask("status")["took_over_ns"])
            return min((stamp for stamp in stamps if stamp > killed_ns), default=None)

        took_ns = self._wait(taken, "no survivor commits") - killed_ns
        leader.stop()
        leader.start()
        leader.ask("write")
        return took_ns / 1e9

    @staticmethod
    def _wait(check: Callable[[], T | None], problem: str) -> T:
        deadline = time.monotonic() + _AGREE_SECS
        while not (value := check()):
            if time.monotonic() > deadline:
                raise CoreError(f"{problem} within {_AGREE_SECS:g} s")
            time.sleep(_POLL_SECS)
        return value

    def close(self) -> None:
        """Ends every server and removes the folder."""
        for server in self.servers:
            server.child.ask_to_stop()
        for server in self.servers:
            server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now; all are held at once, so that no two are alike."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
