"""A whole server in a process of its own, asked through its standard input. No HTTP, no CLI.

In a process of its own, because grpc.aio wants one event loop a process, and because a test that
holds the GIL must not hold the server's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.boundary.real_core import TTL, create_token, server_options
from tests.cluster.harness import eventually
from zlayer_native._bridge import Server
from zlayer_native.cli import logs
from zlayer_native.enroll.records import CoreRecords
from zlayer_native.enroll.serve import serve
from zlayer_native.enroll.service import EnrollmentPolicy, EnrollmentService, LeaseTerms
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.claims import Token

START_SECS = 30.0


class LiveServer:
    """A running server process, for a test to talk to. Every answer is plain data."""

    def __init__(self, root: Path, options: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.boundary.live_server", str(root), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address: str = self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the server has ended"
        return json.loads(line)

    def _ask(self, verb: str, *args: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([verb, *args]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def token(self, *, uses: int = 1, labels_allowed: list[str] | None = None) -> str:
        """The line of a new token."""
        return self._ask("token", uses, labels_allowed or [])

    def token_uses(self) -> int:
        """Uses of all tokens."""
        return self._ask("token_uses")

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Nodes by name."""
        return {node["name"]: node for node in self._ask("nodes")}

    def kinds(self, name: str, after: int = 0) -> list[str]:
        """What happened to a node, in order."""
        events = self._ask("events", after)
        return [event["kind"] for event in events if event["node_name"] == name]

    def remove(self, node_id: int) -> None:
        self._ask("remove", node_id)

    def wait_node(
        self, name: str, check: Callable[[dict[str, Any]], Any], *, within: float = 20.0
    ) -> dict[str, Any]:
        """Waits until a node is as `check` wants it, at most `within` seconds; returns the node."""

        def found() -> dict[str, Any] | None:
            node = self.nodes().get(name)
            return node if node is not None and check(node) else None

        return eventually(found, within=within, what=f"{name} as wanted")

    def wait_state(self, name: str, state: str, *, within: float = 20.0) -> dict[str, Any]:
        """As `wait_node`, for a state."""
        return self.wait_node(name, lambda node: node["state"] == state, within=within)

    def close(self) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()  # Its end is the server's.
            try:
                process.wait(START_SECS)
            finally:
                process.kill()


@contextlib.contextmanager
def live_server(
    root: Path,
    *,
    listen: str = "127.0.0.1:0",
    life_s: float = 86_400,
    renewal_grace_s: float = 86_400,
    **ttl: int,
) -> Iterator[LiveServer]:
    """A server that ends with the block.

    Args:
        listen: the worker port.
        life_s: of the certificates that it issues, seconds.
        renewal_grace_s: how long after their end they can be renewed.
        ttl: changes to `AdaptiveTtlConfig`.
    """
    options = {
        "listen": listen,
        "life_s": life_s,
        "renewal_grace_s": renewal_grace_s,
        "ttl": {**TTL, **ttl},
    }
    server = LiveServer(root, options)
    try:
        yield server
    finally:
        server.close()


class _Verbs:
    """The other side: one method for each verb."""

    def __init__(self, core: Server, authority: Authority) -> None:
        self._core = core
        self._authority = authority

    async def token(self, uses: int, labels_allowed: list[str]) -> str:
        command = create_token(uses_max=uses, labels={}, labels_allowed=labels_allowed)
        await self._core.propose(command)
        now_s = int(time.time())
        claims = Token(
            cluster_id=self._authority.cluster_id,
            jti=command["jti"],
            created_s=now_s,
            expires_s=now_s + 3600,
            uses_max=uses,
            labels={},
            labels_allowed=tuple(labels_allowed),
        )
        return self._authority.token_signer.issue(claims)

    async def token_uses(self) -> int:
        return sum(len(token["uses"]) for token in json.loads(self._core.tokens())["items"])

    async def nodes(self) -> Any:
        return json.loads(self._core.nodes({}))["items"]

    async def events(self, after: int) -> Any:
        return json.loads(self._core.events(after, 1000))["items"]

    async def remove(self, node_id: int) -> None:
        await self._core.propose({"type": "remove_node", "node_id": node_id})


def _core_options(authority: Authority, root: Path, options: dict[str, Any]) -> dict[str, Any]:
    return server_options(authority, root, ttl=options["ttl"], listen=options["listen"])


@contextlib.asynccontextmanager
async def _running(root: Path, options: dict[str, Any]) -> AsyncIterator[tuple[Server, Authority]]:
    authority = Authority.open_or_create(root / "cluster")
    socket = root / "run" / "join.sock"
    core = await Server.start(_core_options(authority, root, options))
    policy = EnrollmentPolicy(
        certificate_life=timedelta(seconds=options["life_s"]),
        renewal_grace=timedelta(seconds=options["renewal_grace_s"]),
    )
    service = EnrollmentService(authority, CoreRecords(core), lambda: LeaseTerms(10, 10), policy)
    pair = authority.issue_join(1)
    enrollment = await serve(socket, service, lambda: pair)
    try:
        yield core, authority
    finally:
        await enrollment.stop(0.2)
        await core.stop()


async def _main(root: Path, options: dict[str, Any]) -> None:
    async with _running(root, options) as (core, authority):
        verbs = _Verbs(core, authority)
        print(json.dumps(core.address), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            verb, *args = json.loads(line)
            print(json.dumps(await getattr(verbs, verb)(*args)), flush=True)


if __name__ == "__main__":
    logs.configure("error")  # structlog's own default would print between the answers.
    asyncio.run(_main(Path(sys.argv[1]), json.loads(sys.argv[2])))
