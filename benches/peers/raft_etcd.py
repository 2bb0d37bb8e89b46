"""Three etcd servers on loopback, at their defaults unless told otherwise: puts, and leader kills.

Clients and peers talk without TLS, which is the cheaper way for etcd. Puts are sent by the load
of `benches/load` (Rust, tonic) to the leader's client port.
"""

from __future__ import annotations

import contextlib
import resource
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from benches.peers.waiting import WAIT_SECS, wait
from zlayer_native._bridge import run_load

#: Commits by which it is known that the writes before a kill flow.
FLOWING = 50


class EtcdServer:
    def __init__(self, name: str, command: list[str], client_port: int, folder: Path) -> None:
        self.name = name
        self.address = f"127.0.0.1:{client_port}"
        self._command = command
        self._log = folder / f"{name}.log"
        # A proxy has no business with the loopback.
        self._http = httpx.Client(base_url=f"http://{self.address}", trust_env=False, timeout=5)
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def status(self) -> dict[str, int] | None:
        """Member id, leader, term, index and applied index; None while it does not answer."""
        with contextlib.suppress(httpx.HTTPError):
            answer = self._http.post("/v3/maintenance/status", json={})
            if answer.is_success:
                said = answer.json()
                return {
                    "id": int(said["header"]["member_id"]),
                    "leader": int(said.get("leader", 0)),
                    "term": int(said["raftTerm"]),
                    "index": int(said["raftIndex"]),
                    "applied": int(said.get("raftAppliedIndex", 0)),
                }
        if self.process.poll() not in (None, -9):
            raise SystemExit(f"{self.name} ended:\n{self._log.read_text()[-2000:]}")
        return None

    def stop(self) -> None:
        self._http.close()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class EtcdTrio:
    """A context: the processes end with it."""

    def __init__(self, folder: Path, ports: list[int], timers: tuple[int, int] | None = None):
        """Takes six free ports, and heartbeat and election timeout in ms where not etcd's own."""
        names = ["a", "b", "c"]
        clients, peers = ports[:3], ports[3:]
        cluster = ",".join(
            f"{name}=http://127.0.0.1:{port}" for name, port in zip(names, peers, strict=True)
        )
        more = [] if timers is None else ["--heartbeat-interval", str(timers[0])]
        more += [] if timers is None else ["--election-timeout", str(timers[1])]
        self.servers = []
        for name, client, peer in zip(names, clients, peers, strict=True):
            client_url, peer_url = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
            command = ["etcd", "--name", name, "--data-dir", str(folder / name)]
            command += ["--listen-client-urls", client_url, "--advertise-client-urls", client_url]
            command += ["--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url]
            command += ["--initial-cluster", cluster, "--log-level", "error", *more]
            self.servers.append(EtcdServer(name, command, client, folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in self.servers:
            server.stop()

    def wait_leader(self) -> EtcdServer:
        """The one that all say leads, once all have applied what it has."""

        def agreed() -> EtcdServer | None:
            seen = [(server, server.status()) for server in self.servers]
            views = [(server, view) for server, view in seen if view is not None]
            leaders = {view["leader"] for _, view in views}
            if len(views) < len(self.servers) or len(leaders) != 1:
                return None
            leading = [(server, view) for server, view in views if {view["id"]} == leaders]
            if not leading or any(v["applied"] < leading[0][1]["applied"] - 1 for _, v in views):
                return None
            return leading[0][0]

        return wait(agreed, "etcd does not agree on a leader")

    def commits(self, in_flight: int, value_bytes: int, seconds: float) -> dict[str, Any]:
        """Puts at the leader, so many in flight."""
        leader = self.wait_leader()
        before = _own_cpu_seconds()
        report = run_load(
            {
                "kind": "etcd_commits",
                "server": leader.address,
                "load": {
                    "in_flight": in_flight,
                    "value_bytes": value_bytes,
                    "seconds": seconds,
                    "server_pids": [server.process.pid for server in self.servers],
                },
            }
        )
        # The warm-up is in it: it says whether the client is what holds the servers up.
        return {**report, "client_cpu_seconds": _own_cpu_seconds() - before}

    def fail_over(self, every_ms: float, value_bytes: int) -> float:
        """Kills the leader; seconds from then to a survivor's first commit in a newer term."""
        leader = self.wait_leader()
        view = leader.status()
        assert view is not None
        survivors = [server.address for server in self.servers if server is not leader]
        options = {
            "kind": "etcd_takeover",
            "servers": survivors,
            "after_term": view["term"],
            "pace": {
                "every_ms": every_ms,
                "value_bytes": value_bytes,
                "timeout_seconds": WAIT_SECS,
            },
        }

        def flowing() -> bool:
            now = leader.status()
            return now is not None and now["index"] > view["index"] + FLOWING

        with ThreadPoolExecutor(1) as pool:
            takeover = pool.submit(run_load, options)
            wait(flowing, "no writes reach etcd's leader")
            killed_ns = time.monotonic_ns()
            leader.process.kill()
            leader.process.wait()
            acked_ns = takeover.result()["acked_ns"]
        leader.start()
        return (acked_ns - killed_ns) / 1e9


def _own_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
