"""Durable commits and failover of three servers: ours, etcd, PySyncObj; one disk, one run.

Stores run one at a time in a shuffled order, `--repeats` times; the result is the median of each
figure, with the raw runs beside it, in `benches/results/`. Before and after each run the disk is
measured with a loop of one write and one fdatasync. Then the leader of each is killed `--kills`
times under a steady write load. How each is driven: benches/README.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benches.peers.raft_etcd import EtcdTrio  # noqa: E402 - after the path is set
from benches.peers.raft_pysyncobj import PySyncObjTrio  # noqa: E402
from benches.peers.raft_table import (  # noqa: E402
    commit_table,
    cpu_bounds,
    failover_table,
    medians,
    ratios,
)
from benches.peers.waiting import free_ports, wait_quiet  # noqa: E402
from zlayer_native.cli.figures import fdatasync_us  # noqa: E402
from zlayer_native.cli.raft_bench import failover_figures  # noqa: E402
from zlayer_native.errors import LoadError  # noqa: E402

#: What an acknowledged commit outlives.
DURABILITY = {
    "zlayer": "power loss: fdatasync on a majority before the answer",
    "etcd": "power loss: fdatasync on a majority before the answer",
    "pysyncobj": "the process: its journal is a mapped file that is not synced before it is closed",
}

#: Time from one write to the next while leaders are killed, milliseconds; at each server.
PACE_MS = 5.0
#: Election timeout as ours has it at most; etcd takes no longer heartbeat than a fifth of it.
ETCD_TUNED = (70, 350)

#: A run that failed is done again, and named in the result.
ATTEMPTS = 3

T = TypeVar("T")
Commits = Callable[[argparse.Namespace, Path], list[dict[str, Any]]]
Kills = Callable[[argparse.Namespace, Path], list[float]]


def our_bench(args: argparse.Namespace, folder: Path, *more: str) -> dict[str, Any]:
    """`zlayerd bench raft` with its data below `folder`."""
    command = [sys.executable, "-m", "zlayer_native.cli", "bench", "raft", "--json"]
    command += ["--value-bytes", str(args.value_bytes), *more]
    env = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    if done.returncode:
        raise LoadError(done.stderr.strip())
    return json.loads(done.stdout)


def our_commits(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    depths = ",".join(map(str, args.in_flight))
    report = our_bench(args, folder, "--in-flight", depths, "--seconds", str(args.seconds))
    return report["loads"]


def our_kills(args: argparse.Namespace, folder: Path) -> list[float]:
    more = ["--in-flight", "1", "--seconds", "0.5", "--kills", str(args.kills)]
    return our_bench(args, folder, *more)["failover"]["rounds_s"]


def etcd_commits(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    with EtcdTrio(folder, free_ports(6)) as trio:
        return [trio.commits(depth, args.value_bytes, args.seconds) for depth in args.in_flight]


def etcd_kills(args: argparse.Namespace, folder: Path) -> list[float]:
    with EtcdTrio(folder, free_ports(6)) as trio:
        return [trio.fail_over(PACE_MS, args.value_bytes) for _ in range(args.kills)]


def etcd_tuned_kills(args: argparse.Namespace, folder: Path) -> list[float]:
    with EtcdTrio(folder, free_ports(6), ETCD_TUNED) as trio:
        return [trio.fail_over(PACE_MS, args.value_bytes) for _ in range(args.kills)]


def pysyncobj_commits(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    with PySyncObjTrio(folder, free_ports(3)) as trio:
        return [trio.commits(depth, args.value_bytes, args.seconds) for depth in args.in_flight]


def pysyncobj_kills(args: argparse.Namespace, folder: Path) -> list[float]:
    with PySyncObjTrio(folder, free_ports(3)) as trio:
        trio.write(PACE_MS, args.value_bytes)
        return [trio.fail_over(PACE_MS, args.value_bytes) for _ in range(args.kills)]


COMMITS: dict[str, Commits] = {
    "zlayer": our_commits,
    "etcd": etcd_commits,
    "pysyncobj": pysyncobj_commits,
}
KILLS: dict[str, Kills] = {
    "zlayer": our_kills,
    "etcd": etcd_kills,
    "etcd 350/70": etcd_tuned_kills,
    "pysyncobj": pysyncobj_kills,
}


def attempt(what: str, failed: list[str], run: Callable[[], T]) -> T:
    """Runs until it succeeds, `ATTEMPTS` times at most; notes in `failed` what went wrong."""
    for _ in range(ATTEMPTS):
        try:
            return run()
        except (LoadError, SystemExit) as error:
            failed.append(f"{what}: {error}")
            print(failed[-1], file=sys.stderr)
    raise SystemExit(f"{what} failed {ATTEMPTS} times")


def measure_commits(args: argparse.Namespace, failed: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Raw runs by store."""
    runs: dict[str, list[dict[str, Any]]] = {store: [] for store in args.stores}
    for _ in range(args.repeats):
        for store in random.sample(args.stores, len(args.stores)):
            run = attempt(store, failed, partial(commits_once, args, store))
            runs[store].append(run)
            for load in run["loads"]:
                rate, p50 = load["commits_per_second"], load["p50_ms"]
                print(store, load["in_flight"], f"{rate:.0f}/s p50 {p50:.3f} ms", file=sys.stderr)
    return runs


def commits_once(args: argparse.Namespace, store: str) -> dict[str, Any]:
    busy = wait_quiet(args.patience)
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        disks = [fdatasync_us(Path(folder))]
        loads = COMMITS[store](args, Path(folder))
        disks.append(fdatasync_us(Path(folder)))
    # Whoever else uses the disk makes it look slower: the quicker one is its own.
    disk = min(disks, key=lambda times: times["p50"])
    return {"busy_before": busy, "fdatasync_us": disk, "loads": loads}


def kills_once(args: argparse.Namespace, row: str) -> dict[str, Any]:
    busy = wait_quiet(args.patience)
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        rounds = KILLS[row](args, Path(folder))
    return {"busy_before": busy, **failover_figures(rounds)}


def measure_kills(args: argparse.Namespace, failed: list[str]) -> dict[str, dict[str, Any]]:
    """Failover figures by row."""
    rows = [row for row in KILLS if row.split()[0] in args.stores and args.kills]
    figures = {}
    for row in random.sample(rows, len(rows)):
        figures[row] = attempt(row, failed, partial(kills_once, args, row))
        print(row, figures[row], file=sys.stderr)
    return {row: figures[row] for row in rows}


def etcd_clients(args: argparse.Namespace) -> dict[str, float]:
    """Commits per second at etcd with 64 in flight, by client: Rust's, and grpcio's asyncio."""
    script = Path(__file__).with_name("etcd_aio.py")
    with (
        tempfile.TemporaryDirectory(dir=args.dir) as folder,
        EtcdTrio(Path(folder), free_ports(6)) as trio,
    ):
        rust = trio.commits(64, args.value_bytes, args.seconds)["commits_per_second"]
        command = [sys.executable, str(script), trio.wait_leader().address, "64"]
        command += [str(args.value_bytes), str(args.seconds)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {"rust_tonic": round(rust), "grpc_aio": round(float(done.stdout))}


def machine() -> dict[str, Any]:
    models = [
        line.partition(": ")[2]
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cores": os.cpu_count(),
        "cpu": models[0] if models else platform.machine(),
        "kernel": platform.release(),
    }


def versions() -> dict[str, str]:
    def first_line(*command: str) -> str:
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        return (done.stdout.splitlines() or [""])[0]

    return {
        "commit": first_line("git", "describe", "--always", "--dirty"),
        "etcd": first_line("etcd", "--version"),
        "pysyncobj": version("pysyncobj"),
        "python": platform.python_version(),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 64, 512])
    parser.add_argument("--value-bytes", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--stores", nargs="+", choices=list(COMMITS), default=list(COMMITS))
    parser.add_argument(
        "--patience", type=float, default=60, help="seconds to wait for a quiet machine, each time"
    )
    parser.add_argument("--dir", type=Path, default=None, help="where the data is; not a tmpfs")
    parser.add_argument("--out", type=Path, default=None)
    return parser.parse_args()


def main() -> None:
    """Runs the comparison, writes the result file and prints the tables."""
    args = arguments()
    if "etcd" in args.stores and shutil.which("etcd") is None:
        raise SystemExit(
            "etcd is missing: apt-get install etcd-server, or --stores zlayer pysyncobj"
        )
    failed: list[str] = []
    runs = measure_commits(args, failed)
    by_store = {store: medians(of_store) for store, of_store in runs.items()}
    failover = measure_kills(args, failed)
    report = {
        "what": "durable commits of three servers, and the time without a leader",
        "command": "python benches/peers/raft.py " + " ".join(sys.argv[1:]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "value_bytes": args.value_bytes,
        "durability": {store: DURABILITY[store] for store in args.stores},
        "medians": by_store,
        "ratios": {
            f"zlayer by {store}": ratios(by_store["zlayer"], figures)
            for store, figures in by_store.items()
            if "zlayer" in by_store and store != "zlayer"
        },
        "etcd_commits_per_second_at_most": (
            cpu_bounds(by_store["etcd"], os.cpu_count() or 1) if "etcd" in by_store else None
        ),
        "failover": failover,
        "etcd_commits_per_second_by_client": (
            etcd_clients(args) if "etcd" in args.stores else None
        ),
        "failed": failed,
        "runs": runs,
    }
    out = args.out or ROOT / "benches" / "results" / f"raft-compare-{report['date']}.json"
    out.write_text(json.dumps(report, indent=2) + "\n")
    print(commit_table(by_store))
    for store, figures in by_store.items():
        print(f"{store}: one commit in fdatasyncs: {figures['one_in_fdatasyncs']}")
    if failover:
        print(failover_table(failover))


if __name__ == "__main__":
    main()
