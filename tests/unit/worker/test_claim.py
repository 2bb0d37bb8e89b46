"""One worker at a time has an identity folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from zlayer_native.errors import IdentityError
from zlayer_native.worker.claim import Claim

_HOLD = (
    "import sys; from pathlib import Path; from zlayer_native.worker.claim import Claim\n"
    "claim = Claim(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the folder."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path / "i")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_another_process_is_named(holder: subprocess.Popen[str], tmp_path: Path):
    with pytest.raises(IdentityError, match=f"process {holder.pid} has this identity"):
        Claim(tmp_path / "i")


def test_a_process_that_is_killed_has_it_no_more(holder: subprocess.Popen[str], tmp_path: Path):
    holder.kill()
    holder.wait()
    Claim(tmp_path / "i").release()


def test_a_second_worker_of_this_process_is_refused_until_the_first_lets_go(tmp_path: Path):
    first = Claim(tmp_path / "i")
    with pytest.raises(IdentityError, match="another Worker of this process"):
        Claim(tmp_path / "x" / ".." / "i")
    first.release()
    first.release()
    Claim(tmp_path / "i").release()


_FORK = """
import os, sys
from pathlib import Path
from zlayer_native.errors import IdentityError
from zlayer_native.worker.claim import Claim
claim = Claim(Path(sys.argv[1]))
read, write = os.pipe()
if os.fork() == 0:
    claim.release()  # Does nothing here.
    try:
        Claim(Path(sys.argv[1]))
    except IdentityError as error:
        print(error, flush=True)
    os.write(write, b"tried")
    sys.stdin.read()
    os._exit(0)
os.read(read, 5)
"""


def test_a_forked_child_neither_has_it_nor_keeps_it(tmp_path: Path):
    with subprocess.Popen(
        [sys.executable, "-c", _FORK, str(tmp_path / "i")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        assert f"process {parent.pid} has this identity" in parent.stdout.readline()
        assert parent.wait() == 0
        # The child is still there.
        Claim(tmp_path / "i").release()


def test_the_folder_is_made_private(tmp_path: Path):
    claim = Claim(tmp_path / "a" / "i")
    assert (tmp_path / "a" / "i").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a" / "i" / "lock").stat().st_mode & 0o777 == 0o600
    claim.release()


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path):
    (tmp_path / "i").mkdir(mode=0o700)
    (tmp_path / "i" / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IdentityError, match="can't be opened"):
        Claim(tmp_path / "i")
    assert not (tmp_path / "elsewhere").exists()
