"""The load swarm against several servers, in a process of its own, until it is told to end."""

from __future__ import annotations

import json
import subprocess
import sys
from types import TracebackType
from typing import Any

from tests.cluster.servers import Servers

#: The swarm reads the CPU time of one process, and servers that are killed have none: its own.
_PROGRAM = """
import json, os, sys
from zlayer_native._bridge.load import run_load
options = json.load(open(sys.argv[1]))
print(json.dumps(run_load({**options, "server_pid": os.getpid()})))
"""

#: Seconds after which the swarm ends in any case.
_LIFE_SECS = 3600.0
#: Seconds for the goodbyes of all workers, and some more.
_LEAVE_SECS = 60.0


class Swarm:
    """Workers of one token that enrol and connect at any of the servers, beat when told to, leave.

    Args:
        workers: how many.
        token_line: admits as many.
    """

    def __init__(self, running: Servers, workers: int, token_line: str) -> None:
        self._end = running.root / "swarm-ends"
        self._errors = running.root / "swarm.log"
        first = running.all[0]
        options = {
            "kind": "enroll_and_run",
            "server": [server.workers for server in running.all],
            "cluster_id": first.status()["cluster_id"],
            "ca_pem": (first.data / "cluster" / "ca.pem").read_text(),
            "token": token_line,
            "workers": workers,
            "seconds": _LIFE_SECS,
            "until_file": str(self._end),
            "phase": "paced",
            "timeout_seconds": max(120.0, workers / 10),
        }
        path = running.root / "swarm.json"
        path.write_text(json.dumps(options))
        with self._errors.open("wb") as errors:
            self._popen = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def check(self) -> None:
        """Fails when the swarm has ended by itself."""
        assert self._popen.poll() is None, f"the swarm ended:\n{self._errors.read_text()}"

    def end(self) -> dict[str, Any]:
        """Lets all workers leave; returns what they saw."""
        self._end.touch()
        said, _ = self._popen.communicate(timeout=_LEAVE_SECS)
        assert self._popen.returncode == 0, self._errors.read_text()
        return dict(json.loads(said))

    def __enter__(self) -> Swarm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.communicate()
