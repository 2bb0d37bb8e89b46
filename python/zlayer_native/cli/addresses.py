"""Where a running server can be reached: a file that it writes for commands on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from zlayer_native.identity import files

_FILE = Path("run") / "server.json"


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Of one running server."""

    pid: int
    cluster_id: str
    #: URL of the HTTP API.
    api: str
    #: `host:port` of the worker port.
    workers: str

    def write(self, data_dir: Path) -> None:
        """Publishes them; the server listens by now.

        Raises:
            IdentityError: the file can't be written.
        """
        files.write_private(data_dir / _FILE, json.dumps(asdict(self)).encode() + b"\n")

    @classmethod
    def read(cls, data_dir: Path) -> Addresses | None:
        """Those of the server that runs, or ran last, in `data_dir`; None before it listens."""
        try:
            return cls(**json.loads((data_dir / _FILE).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    @staticmethod
    def withdraw(data_dir: Path) -> None:
        """Removes the file."""
        files.remove(data_dir / _FILE)
