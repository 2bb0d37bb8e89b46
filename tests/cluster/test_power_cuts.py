"""Power cuts on a real file system: what was acknowledged is there, and no vote goes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.power_cuts import Cuts, build
from tests.cluster.power_disk import why_not
from tests.cluster.power_ledger import LEDGERS, LostWriteError

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    reason = why_not(tmp_path_factory.mktemp("power") / "probe")
    if reason is not None:
        pytest.skip(f"not run, the power of a disk can't be cut here: {reason}")
    return build()


@pytest.mark.parametrize("cuts", [3, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize("subject", LEDGERS)
def test_no_acknowledged_write_is_lost(program: Path, tmp_path: Path, subject: str, cuts: int):
    run = Cuts(program, subject, tmp_path, seed=cuts)
    run.run(cuts)
    assert run.cuts == cuts
    assert run.ledger.acknowledged > cuts


@pytest.mark.parametrize("subject", LEDGERS)
def test_a_sync_that_does_nothing_is_seen(program: Path, tmp_path: Path, subject: str):
    run = Cuts(program, subject, tmp_path, seed=1, extra=["--unsynced"])
    with pytest.raises(LostWriteError):
        run.run(3)
    assert run.ledger.acknowledged > 0
