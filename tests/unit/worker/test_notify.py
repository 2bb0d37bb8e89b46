"""What a daemon tells systemd."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from zlayer_native.cli import notify


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """The socket that a service manager listens on."""
    name = str(tmp_path / "notify") if request.param == "path" else f"\0zlayer-{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name)
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name.replace("\0", "@"))
        yield listener


def test_systemd_is_told(manager: socket.socket):
    notify.still_starting(1.5)
    notify.ready("node 1000")
    notify.status("two\nlines")
    notify.stopping()
    told = [manager.recv(4096).decode() for _ in range(4)]
    assert told == [
        "EXTEND_TIMEOUT_USEC=1500000",
        "READY=1\nSTATUS=node 1000",
        "STATUS=two lines",
        "STOPPING=1",
    ]


@pytest.mark.parametrize("value", [None, "", "relative", "/no/such/socket"])
def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch, value: str | None):
    if value is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", value)
    notify.ready()
    notify.stopping()
