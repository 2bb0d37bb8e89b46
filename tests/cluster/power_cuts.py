"""Cuts the power of a disk under a writer, again and again, and looks at what is there afterwards.

What was acknowledged before the cut begins must be there. Nothing is promised by what is
acknowledged while it goes on: a shutdown is no single moment, and a sync that is under way may be
answered with success though the file system has just lost what it stands for. The plain writer,
whose loop is one write and one fdatasync, loses such writes, too; a real power cut takes the writer
along.

By itself it makes the long run, and prints a JSON object: `python -m tests.cluster.power_cuts`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.cluster.harness import eventually
from tests.cluster.power_disk import Disk, why_not
from tests.cluster.power_ledger import LEDGERS, Journal, LostWriteError

ROOT = Path(__file__).parents[2]

#: Exit code of a writer whose disk refused.
_NO_DISK = 3

#: Longest that a writer works before the cut, seconds. Chosen: some thousand writes.
_LIFE_MAX = 0.3

#: Longest that a program needs to open, or to notice the cut. Busy machines are slow.
_PATIENCE = 60.0


def build() -> Path:
    """Builds the writer; gives its program."""
    command = ["cargo", "build", "--quiet", "--locked", "--features", "zlayer-raft/sim"]
    command += ["--example", "power_cut", "--message-format", "json-render-diagnostics"]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    messages = [json.loads(line) for line in built.stdout.splitlines()]
    programs = [message["executable"] for message in messages if message.get("executable")]
    return Path(programs[-1])


class Cuts:
    """One subject on one disk, from cut to cut."""

    def __init__(
        self, program: Path, subject: str, root: Path, *, seed: int, extra: Sequence[str] = ()
    ) -> None:
        self._program = program
        self._subject = subject
        self._root = root
        self._extra = list(extra)
        self._random = random.Random(seed)
        self.ledger = LEDGERS[subject]()
        self.cuts = 0
        #: More of them, right after the directory was opened and with nothing written.
        self.cuts_after_opening = 0
        self.largest_log_bytes = 0

    def run(self, cuts: int) -> None:
        """Makes so many cuts under a writer, and some more between.

        Raises:
            LostWriteError: Something is lost, or is there that never was.
        """
        with Disk(self._root) as disk:
            while self.cuts < cuts:
                disk.mount()
                self._look(disk)
                if self.cuts % 4 == 1:
                    # What was read back is relied on: opening must have made it durable.
                    disk.cut()
                    disk.unmount()
                    disk.mount()
                    self._look(disk)
                    self.cuts_after_opening += 1
                self._live_and_cut(disk)
                disk.unmount()
                self.cuts += 1
            disk.mount()
            self._look(disk)

    def _dir(self, disk: Disk) -> Path:
        return disk.folder / self._subject

    def _command(self, mode: str, disk: Disk) -> list[str]:
        return [str(self._program), self._subject, mode, str(self._dir(disk)), *self._extra]

    def _look(self, disk: Disk) -> None:
        output = self._root / "found"
        with output.open("wb") as stdout:
            done = subprocess.run(
                self._command("read", disk),
                stdout=stdout,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                timeout=_PATIENCE,
            )
        if done.returncode != 0:
            raise LostWriteError(f"after cut {self.cuts} it does not open: {done.stderr.strip()}")
        self._check(Journal.read(output))
        sizes = [path.stat().st_size for path in self._dir(disk).glob("*") if _is_log(path)]
        self.largest_log_bytes = max(self.largest_log_bytes, sum(sizes))

    def _check(self, journal: Journal) -> None:
        try:
            self.ledger.check(journal.found)
        except LostWriteError as error:
            raise LostWriteError(f"after cut {self.cuts}: {error}") from error

    def _live_and_cut(self, disk: Disk) -> None:
        """Lets a writer work for a while; it ends by the cut."""
        output, errors = self._root / "journal", self._root / "errors"
        in_flight = self._random.choice([1, 4, 16, 64])
        command = [*self._command("write", disk), "--in-flight", str(in_flight)]
        command += self.ledger.next_life()
        with output.open("wb") as stdout, errors.open("wb") as stderr:
            writer = subprocess.Popen(command, stdout=stdout, stderr=stderr)
        try:
            eventually(
                lambda: Journal.read(output).is_open or writer.poll() is not None,
                within=_PATIENCE,
                what="the writer has opened its directory",
            )
            # When the cut falls is what is tested.
            time.sleep(self._random.random() ** 2 * _LIFE_MAX)
            before_cut = output.stat().st_size
            disk.cut()
            code = writer.wait(_PATIENCE)
        finally:
            if writer.poll() is None:
                writer.kill()
                writer.wait()
        assert code == _NO_DISK, f"the writer ended with {code}: {errors.read_text()}"
        journal = Journal.read(output, before_cut=before_cut)
        self._check(journal)
        self.ledger.note(journal)


def _is_log(path: Path) -> bool:
    return path.suffix == ".wal" or path.name == "plain"


def _report(program: Path, subject: str, cuts: int, seed: int, extra: Sequence[str]) -> Any:
    """Makes the cuts, up to the first that loses something; says what came of them."""
    loss: str | None = None
    with tempfile.TemporaryDirectory() as root:
        run = Cuts(program, subject, Path(root), seed=seed, extra=extra)
        began = time.monotonic()
        try:
            run.run(cuts)
        except LostWriteError as error:
            loss = str(error)[:300]
    return {
        "subject": " ".join([subject, *extra]),
        "cuts": run.cuts,
        "more_cuts_right_after_opening": run.cuts_after_opening,
        "acknowledged": run.ledger.acknowledged,
        "cuts_that_lost": int(loss is not None),
        "loss": loss,
        "acknowledged_during_the_cut": run.ledger.late,
        "of_these_not_there": run.ledger.late_lost,
        "largest_log_bytes": run.largest_log_bytes,
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> int:
    """Prints what came of the cuts; 1 where something was lost, 2 where they can't be made."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cuts", type=int, default=50, help="of each subject")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--subject", choices=LEDGERS, action="append")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        reason = why_not(Path(root) / "probe")
    if reason is not None:
        print(f"not run: {reason}", file=sys.stderr)
        return 2
    program = build()
    subjects = arguments.subject or list(LEDGERS)
    runs = [_report(program, one, arguments.cuts, arguments.seed, []) for one in subjects]
    # The same with syncs that do nothing: what the cuts are able to see.
    planted = ["--unsynced"]
    blind = [_report(program, one, arguments.cuts, arguments.seed, planted) for one in subjects]
    report = {
        "kernel": platform.release(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "seed": arguments.seed,
        "runs": runs,
        "planted": blind,
    }
    print(json.dumps(report, indent=2))
    return int(any(run["loss"] for run in runs) or not all(run["loss"] for run in blind))


if __name__ == "__main__":
    sys.exit(main())
