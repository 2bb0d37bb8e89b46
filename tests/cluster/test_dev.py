"""`zlayerd dev`, `init` and `bench`: what they start, they end, however they end themselves."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster.harness import ZLAYERD, Process, eventually

pytestmark = pytest.mark.cluster

_FOLDER = re.compile(r"data in (\S+)")


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Process]:
    """A `dev` with all its workers Ready."""
    process = Process(["dev"], tmp_path / "dev.log")
    try:
        eventually(
            lambda: process.text().count(": Ready") >= 3 or process.popen.poll() is not None,
            within=60,
            what="three workers are Ready",
        )
        assert process.popen.poll() is None, process.text()
        yield process
    finally:
        process.close()


def family(process: Process) -> list[psutil.Process]:
    """The server and the workers."""
    children = psutil.Process(process.pid).children(recursive=True)
    daemons = [child for child in children if "zlayer_native.cli" in child.cmdline()]
    assert len(daemons) == 4, daemons
    return daemons


def folder(process: Process) -> Path:
    found = _FOLDER.search(process.text())
    assert found is not None, process.text()
    return Path(found[1])


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_of_it_and_removes_its_folder(dev: Process, number: signal.Signals):
    children, data = family(dev), folder(dev)
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    dev.signal(number)
    assert dev.wait(30) == 0, dev.text()
    assert psutil.wait_procs(children, 0)[1] == []
    assert not data.exists()


@pytest.mark.timeout(120)
def test_killed_itself_it_leaves_no_process(dev: Process):
    children = family(dev)
    dev.kill()
    assert psutil.wait_procs(children, 20)[1] == []


@pytest.mark.timeout(120)
def test_it_stops_by_itself_when_told_to_and_a_death_is_shown(tmp_path: Path):
    done = subprocess.run(
        [*ZLAYERD, "dev", "--workers", "2", "--seconds", "1"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "2 of 2 Ready" in done.stdout
    assert done.stdout.endswith("all stopped, nothing left behind\n")


@pytest.mark.timeout(120)
def test_the_death_of_a_worker_is_shown(dev: Process):
    workers = [child for child in family(dev) if "worker" in child.cmdline()]
    workers[0].kill()
    eventually(lambda: "Suspect (connection_lost)" in dev.text(), within=5, what="it is Suspect")


@pytest.mark.timeout(120)
def test_init_makes_a_cluster_once_and_a_server_goes_on_from_it(tmp_path: Path):
    command = [*ZLAYERD, "init", "--data-dir", str(tmp_path / "data"), "--cluster-id", "c-1"]
    first = subprocess.run(command, capture_output=True, text=True, check=True)
    assert first.stdout.startswith("cluster c-1\nCA sha256:")
    key = tmp_path / "data" / "cluster" / "ca.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    made = key.read_bytes()

    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "already" in again.stderr
    assert key.read_bytes() == made

    args = ["server", "--data-dir", str(tmp_path / "data")]
    server = Process([*args, "--http", "127.0.0.1:0", "--workers", "127.0.0.1:0"], tmp_path / "log")
    try:
        addresses = tmp_path / "data" / "run" / "server.json"
        eventually(addresses.exists, within=30, what="the server listens")
        assert json.loads(addresses.read_text())["cluster_id"] == "c-1"
        assert server.terminate() == 0
        assert not addresses.exists()
    finally:
        server.close()


def test_a_second_server_on_the_same_folder_is_told_why_it_can_t_be(tmp_path: Path):
    args = ["server", "--data-dir", str(tmp_path / "data"), "--workers", "127.0.0.1:0"]
    args += ["--raft", "127.0.0.1:0"]
    first = Process([*args, "--http", "127.0.0.1:0"], tmp_path / "first.log")
    try:
        eventually((tmp_path / "data/run/server.json").exists, within=30, what="the first is up")
        second = subprocess.run(
            [*ZLAYERD, *args, "--http", "127.0.0.1:0"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "NO_COLOR": "1"},
        )
        assert second.returncode == 1
        assert "Traceback" not in second.stderr
        assert "is in use by process" in second.stderr
        assert first.terminate() == 0
    finally:
        first.close()


@pytest.mark.timeout(120)
def test_bench_prints_one_object_with_every_figure():
    command = [*ZLAYERD, "bench", "heartbeats", "--workers", "20", "--seconds", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    figures = (
        *("workers", "heartbeats", "server_cpu_seconds", "heartbeats_per_cpu_second"),
        *("server_rss_bytes_per_worker", "ack_p50_ms", "ack_p99_ms", "peak_beats_per_second"),
        *("false_suspects", "false_expiries"),
    )
    assert [name for name in figures if report[name] is None] == []
    assert report["workers"] == 20
    assert report["heartbeats"] > 20
