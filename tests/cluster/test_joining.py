"""A cluster grows from one server to five and back to three with tokens, under its workers."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.cluster.harness import ZLAYERD, Process, event_kinds, eventually
from tests.cluster.servers import PATIENCE, OneServer


class Growing:
    """Servers that are started by flags alone, as a person does it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.servers: list[OneServer] = []
        self.processes: list[Process] = []

    def start(self, *args: str) -> OneServer:
        """One more server; the first makes the cluster."""
        server = OneServer(self.root, len(self.servers) + 1)
        self.servers.append(server)
        self.run(server, *args)
        return server

    def run(self, server: OneServer, *args: str) -> None:
        flags = ["server", "--data-dir", str(server.data), "--http", server.http]
        flags += ["--workers", server.workers, "--raft", server.raft, *args]
        server.process = Process(flags, server.root / "log")
        self.processes.append(server.process)
        eventually(server.answers, within=PATIENCE, what=f"server {server.node_id} answers")

    def join(self, count: int) -> None:
        """Makes a token and lets so many servers in with it."""
        made = self.servers[0].cli(
            "token", "create", "--role", "server", "--uses", str(count), "-q"
        )
        assert made.returncode == 0, made.stderr
        token = self.root / f"servers-{len(self.servers)}.token"
        token.write_text(made.stdout)
        for _ in range(count):
            self.start("--join", str(token), "--server", self.servers[0].workers)

    def voters(self, at: OneServer) -> list[int]:
        items = at.get("/api/v1/raft/peers")["items"]
        return [item["id"] for item in items if item["voter"]]

    def wait_voters(self, at: OneServer, wanted: list[int]) -> None:
        eventually(lambda: self.voters(at) == wanted, within=PATIENCE, what=f"voters {wanted}")

    def worker(self, name: str, token: Path) -> Process:
        args = ["worker", "--data-dir", str(self.root / name), "--name", name]
        for server in self.servers:
            args += ["--server", server.workers]
        process = Process([*args, "--token-file", str(token)], self.root / f"{name}.log")
        self.processes.append(process)
        return process

    def close(self) -> None:
        for server in self.servers:
            server.close()
        for process in self.processes:
            process.close()


def nodes(server: OneServer) -> dict[str, str]:
    items = server.get("/api/v1/cluster/nodes")["items"]
    return {item["name"]: item["state"] for item in items}


def events(server: OneServer) -> list[dict[str, Any]]:
    return list(server.get("/api/v1/cluster/events", limit=1000)["items"])


def no_key_but_in_its_folder(growing: Growing) -> None:
    """The CA's key is nowhere but in `ca.key`: in no log, no snapshot, no output."""
    pem = (growing.servers[0].data / "cluster" / "ca.key").read_text()
    inner = "".join(line for line in pem.splitlines() if not line.startswith("-")).encode()
    der = base64.b64decode(inner)
    # The scalar itself, which follows the tag and the length of 32 bytes.
    scalar = der[der.index(b"\x04\x20") + 2 :][:32]
    found = []
    for server in growing.servers:
        files = [path for path in server.root.rglob("*") if path.is_file()]
        assert server.data / "cluster" / "ca.key" in files
        for path in files:
            content = path.read_bytes()
            if scalar in content or inner[64:] in content.replace(b"\n", b""):
                found.append(path.name)
    assert set(found) == {"ca.key"}
    assert len(found) == len(growing.servers)


def test_one_becomes_three_five_and_three_again_under_its_workers(tmp_path: Path) -> None:
    growing = Growing(tmp_path)
    try:
        first = growing.start()
        token = tmp_path / "workers.token"
        token.write_text(first.cli("token", "create", "--uses", "9", "-q").stdout)
        growing.worker("early", token)
        eventually(lambda: nodes(first) == {"early": "Ready"}, within=PATIENCE, what="Ready")

        growing.join(2)
        growing.wait_voters(first, [1, 2, 3])
        late = growing.worker("late", token)
        both = {"early": "Ready", "late": "Ready"}
        eventually(lambda: nodes(first) == both, within=PATIENCE, what="both Ready")

        growing.join(2)
        growing.wait_voters(first, [1, 2, 3, 4, 5])
        assert "5 of 5 answer, 3 needed" in first.cli("status").stdout

        no_key_but_in_its_folder(growing)
        # Asked through another server; the leader itself may be among them.
        fifth = growing.servers[4]
        for gone in (2, 4):
            removed = fifth.cli("raft", "remove", str(gone), "-y")
            assert removed.returncode == 0, removed.stderr
        growing.wait_voters(fifth, [1, 3, 5])
        assert nodes(fifth) == both
        for name in both:
            kinds = event_kinds(events(fifth), name)
            assert "unreachable" not in kinds, kinds
        assert late.popen.poll() is None

        # Who was removed does not come back, and what it was told is clear.
        again = fifth.cli(
            "raft", "add", "2", "--raft", growing.servers[1].raft, "--api", growing.servers[1].http
        )
        assert again.returncode == 1
        assert "its id is not used again" in again.stderr

        # Each server is one after a restart, too, without a word about who it is.
        third = growing.servers[2]
        third.kill()
        growing.run(third)
        eventually(
            lambda: third.status()["leader"] in (1, 3, 5), within=PATIENCE, what="it follows"
        )
        assert third.status()["node_id"] == 3
    finally:
        growing.close()


def test_a_token_lets_no_more_servers_in_than_it_says(tmp_path: Path) -> None:
    growing = Growing(tmp_path)
    try:
        first = growing.start()
        growing.join(1)
        growing.wait_voters(first, [1, 2])
        # The port for joins is shut while there is nobody to let in.
        assert first.cli("token", "create").returncode == 0
        refused = subprocess.run(
            [
                *ZLAYERD, "server", "--data-dir", str(tmp_path / "more"), "--http", "127.0.0.1:1",
                "--raft", "127.0.0.1:2", "--join", str(tmp_path / "servers-1.token"),
                "--server", first.workers,
            ],
            capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "NO_COLOR": "1"},
        )  # fmt: skip
        assert refused.returncode == 5, refused.stderr
        assert "no uses left" in refused.stderr
        assert not (tmp_path / "more" / "cluster" / "ca.key").exists()
        growing.wait_voters(first, [1, 2])
    finally:
        growing.close()


def test_a_backup_begins_another_cluster_that_trusts_nobody_of_the_old(tmp_path: Path) -> None:
    growing = Growing(tmp_path)
    try:
        first = growing.start()
        token = tmp_path / "workers.token"
        token.write_text(first.cli("token", "create", "--uses", "9", "-q").stdout)
        worker = growing.worker("w", token)
        eventually(lambda: nodes(first) == {"w": "Ready"}, within=PATIENCE, what="Ready")
        backup = tmp_path / "backup.zlb"
        saved = first.cli("raft", "snapshot", "save", str(backup))
        assert saved.returncode == 0, saved.stderr
        shown = json.loads(
            first.cli("raft", "snapshot", "inspect", str(backup), "-o", "json").stdout
        )
        assert (shown["cluster_id"], shown["nodes"]) == (first.status()["cluster_id"], 1)
        assert first.process is not None
        first.process.terminate()

        new = OneServer(tmp_path, 2)
        restored = first.cli(
            "raft", "snapshot", "restore", str(backup), "--data-dir", str(new.data)
        )
        assert restored.returncode == 0, restored.stderr
        # On the old one's ports, so that the old worker finds it.
        new.http, new.workers, new.raft = first.http, first.workers, first.raft
        first.close()
        growing.servers = [new]
        growing.run(new)
        assert new.status()["cluster_id"] != shown["cluster_id"]
        assert nodes(new) == {"w": "Unreachable"}
        refused = eventually(
            lambda: (
                new.client.get("/metrics").text.count("zlayer_handshakes_failed_total 0.0") == 0
            ),
            within=PATIENCE,
            what="the old worker knocks, and is not let in",
        )
        assert refused
        assert nodes(new) == {"w": "Unreachable"}
        assert worker.popen.poll() is None
        fresh = tmp_path / "fresh.token"
        fresh.write_text(new.cli("token", "create", "-q").stdout)
        growing.worker("w2", fresh)
        eventually(lambda: nodes(new).get("w2") == "Ready", within=PATIENCE, what="a new one is in")
    finally:
        growing.close()
