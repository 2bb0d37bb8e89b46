"""Several real servers that agree, and workers of them: killed, paused and started again by id."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.cluster.harness import ZLAYERD, Process, eventually, free_port
from tests.cluster.namespaces import Network, address

#: Seconds for servers to start, and to elect a leader, on a machine that does other things too.
PATIENCE = 60.0
#: What makes the four files of an authority: they are the same on every server.
AUTHORITY = ("ca.key", "ca.pem", "token.key", "cluster.json")


class OneServer:
    """One of the servers: its folder, its ports, and the process while there is one."""

    def __init__(self, root: Path, node_id: int, network: Network | None = None) -> None:
        self.node_id = node_id
        self._network = network
        self.root = root / f"server-{node_id}"
        self.root.mkdir()
        self.data = self.root / "data"
        # On a network each is the host of its number. Its API is on loopback also there.
        host = "127.0.0.1" if network is None else address(node_id)
        self.http = f"127.0.0.1:{free_port()}"
        self.workers, self.raft = (f"{host}:{free_port()}" for _ in range(2))
        self.process: Process | None = None
        self._client: httpx.Client | None = None

    @property
    def peer(self) -> dict[str, Any]:
        """As `cluster.peers` lists it."""
        return {"id": self.node_id, "raft_addr": self.raft, "api_addr": self.http}

    @property
    def url(self) -> str:
        return f"http://{self.http}"

    @property
    def admin_token(self) -> Path:
        return self.data / "admin.token"

    @property
    def client(self) -> httpx.Client:
        if self._client is None:
            self._client = self.new_client(20)
        return self._client

    def new_client(self, timeout: float) -> httpx.Client:
        """A client of its own, for a thread of its own; `timeout` in seconds."""
        headers = {"Authorization": f"Bearer {self.admin_token.read_text().strip()}"}
        return httpx.Client(
            base_url=self.url, headers=headers, timeout=timeout, transport=self._transport()
        )

    def _transport(self) -> httpx.HTTPTransport | None:
        return None if self._network is None else self._network.transport(self.node_id)

    def program(self, program: Sequence[str] = ZLAYERD) -> list[str]:
        """The program as a process of this server's host."""
        return (
            list(program) if self._network is None else self._network.program(self.node_id, program)
        )

    @property
    def is_up(self) -> bool:
        return self.process is not None and self.process.popen.poll() is None

    def get(self, path: str, **params: Any) -> Any:
        response = self.client.get(path, params=params)
        response.raise_for_status()
        return response.json()

    def status(self) -> dict[str, Any]:
        return dict(self.get("/api/v1/status"))

    def answers(self) -> bool:
        if not self.is_up:
            said = "" if self.process is None else self.process.text()
            raise AssertionError(f"server {self.node_id} ended:\n{said}")
        with (
            contextlib.suppress(httpx.HTTPError),
            httpx.Client(transport=self._transport(), timeout=2) as client,
        ):
            return client.get(f"{self.url}/health").status_code == 200
        return False

    def kill(self) -> None:
        """`kill -9`."""
        assert self.process is not None
        self.process.kill()

    def cli(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Runs a CLI verb against this server."""
        env = {
            **os.environ,
            "NO_COLOR": "1",
            "ZLAYER_ADDR": self.url,
            "ZLAYER_TOKEN_FILE": str(self.admin_token),
        }
        return subprocess.run(
            [*self.program(), *args],
            capture_output=True,
            text=True,
            env=env,
            timeout=120,
            check=False,
        )

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


class Servers:
    """Servers of one cluster below one folder, by id from 1."""

    def __init__(
        self, root: Path, count: int = 3, network: Network | None = None, **cluster: Any
    ) -> None:
        self.root = root
        self.all = [OneServer(root, node_id, network) for node_id in range(1, count + 1)]
        self.processes: list[Process] = []
        self._cluster = cluster

    def __getitem__(self, node_id: int) -> OneServer:
        return next(server for server in self.all if server.node_id == node_id)

    @property
    def up(self) -> list[OneServer]:
        return [server for server in self.all if server.is_up]

    # --- starting -----------------------------------------------------------------------------

    def form(self) -> OneServer:
        """Gives all of them one authority, starts them, and returns the one that leads."""
        self._share_authority()
        for server in self.all:
            self.start(server)
        for server in self.all:
            eventually(server.answers, within=PATIENCE, what=f"server {server.node_id} answers")
        return self.leader()

    def _share_authority(self) -> None:
        first, *others = self.all
        made = subprocess.run(
            [*ZLAYERD, "init", "-c", str(self.config(first))],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        for server in others:
            folder = server.data / "cluster"
            folder.mkdir(parents=True, mode=0o700)
            server.data.chmod(0o700)
            for name in AUTHORITY:
                shutil.copy(first.data / "cluster" / name, folder / name)

    def config(self, server: OneServer) -> Path:
        """Writes a server's configuration."""
        path = server.root / "config.json"
        document = {
            "name": f"server-{server.node_id}",
            "data_dir": str(server.data),
            "http": {"bind": server.http},
            "cluster": self.cluster_block(server),
        }
        path.write_text(json.dumps(document))
        return path

    def cluster_block(self, server: OneServer) -> dict[str, Any]:
        """What the configuration says of the cluster."""
        return {
            "mode": "worker-tier",
            "role": "server",
            "node_id": server.node_id,
            "peers": [each.peer for each in self.all],
            "worker_grpc_addr": server.workers,
            **self._cluster,
        }

    def start(self, server: OneServer, program: Sequence[str] = ZLAYERD) -> None:
        """Starts a server, or starts it again on what it has; does not wait."""
        args = ["server", "-c", str(self.config(server))]
        server.process = Process(args, server.root / "log", server.program(program))
        self.processes.append(server.process)

    def restart(self, server: OneServer) -> None:
        """Starts it again and waits until it answers."""
        self.start(server)
        eventually(server.answers, within=PATIENCE, what=f"server {server.node_id} answers again")

    # --- looking ------------------------------------------------------------------------------

    def leader(
        self, *, within: float = PATIENCE, among: Sequence[OneServer] | None = None
    ) -> OneServer:
        """The one that says that it leads, and that all others that are up follow.

        With `among` it is one of these, and only they are asked: others are asleep or cut off.
        """

        def agreed() -> OneServer | None:
            said = set()
            asked = self.up if among is None else among
            for server in asked:
                with contextlib.suppress(httpx.HTTPError):
                    said.add(server.status()["leader"])
            (only,) = said if len(said) == 1 else (None,)
            return None if only is None or self[only] not in asked else self[only]

        found = eventually(agreed, within=within, what="a leader that all agree on")
        assert found is not None
        return found

    def only(self, servers: Sequence[OneServer]) -> Servers:
        """The same cluster as a load sees it that asks no others than these."""
        seen = copy.copy(self)
        seen.all = list(servers)
        return seen

    def others(self, server: OneServer) -> list[OneServer]:
        return [other for other in self.all if other is not server]

    def follower(self) -> OneServer:
        leader = self.leader()
        return next(server for server in self.up if server is not leader)

    def settle(self, *, within: float = PATIENCE) -> None:
        """Waits, once nobody writes, until all logs end at the same entry."""

        def ends() -> bool:
            return len({server.status()["log"]["last_index"] for server in self.all}) == 1

        eventually(ends, within=within, what="all servers hold the same log")

    # --- workers ------------------------------------------------------------------------------

    def token(self, *args: str, uses: int = 1) -> Path:
        """Makes a token at any server; returns the file that holds its line."""
        done = self.up[0].cli("token", "create", "-q", "--uses", str(uses), *args)
        assert done.returncode == 0, done.stderr
        path = Path(tempfile.mkstemp(dir=self.root, prefix="token-")[1])
        path.write_text(done.stdout.strip() + "\n")
        return path

    def start_worker(
        self,
        name: str,
        token: Path | None,
        servers: Sequence[OneServer] | None = None,
        program: Sequence[str] = ZLAYERD,
    ) -> Process:
        """Starts a worker that knows all servers, or the given ones."""
        args = ["worker", "--data-dir", str(self.root / name), "--name", name]
        for server in servers or self.all:
            args += ["--server", server.workers]
        if token is not None:
            args += ["--token-file", str(token)]
        process = Process(args, self.root / f"{name}.log", program)
        self.processes.append(process)
        return process

    def close(self) -> None:
        for server in self.all:
            server.close()
        for process in self.processes:
            process.close()


@contextlib.contextmanager
def servers(
    root: Path, count: int = 3, network: Network | None = None, **cluster: Any
) -> Iterator[Servers]:
    """A formed cluster of servers whose processes all end with the block."""
    running = Servers(root, count, network, **cluster)
    try:
        running.form()
        yield running
    finally:
        running.close()
