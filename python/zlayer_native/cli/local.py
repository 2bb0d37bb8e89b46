"""A server on this machine in a folder of its own, and workers of it: for `dev` and `bench`."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from zlayer_native.cli.addresses import Addresses
from zlayer_native.cli.child import Child
from zlayer_native.errors import CoreError

#: Seconds for the server to answer. Chosen: some ten times what it takes on a slow machine.
_START_SECS = 30.0
_POLL_SECS = 0.02
_REQUEST_SECS = 10.0


class LocalCluster:
    """A context: the processes end and the folder is removed with it.

    Args:
        settings: configuration by dotted key, over the defaults of `zlayerd server`.
    """

    def __init__(self, settings: Mapping[str, object] | None = None) -> None:
        self._settings = dict(settings or {})
        self.folder = Path(tempfile.mkdtemp(prefix="zlayer-"))
        self.workers: dict[str, Child] = {}
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self) -> None:
        args = ["server", "--data-dir", str(self.data_dir), "--http", "127.0.0.1:0"]
        args += ["--workers", "127.0.0.1:0", "--raft", "127.0.0.1:0"]
        args += [f"--set={key}={value}" for key, value in self._settings.items()]
        self.server = Child(args, self.folder / "server.log")
        self.addresses = self._wait_addresses()
        headers = {"Authorization": f"Bearer {self.token_file.read_text().strip()}"}
        self._client = self._exit.enter_context(
            httpx.Client(
                base_url=self.addresses.api,
                headers=headers,
                timeout=_REQUEST_SECS,
                trust_env=False,  # A proxy has no business with the loopback.
            )
        )

    def _wait_addresses(self) -> Addresses:
        deadline = time.monotonic() + _START_SECS
        while (addresses := Addresses.read(self.data_dir)) is None:
            if not self.server.is_running:
                raise CoreError(f"the server did not start:\n{self.server.last_words()}")
            if time.monotonic() > deadline:
                raise CoreError(f"the server does not answer after {_START_SECS:g} s")
            time.sleep(_POLL_SECS)
        return addresses

    @property
    def data_dir(self) -> Path:
        """Of the server."""
        return self.folder / "server"

    @property
    def token_file(self) -> Path:
        """Of the local operator."""
        return self.data_dir / "admin.token"

    def get(self, path: str, **query: Any) -> Any:
        """A document of the API."""
        response = self._client.get(path, params=query)
        response.raise_for_status()
        return response.json()

    def metrics(self) -> dict[str, float]:
        """The samples of /metrics that have no labels."""
        response = self._client.get("/metrics")
        response.raise_for_status()
        lines = (line.split() for line in response.text.splitlines())
        return {words[0]: float(words[1]) for words in lines if len(words) == 2}

    def new_token(self, uses: int) -> str:
        """The line of a bootstrap token."""
        document = {"uses": uses, "ttl_secs": 3600}
        response = self._client.post("/api/v1/cluster/tokens", json=document)
        response.raise_for_status()
        return str(response.json()["token"])

    def start_workers(self, names: list[str]) -> None:
        """Starts a worker for each name; they enrol by themselves."""
        token = self.folder / "worker.token"
        token.touch(mode=0o600)
        token.write_text(self.new_token(len(names)) + "\n")
        for name in names:
            args = ["worker", "--server", self.addresses.workers, "--name", name]
            args += ["--token-file", str(token), "--data-dir", str(self.folder / name)]
            self.workers[name] = Child(args, self.folder / f"{name}.log")

    def close(self) -> None:
        """Workers say goodbye, then the server stops, then the folder goes."""
        for worker in self.workers.values():
            worker.ask_to_stop()
        for worker in self.workers.values():
            worker.stop()
        self._exit.close()
        if hasattr(self, "server"):
            self.server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
