"""What the ledgers of the power cuts take for a loss; needs no disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.power_ledger import ControlLedger, Journal, Ledger, LostWriteError, RaftLogLedger

#: Two entries, a vote and a truncation that were acknowledged; an entry and a vote that were not.
RAFT_LOG = """\
found 0 0
open
+ 1 append 1 0 1 2
= 1
+ 2 vote 3
= 2
+ 3 truncate 1
= 3
+ 4 append 2 3 3 1
+ 5 vote 4
"""


def after(ledger: Ledger, text: str, tmp_path: Path) -> Ledger:
    ledger.next_life()
    path = tmp_path / "journal"
    path.write_text(text)
    ledger.note(Journal.read(path))
    return ledger


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(["3 0", "1 0 1 1"], id="what was acknowledged"),
        pytest.param(["3 0", "1 0 1 1", "2 3 3 1"], id="and a step that was begun"),
        pytest.param(["4 0", "1 0 1 1", "2 3 3 1"], id="and all of them"),
    ],
)
def test_a_raft_log_may_say_what_was_begun(tmp_path: Path, found: list[str]):
    ledger = after(RaftLogLedger(), RAFT_LOG, tmp_path)
    ledger.check([line.split() for line in found])


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(["0 0"], id="nothing is there"),
        pytest.param(["0 0", "1 0 1 1"], id="the vote went back"),
        pytest.param(["3 0", "1 0 1 1", "2 0 2 1"], id="a voided entry came again"),
        pytest.param(["4 0", "1 0 1 1"], id="a step is left out"),
        pytest.param(["3 0", "1 0 1 2"], id="an entry of another life"),
        pytest.param(["3 1"], id="nobody purged"),
    ],
)
def test_a_raft_log_that_says_anything_else_is_a_loss(tmp_path: Path, found: list[str]):
    ledger = after(RaftLogLedger(), RAFT_LOG, tmp_path)
    with pytest.raises(LostWriteError):
        ledger.check([line.split() for line in found])


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(["2", "1 1"], id="the second number is lost"),
        pytest.param(["2", "1 1", "2 1", "3 1", "4 1"], id="the fourth was never begun"),
        pytest.param(["2", "2 1"], id="the first number is lost"),
        pytest.param(["1", "1 1", "2 1"], id="the term did not grow"),
    ],
)
def test_a_control_log_that_says_anything_else_is_a_loss(tmp_path: Path, found: list[str]):
    ledger = ControlLedger()
    ledger.check([["1"]])
    after(ledger, "found 1\nopen\n+ 1\n+ 2\n= 1\n= 2\n+ 3\n", tmp_path)
    with pytest.raises(LostWriteError):
        ledger.check([line.split() for line in found])


def test_what_is_acknowledged_during_the_cut_is_counted_and_not_promised(tmp_path: Path):
    ledger = ControlLedger()
    ledger.next_life()
    path = tmp_path / "journal"
    text = "open\n+ 1\n+ 2\n= 1\n"
    path.write_text(f"{text}= 2\n")
    ledger.note(Journal.read(path, before_cut=len(text)))
    ledger.check([["1"], ["1", "1"]])
    assert (ledger.acknowledged, ledger.late, ledger.late_lost) == (1, 1, 1)
