"""A PySyncObj server, loaded from inside: answers one JSON line with one, until its input ends.

Usage: pysyncobj_server.py OWN_ADDRESS OTHER_ADDRESS... JOURNAL

Settings: append period 5 ms, tick 2 ms, election timeout 150-300 ms, journal. Others try to reach
a server that has gone every 0.2 s, and no compaction takes place within a run.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated

from zlayer_native.cli.figures import quantile

KEYS = 100


class Store(SyncObj):
    """Replicated values by key."""

    def __init__(self, own: str, others: list[str], journal: str) -> None:
        self.values: dict[str, str] = {}
        conf = SyncObjConf(
            appendEntriesPeriod=0.005,
            autoTickPeriod=0.002,
            raftMinTimeout=0.15,
            raftMaxTimeout=0.3,
            connectionRetryTime=0.2,
            journalFile=journal,
            logCompactionMinEntries=10**9,
            logCompactionMinTime=10**9,
        )
        super().__init__(own, others, conf)

    @replicated
    def put(self, key: str, value: str) -> None:
        self.values[key] = value

    def leader(self) -> str | None:
        leader = self._getLeader()
        return None if leader is None else str(leader)


class Load:
    """So many puts in flight: the next one goes out where one is answered."""

    def __init__(self, store: Store, value_bytes: int) -> None:
        self.store = store
        self.value_bytes = value_bytes
        self.until = 0.0
        self.number = 0
        self.times: list[float] = []
        self.problem: str | None = None

    def run(self, in_flight: int, seconds: float) -> list[float]:
        """Times of all puts, milliseconds."""
        self.times = []
        self.until = time.perf_counter() + seconds
        self.lanes = in_flight
        self.done = threading.Event()
        for _ in range(in_flight):
            self._next()
        if not self.done.wait(seconds + 60) or self.problem:
            raise SystemExit(f"pysyncobj: {self.problem or 'no answer'}")
        return self.times

    def _next(self) -> None:
        began = time.perf_counter()
        self.number += 1
        key, value = f"key-{self.number % KEYS}", str(self.number).zfill(self.value_bytes)

        def answered(_result: object, error: int) -> None:
            now = time.perf_counter()
            if error != FAIL_REASON.SUCCESS:
                self.problem = f"a put failed: {error}"
                self.done.set()
            elif now < self.until:
                self.times.append((now - began) * 1000)
                self._next()
            else:
                self.lanes -= 1
                if not self.lanes:
                    self.done.set()

        self.store.put(key, value, callback=answered)


class Talk:
    def __init__(self, store: Store) -> None:
        self.store = store
        #: (who led when it was acknowledged, when): the first of each leader's.
        self.firsts: list[tuple[str, int]] = []

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        match question.pop("do"):
            case "load":
                return self.load(**question)
            case "write":
                threading.Thread(target=self.write, kwargs=question, daemon=True).start()
                return {}
            case _:
                return {
                    "leader": self.store.leader(),
                    "applied": self.store.raftLastApplied,
                    "committed": self.store.raftCommitIndex,
                    "firsts": self.firsts,
                }

    def load(
        self,
        *,
        in_flight: int,
        value_bytes: int,
        seconds: float,
        warm_up_seconds: float,
        server_pids: list[int],
    ) -> dict[str, Any]:
        load = Load(self.store, value_bytes)
        load.run(in_flight, warm_up_seconds)
        began, before = time.perf_counter(), _cpu_seconds(server_pids)
        times = load.run(in_flight, seconds)
        cpu_seconds = _cpu_seconds(server_pids) - before
        took = time.perf_counter() - began
        return {
            "in_flight": in_flight,
            "value_bytes": value_bytes,
            "commits": len(times),
            "seconds": took,
            "commits_per_second": len(times) / took,
            "p50_ms": quantile(times, 0.5),
            "p99_ms": quantile(times, 0.99),
            "max_ms": max(times),
            "server_cpu_seconds": cpu_seconds,
            "cpu_seconds_per_1000": cpu_seconds * 1000 / len(times),
        }

    def write(self, *, every_ms: float, value_bytes: int) -> None:
        """Writes at a pace, whatever became of those before."""

        def answered(_result: object, error: int) -> None:
            leader = self.store.leader()
            if error != FAIL_REASON.SUCCESS or leader is None:
                return
            if not self.firsts or self.firsts[-1][0] != leader:
                self.firsts.append((leader, time.monotonic_ns()))

        number = 0
        while True:
            number += 1
            value = str(number).zfill(value_bytes)
            self.store.put(f"key-{number % KEYS}", value, callback=answered)
            time.sleep(every_ms / 1000)


def _cpu_seconds(pids: list[int]) -> float:
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(of_one.user + of_one.system for of_one in times)


def main(own: str, *rest: str) -> None:
    *others, journal = rest
    Path(journal).parent.mkdir(parents=True, exist_ok=True)
    store = Store(own, others, journal)
    talk = Talk(store)
    for line in sys.stdin:
        print(json.dumps(talk.answer(json.loads(line))), flush=True)
    store.destroy_synchronous()


if __name__ == "__main__":
    main(*sys.argv[1:])
