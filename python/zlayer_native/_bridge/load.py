"""The load swarm, and a server that is loaded from inside."""

from __future__ import annotations

import json
from typing import Any, cast

from zlayer_native._native import ServerNode
from zlayer_native._native import run_load as _run_load


def run_load(options: dict[str, Any]) -> dict[str, Any]:
    """Runs the load that `options["kind"]` names until it is done; blocks with the GIL released.

    Raises:
        LoadError: an option is wrong, a limit of the host is too low, or the server can't be
            reached.
    """
    return cast("dict[str, Any]", json.loads(_run_load(json.dumps(options).encode())))


class LoadedServer:
    """A server for benchmarks: no event loop, and commits that Rust drives on its own log."""

    def __init__(self, options: dict[str, Any]) -> None:
        """Starts it; returns when its ports listen.

        Args:
            options: `zlayer_node::ServerOptions` as a dict.

        Raises:
            CoreError: the address, the data directory, a certificate or an option can't be used.
        """
        self._node = ServerNode.start(json.dumps(options).encode())

    def status(self) -> dict[str, Any]:
        """The cluster as this server sees it."""
        return cast("dict[str, Any]", json.loads(self._node.status()))

    def load(self, options: dict[str, Any]) -> dict[str, Any]:
        """Runs the load that `options["kind"]` names until it is done; any thread may wait for it.

        Args:
            options: `zlayer_load::CommitLoad` as a dict.

        Raises:
            LoadError: an option is wrong, or a commit failed where none may.
        """
        answer = self._node.load_commits(json.dumps(options).encode())
        return cast("dict[str, Any]", json.loads(answer))

    def stop(self, timeout: float = 5.0) -> None:
        """Flushes the log and ends the threads; waits for `timeout` seconds at most."""
        self._node.shutdown(timeout)
