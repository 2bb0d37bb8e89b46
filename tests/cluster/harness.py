"""Real `zlayerd` processes for cluster tests: free ports, temporary folders, ended by id."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx

T = TypeVar("T")

ZLAYERD = [sys.executable, "-m", "zlayer_native.cli"]


def free_port() -> int:
    """A port that nobody listens on now; the daemon binds it right after."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(check: Callable[[], T], *, within: float, what: str) -> T:
    """Polls `check` until it is true; fails with `what` after `within` seconds."""
    deadline = time.monotonic() + within
    while not (value := check()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what} (last: {value!r})")
        time.sleep(0.02)
    return value


class Process:
    """One `zlayerd` process with its output in a file."""

    def __init__(self, args: Sequence[str], log: Path, program: Sequence[str] = ZLAYERD) -> None:
        self.log = log
        self._output = log.open("ab")
        self.popen = subprocess.Popen(
            [*program, *args],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "NO_COLOR": "1"},
        )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        """`kill -9`, and waits until the process is gone."""
        self.popen.kill()
        self.popen.wait()

    def terminate(self, within: float = 15.0) -> int:
        """SIGTERM; returns the exit code."""
        self.popen.terminate()
        return self.popen.wait(within)

    def wait(self, within: float) -> int:
        return self.popen.wait(within)

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.popen.send_signal(signal.SIGCONT)
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        self._output.close()


class Cluster:
    """One server and any number of workers below one folder."""

    def __init__(self, root: Path, *, config: dict[str, Any] | None = None) -> None:
        self.root = root
        self.data = root / "server"
        self.http_port = free_port()
        self.worker_port = free_port()
        self._peer = {"id": 1, "raft_addr": f"127.0.0.1:{free_port()}"}
        self.processes: list[Process] = []
        self.server: Process | None = None
        self._config = config or {}
        self._client: httpx.Client | None = None

    # --- server -------------------------------------------------------------------------------

    def start_server(self, program: Sequence[str] = ZLAYERD) -> Process:
        """Starts (or restarts) the server and waits until its API answers."""
        config = self.root / "server.json"
        config.write_text(json.dumps(self._document()))
        self.server = self._spawn(["server", "-c", str(config)], "server.log", program)
        server = self.server

        def healthy() -> bool:
            if server.popen.poll() is not None:
                raise AssertionError(f"the server ended:\n{server.text()}")
            with contextlib.suppress(httpx.HTTPError):
                return httpx.get(f"{self.url}/health", timeout=2).status_code == 200
            return False

        eventually(healthy, within=30, what="the server answers /health")
        return server

    def _document(self) -> dict[str, Any]:
        cluster = {
            "mode": "worker-tier",
            "role": "server",
            "node_id": 1,
            "peers": [{**self._peer, "api_addr": f"127.0.0.1:{self.http_port}"}],
            "worker_grpc_addr": f"127.0.0.1:{self.worker_port}",
            **self._config,
        }
        return {
            "name": "server-1",
            "data_dir": str(self.data),
            "http": {"bind": f"127.0.0.1:{self.http_port}"},
            "cluster": cluster,
        }

    # --- workers ------------------------------------------------------------------------------

    def token(self, *, uses: int = 1, args: Sequence[str] = ()) -> Path:
        """Makes a token with the CLI; returns the file that holds its line."""
        line = self.cli("token", "create", "-q", "--uses", str(uses), *args).strip()
        path = Path(tempfile.mkstemp(dir=self.root, prefix="token-")[1])
        path.write_text(line + "\n")
        return path

    def start_worker(
        self,
        name: str,
        token: Path | None,
        args: Sequence[str] = (),
        program: Sequence[str] = ZLAYERD,
    ) -> Process:
        """Starts a worker with its own data folder; it keeps its identity over restarts."""
        command = [
            "worker",
            "--server",
            f"127.0.0.1:{self.worker_port}",
            "--data-dir",
            str(self.root / name),
            "--name",
            name,
            *args,
        ]
        if token is not None:
            command += ["--token-file", str(token)]
        return self._spawn(command, f"{name}.log", program)

    def _spawn(self, args: Sequence[str], log: str, program: Sequence[str]) -> Process:
        process = Process(args, self.root / log, program)
        self.processes.append(process)
        return process

    # --- looking ------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def client(self) -> httpx.Client:
        if self._client is None:
            secret = (self.data / "admin.token").read_text().strip()
            self._client = httpx.Client(
                base_url=self.url, headers={"Authorization": f"Bearer {secret}"}, timeout=10
            )
        return self._client

    def get(self, path: str, **params: Any) -> Any:
        response = self.client.get(path, params=params)
        response.raise_for_status()
        return response.json()

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Nodes by name."""
        return {n["name"]: n for n in self.get("/api/v1/cluster/nodes", limit=1000)["items"]}

    def states(self) -> dict[str, str]:
        return {name: node["state"] for name, node in self.nodes().items()}

    def status(self) -> dict[str, Any]:
        return self.get("/api/v1/status")

    def events(self, after: int = 0) -> list[dict[str, Any]]:
        return self.get("/api/v1/cluster/events", after=after, limit=1000)["items"]

    def revision(self) -> int:
        return int(self.get("/api/v1/cluster/events", after=0, limit=1)["revision"])

    def metric(self, name: str) -> float:
        """One sample of /metrics without labels."""
        for line in self.client.get("/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        raise AssertionError(f"/metrics has no {name}")

    def wait_states(self, want: dict[str, str], *, within: float) -> None:
        """Waits until each named node is in its state."""

        def reached() -> bool:
            states = self.states()
            return all(states.get(name) == state for name, state in want.items())

        eventually(reached, within=within, what=f"states {want}, now {self.states()}")

    def cli(self, *args: str, check: bool = True) -> str:
        """Runs a CLI verb against this server; returns its standard output."""
        done = self.cli_result(*args)
        if check and done.returncode != 0:
            raise AssertionError(f"{args} exited {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def cli_result(self, *args: str) -> subprocess.CompletedProcess[str]:
        env = {
            **os.environ,
            "NO_COLOR": "1",
            "ZLAYER_ADDR": self.url,
            "ZLAYER_TOKEN_FILE": str(self.data / "admin.token"),
        }
        return subprocess.run(
            [*ZLAYERD, *args], capture_output=True, text=True, env=env, timeout=60, check=False
        )

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        for process in self.processes:
            process.close()


@contextlib.contextmanager
def cluster(root: Path, **config: Any) -> Iterator[Cluster]:
    """A cluster whose processes all end with the block."""
    running = Cluster(root, config=config)
    try:
        running.start_server()
        yield running
    finally:
        running.close()


def event_kinds(events: Sequence[dict[str, Any]], name: str) -> list[str]:
    """What happened to one node, in order."""
    return [event["kind"] for event in events if event["node_name"] == name]


def strip_ansi(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
