"""The same heartbeats on three servers in one run: ours, etcd's lease keepalive, plain grpcio.

All three serve TLS with a client certificate on loopback; each of N connections sends one beat in
turn, `in_flight` at once. Peers run in a shuffled order, `--repeats` times; the result is the
median of each figure, with the raw runs beside it, in `benches/results/`.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from zlayer_native._bridge import run_load

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benches.peers.certs import PeerCerts, make_certs  # noqa: E402 - after the path is set

Run = Callable[[argparse.Namespace, PeerCerts, Path], dict[str, Any]]


def ours(args: argparse.Namespace, _certs: PeerCerts, _folder: Path) -> dict[str, Any]:
    """`zlayerd bench heartbeats`, the in-turn phase."""
    command = [sys.executable, "-m", "zlayer_native.cli", "bench", "heartbeats", "--json"]
    command += ["--phase", "in-turn", "--workers", str(args.connections)]
    command += ["--seconds", str(args.seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def etcd(args: argparse.Namespace, certs: PeerCerts, folder: Path) -> dict[str, Any]:
    """Debian's etcd-server: LeaseKeepAlive streams."""
    port = _free_port()
    command = ["etcd", "--name", "bench", "--data-dir", str(folder / "etcd")]
    command += ["--listen-client-urls", f"https://127.0.0.1:{port}"]
    command += ["--advertise-client-urls", f"https://127.0.0.1:{port}"]
    command += ["--listen-peer-urls", f"http://127.0.0.1:{_free_port()}"]
    command += ["--cert-file", str(certs.server_cert), "--key-file", str(certs.server_key)]
    command += ["--trusted-ca-file", str(certs.ca), "--client-cert-auth", "--log-level", "error"]
    with _process(command, folder / "etcd.log") as process:
        _wait_port(port, process)
        return run_load({"kind": "etcd", **_peer(args, certs, port, process.pid)})


def grpcio(args: argparse.Namespace, certs: PeerCerts, folder: Path) -> dict[str, Any]:
    """A plain grpcio asyncio server on uvloop with the same messages and no lease logic."""
    script = Path(__file__).with_name("grpcio_server.py")
    command = [sys.executable, str(script), str(certs.server_cert), str(certs.server_key)]
    command += [str(certs.ca)]
    with _process(command, folder / "grpcio.log", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        return run_load({"kind": "grpcio", **_peer(args, certs, port, process.pid)})


RUNS: dict[str, Run] = {"zlayer": ours, "etcd": etcd, "grpcio": grpcio}


def _peer(args: argparse.Namespace, certs: PeerCerts, port: int, pid: int) -> dict[str, Any]:
    return {
        "server": f"127.0.0.1:{port}",
        "server_name": "localhost",
        "ca_pem": certs.ca.read_text(),
        "cert_pem": certs.client_cert.read_text(),
        "key_pem": certs.client_key.read_text(),
        "connections": args.connections,
        "in_flight": args.in_flight,
        "seconds": args.seconds,
        "server_pid": pid,
    }


@contextlib.contextmanager
def _process(
    command: list[str], log: Path, stdout: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output if stdout is None else stdout,
            stderr=output,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the peer ended with {process.returncode} before it listened")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise SystemExit(f"the peer does not listen on {port} after 20 s")


def _versions() -> dict[str, str]:
    import grpc

    etcd_version = subprocess.run(
        ["etcd", "--version"], check=False, capture_output=True, text=True
    ).stdout.splitlines()
    return {"etcd": etcd_version[0] if etcd_version else "", "grpcio": grpc.__version__}


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


FIGURES = ("heartbeats_per_cpu_second", "server_rss_bytes_per_worker", "ack_p50_ms", "ack_p99_ms")


def main() -> None:
    """Runs the comparison, writes the result file and prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", nargs="+", choices=sorted(RUNS), default=sorted(RUNS))
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    if "etcd" in args.peers and shutil.which("etcd") is None:
        raise SystemExit("etcd is missing: apt-get install etcd-server, or --peers zlayer grpcio")

    runs: dict[str, list[dict[str, Any]]] = {peer: [] for peer in args.peers}
    for _ in range(args.repeats):
        for peer in random.sample(args.peers, len(args.peers)):
            with tempfile.TemporaryDirectory() as folder:
                result = RUNS[peer](args, make_certs(Path(folder)), Path(folder))
            runs[peer].append(result)
            print(peer, {figure: result[figure] for figure in FIGURES}, file=sys.stderr)

    medians = {
        peer: {figure: statistics.median(run[figure] for run in results) for figure in FIGURES}
        for peer, results in runs.items()
    }
    report = {
        "what": "heartbeats over mTLS, one beat on each connection in turn",
        "command": "python benches/peers/compare.py " + " ".join(sys.argv[1:]),
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cores": os.cpu_count(), "kernel": platform.release()},
        "versions": _versions(),
        "medians": medians,
        "runs": runs,
    }
    if "zlayer" in medians:
        rate = medians["zlayer"]["heartbeats_per_cpu_second"]
        report["ratios"] = {
            f"heartbeats_per_cpu_second_vs_{peer}": round(
                rate / figures["heartbeats_per_cpu_second"], 2
            )
            for peer, figures in medians.items()
            if peer != "zlayer"
        }
    out = args.out or ROOT / "benches" / "results" / f"heartbeats-{report['date']}.json"
    out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps({"medians": medians, "ratios": report.get("ratios", {})}, indent=2))


if __name__ == "__main__":
    main()
