from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.unit.cli.fake_cluster import FakeCluster
from tests.unit.cli.running import Zlayerd
from zlayer_native.identity.authority import Authority


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither this shell's settings nor this machine's own server are seen."""
    for name in os.environ:
        if name.startswith("ZLAYER") or name.lower().endswith("_proxy") or name == "NO_COLOR":
            monkeypatch.delenv(name)
    empty = tmp_path / "no-server-here"
    monkeypatch.setattr("zlayer_native.config.data_dir.default_data_dir", lambda: empty)


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """Children hear Ctrl-C also where the tests themselves run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("authority") / "cluster")


@pytest.fixture(scope="session")
def server(authority: Authority) -> Iterator[FakeCluster]:
    running = FakeCluster(authority.token_signer)
    with capture_logs():  # The server's own lines are no output of a verb.
        yield running
        running.stop()


@pytest.fixture
def cluster(server: FakeCluster) -> FakeCluster:
    """A fake cluster behind the real API; it runs, and nothing is in its book."""
    server.book.__init__()  # type: ignore[misc]
    server.start()
    return server


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Zlayerd:
    """`zlayerd` with no settings."""
    return Zlayerd(monkeypatch, capsys)


@pytest.fixture
def zlayerd(alone: Zlayerd, cluster: FakeCluster, settings: dict[str, str]) -> Zlayerd:
    """`zlayerd` whose environment names the fake cluster and an admin secret."""
    for name, value in settings.items():
        alone.monkeypatch.setenv(name, value)
    alone.secrets = list(cluster.secrets.values())
    return alone


@pytest.fixture
def settings(cluster: FakeCluster, tmp_path: Path) -> dict[str, str]:
    """Variables that a person sets for the fake cluster."""
    path = tmp_path / "admin.token"
    path.write_text(cluster.secret + "\n")
    return {"ZLAYER_ADDR": cluster.url, "ZLAYER_TOKEN_FILE": str(path)}
