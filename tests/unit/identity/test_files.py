"""Files are private from the first byte, whole or not there, and checked before use."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from zlayer_native.errors import IdentityError
from zlayer_native.identity import files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "a" / "b" / "private"
    files.make_private_dir(path)
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture(params=[0o000, 0o077, 0o777])
def umask(request: pytest.FixtureRequest) -> object:
    old = os.umask(request.param)
    yield
    os.umask(old)


def test_a_file_is_private_from_its_first_byte(
    folder: Path, umask: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int]] = []
    real_write, real_fsync = os.fdopen, os.fsync

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            seen.append(("synced", stat.S_IMODE(status.st_mode)))
        real_fsync(descriptor)

    def fdopen(descriptor: int, how: str) -> object:
        seen.append(("opened", stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077))
        return real_write(descriptor, how)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "fdopen", fdopen)
    files.write_private(folder / "key", b"secret")
    assert seen == [("opened", 0), ("synced", 0o600)]
    assert mode(folder / "key") == 0o600
    assert [path.name for path in folder.iterdir()] == ["key"]
    monkeypatch.undo()
    assert files.read_private(folder / "key") == b"secret"


def test_folders_are_made_private_with_what_is_above_them(tmp_path: Path) -> None:
    files.make_private_dir(tmp_path / "x" / "y")
    assert mode(tmp_path / "x") == mode(tmp_path / "x" / "y") == 0o700
    files.make_private_dir(tmp_path / "x" / "y")


def test_writing_replaces_at_once_and_never_follows_a_link(folder: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (folder / "key").symlink_to(victim)
    files.write_private(folder / "key", b"new")
    assert victim.read_text() == "untouched"
    assert files.read_private(folder / "key") == b"new"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError(5, "I/O error")])
def test_a_failed_write_keeps_the_old_content_and_no_litter(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    files.write_private(folder / "key", b"old")

    def fsync(descriptor: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(IdentityError, match=f"key: can't be written: {error.strerror}"):
        files.write_private(folder / "key", b"new")
    monkeypatch.undo()
    assert files.read_private(folder / "key") == b"old"
    assert [path.name for path in folder.iterdir()] == ["key"]


def test_temporaries_of_a_crash_are_cleared_and_nothing_else(folder: Path) -> None:
    keep = folder / ".profile"
    for path in (folder / ".key.pem.0123456789abcdef", keep, folder / "key.pem"):
        path.touch()
    files.clear_temporaries(folder)
    assert {path.name for path in folder.iterdir()} == {".profile", "key.pem"}


def test_what_is_no_plain_private_file_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "dir").mkdir()
    (folder / "link").symlink_to("dangling")
    (folder / "long").write_bytes(b"x" * (files.FILE_BYTES_MAX + 1))
    (folder / "long").chmod(0o600)
    for name, why in (
        ("pipe", "not a plain file"),
        ("dir", "not a plain file"),
        ("link", "symbolic link"),
        ("long", "longer than"),
        ("missing", "No such file"),
    ):
        with pytest.raises(IdentityError, match=f"{name}: .*{why}"):
            files.read_private(folder / name)


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o602, 0o610, 0o777])
def test_keys_that_others_can_touch_are_refused(folder: Path, bits: int) -> None:
    path = folder / "key"
    files.write_private(path, b"k")
    path.chmod(bits)
    with pytest.raises(IdentityError, match=rf"mode {bits:04o} is too open: chmod 600 "):
        files.read_private(path)


def test_certificates_may_be_read_by_others_but_not_written(folder: Path) -> None:
    path = folder / "cert"
    files.write_private(path, b"c")
    path.chmod(0o644)
    assert files.read_public(path) == b"c"
    path.chmod(0o664)
    with pytest.raises(IdentityError, match="too open"):
        files.read_public(path)


def test_files_and_folders_of_another_user_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write_private(folder / "key", b"k")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(IdentityError, match="belongs to user"):
        files.read_private(folder / "key")
    with pytest.raises(IdentityError, match="belongs to user"):
        files.check_private_dir(folder)


def test_folders_that_are_not_ours_alone_are_refused(folder: Path, tmp_path: Path) -> None:
    folder.chmod(0o750)
    with pytest.raises(IdentityError, match="mode 0750 lets others in: chmod 700"):
        files.make_private_dir(folder)
    folder.chmod(0o700)
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(IdentityError, match="symbolic link"):
        files.make_private_dir(link)
    plain = tmp_path / "plain"
    plain.touch()
    with pytest.raises(IdentityError, match="not a folder"):
        files.make_private_dir(plain)
    with pytest.raises(IdentityError, match="can't be made"):
        files.make_private_dir(plain / "below")
