"""`zlayerd worker` as a process: signals, exit codes, what it says, and to whom."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boundary.live_server import LiveServer, live_server
from tests.cluster.harness import free_port
from zlayer_native.cli import exits

TTL = {"min_ttl_secs": 2, "grace_secs": 1}
WITHIN = 30


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    with live_server(tmp_path / "server", **TTL) as running:
        yield running


class Daemon:
    """A worker process whose service manager is the test."""

    def __init__(
        self, root: Path, address: str, token: str | None, *args: str, stdin: str | None = None
    ) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(name := f"\0zlayer-{root}")
        self._socket.settimeout(WITHIN)
        command = [sys.executable, "-m", "zlayer_native.cli", "worker", "--server", address]
        command += ["--data-dir", str(root / "w1"), "--name", "w1", *args]
        if token is not None:
            (root / "token").write_text(token + "\n")
            command += ["--token-file", str(root / "token")]
        self.process = subprocess.Popen(
            command,
            env={"NOTIFY_SOCKET": name.replace("\0", "@"), "PATH": "/usr/bin:/bin"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdin is not None
        if stdin is not None:
            self.process.stdin.write(stdin)
        self.process.stdin.close()
        self.process.stdin = None

    def told(self, start: str) -> str:
        """Waits until systemd is told something that begins so; returns it."""
        while not (text := self._socket.recv(8192).decode()).startswith(start):
            assert self.process.poll() is None
        return text

    def ready(self) -> None:
        """Waits until it is connected."""
        while ", connected to " not in self.told("READY=1"):
            pass

    def end(self) -> tuple[int, str]:
        """Waits for its end; returns exit code and output."""
        output, _ = self.process.communicate(timeout=WITHIN)
        return self.process.returncode, output

    def close(self) -> None:
        self._socket.close()
        with self.process as process:
            process.kill()


@pytest.fixture
def start(tmp_path: Path, server: LiveServer) -> Iterator[type[Daemon]]:
    """Starts daemons that end with the test."""
    started: list[Daemon] = []

    def make(address: str, token: str | None, *args: str, stdin: str | None = None) -> Daemon:
        started.append(Daemon(tmp_path, address, token, *args, stdin=stdin))
        return started[-1]

    yield make  # type: ignore[misc]  # called as the class is, without the folder
    for daemon in started:
        daemon.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_farewell(server: LiveServer, start, number: signal.Signals):
    token = server.token()
    daemon = start(server.address, token, "--log-level", "debug")
    daemon.ready()
    daemon.process.send_signal(number)
    assert daemon.told("STOPPING=1")
    code, output = daemon.end()
    assert code == 0, output
    assert server.kinds("w1") == ["enrolled", "joined", "left"]
    assert "Traceback" not in output
    assert token[-40:] not in output


def test_a_second_signal_ends_it_at_once(server: LiveServer, start):
    first = start(server.address, server.token())
    first.ready()
    first.process.terminate()
    first.end()
    first.close()
    # Nobody hears this goodbye, so it takes a second.
    daemon = start("127.0.0.1:1", None)
    daemon.told("READY=1")
    daemon.process.terminate()
    daemon.told("STOPPING=1")
    daemon.process.terminate()
    assert daemon.end()[0] == exits.INTERRUPTED


def test_it_waits_for_its_first_server(tmp_path: Path, start, server: LiveServer):
    """The server comes later; meanwhile systemd is told that this takes time, and people why."""
    address, root = f"127.0.0.1:{free_port()}", tmp_path / "late"
    with live_server(root, listen=address, **TTL) as late:
        token = late.token()
    daemon = start(address, token)
    assert daemon.told("EXTEND_TIMEOUT_USEC=")
    assert "can't be reached" in daemon.told("STATUS=enrolling")
    with live_server(root, listen=address, **TTL) as late:
        daemon.ready()
        late.wait_state("w1", "Ready")
        daemon.process.terminate()
        code, output = daemon.end()
    assert code == 0, output
    assert "no server has let this machine in yet" in output


def test_a_signal_ends_one_that_enrols(start, server: LiveServer):
    daemon = start("127.0.0.1:1", server.token())
    daemon.told("STATUS=enrolling")
    daemon.process.terminate()
    code, output = daemon.end()
    assert code == 0, output
    assert "Traceback" not in output


def test_the_token_may_come_on_standard_input(server: LiveServer, start):
    daemon = start(server.address, None, "--token-file", "-", stdin=server.token() + "\n")
    daemon.ready()
    assert server.token_uses() == 1


def test_a_refused_token_ends_it_with_a_reason(server: LiveServer, start):
    token = server.token(labels_allowed=[])
    daemon = start(server.address, token, "--label", "zone=a")
    code, output = daemon.end()
    assert code == exits.NOT_ALLOWED, output
    assert "error: " in output
    assert "zone" in output
    assert "Traceback" not in output


def test_a_removed_node_ends_and_says_what_to_delete(server: LiveServer, start, tmp_path: Path):
    daemon = start(server.address, server.token())
    daemon.ready()
    server.remove(server.nodes()["w1"]["id"])
    code, output = daemon.end()
    assert code == exits.NOT_ALLOWED, output
    assert f"delete {tmp_path / 'w1' / 'worker' / 'identity'}" in output


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["--label", "zone"], exits.ERROR, "expected KEY=VALUE"),
        ([], exits.ERROR, "zlayerd token create"),
    ],
)
def test_what_it_can_t_be_is_said_in_a_line(
    server: LiveServer, start, args: list[str], code: int, told: str
):
    ended, output = start(server.address, None, *args).end()
    assert (ended, told in output, "Traceback" in output) == (code, True, False), output


def test_another_mode_is_not_built_and_exits_2(tmp_path: Path):
    path = tmp_path / "zlayer.yaml"
    path.write_text("cluster:\n  mode: single-node\n")
    command = [sys.executable, "-m", "zlayer_native.cli", "worker", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WITHIN)
    assert done.returncode == exits.USAGE
    assert done.stderr == "error: mode single-node is not built yet: only worker-tier is\n"


def test_help_is_there_without_anything_heavy():
    code = (
        "import sys\n"
        "from zlayer_native.cli import main\n"
        "sys.argv = ['zlayerd', 'worker', '--help']\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = ('grpc', 'cryptography', 'psutil', 'zlayer_native._native')\n"
        "print('LOADED', [name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--token-file" in done.stdout
    assert done.stdout.strip().endswith("LOADED []")
