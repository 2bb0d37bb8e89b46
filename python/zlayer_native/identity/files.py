"""Files that hold keys: private from the first byte, durable on return, refused if not ours.

Every name is opened with `O_NOFOLLOW`, and what is checked is the open file, not the name.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from pathlib import Path

from zlayer_native.errors import IdentityError

_PRIVATE_DIR = 0o700
_PRIVATE_FILE = 0o600
_OTHERS = stat.S_IRWXG | stat.S_IRWXO

#: Names that `write_private` uses until it is done.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}")

#: No key, certificate or bundle of ours is longer. Chosen.
FILE_BYTES_MAX = 64 * 1024


def make_private_dir(path: Path) -> None:
    """Makes `path` with mode 0700, and what is missing above it; checks it if it is there.

    Raises:
        IdentityError: it can't be made, or is not private to us.
    """
    missing = [path]
    while not exists(missing[-1].parent):
        missing.append(missing[-1].parent)
    try:
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=_PRIVATE_DIR)
                sync_dir(folder.parent)
    except OSError as error:
        raise IdentityError(f"{path}: can't be made: {error.strerror}") from error
    check_private_dir(path)


def check_private_dir(path: Path) -> None:
    """Checks that `path` is a folder of ours that nobody else may enter.

    Raises:
        IdentityError: it is missing, a symbolic link, no folder, another user's, or open to others.
    """
    try:
        status = path.lstat()
    except OSError as error:
        raise IdentityError(f"{path}: {error.strerror}") from error
    if stat.S_ISLNK(status.st_mode):
        raise IdentityError(f"{path}: is a symbolic link")
    if not stat.S_ISDIR(status.st_mode):
        raise IdentityError(f"{path}: is not a folder")
    _check_owner(path, status)
    if status.st_mode & _OTHERS:
        mode = stat.S_IMODE(status.st_mode)
        raise IdentityError(f"{path}: mode {mode:04o} lets others in: chmod 700 {path}")


def read_private(path: Path) -> bytes:
    """Reads a file that only we may read.

    Raises:
        IdentityError: it is missing, not a plain file, another user's, open to others, or too long.
    """
    return _read(path, forbidden=_OTHERS, wanted="600")


def read_public(path: Path) -> bytes:
    """Reads a file that others may read but only we may write: a certificate.

    Raises:
        IdentityError: as `read_private`.
    """
    return _read(path, forbidden=stat.S_IWGRP | stat.S_IWOTH, wanted="644")


def _read(path: Path, *, forbidden: int, wanted: str) -> bytes:
    # O_NONBLOCK: opening a pipe that somebody put there must not wait.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        reason = "is a symbolic link" if path.is_symlink() else error.strerror
        raise IdentityError(f"{path}: {reason}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise IdentityError(f"{path}: is not a plain file")
        _check_owner(path, status)
        if status.st_mode & forbidden:
            mode = stat.S_IMODE(status.st_mode)
            raise IdentityError(f"{path}: mode {mode:04o} is too open: chmod {wanted} {path}")
        if status.st_size > FILE_BYTES_MAX:
            raise IdentityError(f"{path}: is longer than {FILE_BYTES_MAX} bytes")
        # A plain file gives all that it has; one that grows meanwhile is cut, and so unreadable.
        return os.read(descriptor, FILE_BYTES_MAX)
    except OSError as error:
        raise IdentityError(f"{path}: can't be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _check_owner(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise IdentityError(
            f"{path}: belongs to user {status.st_uid}, and this process is user {os.geteuid()}"
        )


def write_private(path: Path, content: bytes) -> None:
    """Replaces `path` by a file of mode 0600 with this content, at once and durably.

    A crash leaves the old content or the new, never a mixture.

    Raises:
        IdentityError: it can't be written; the old content is still there.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _create(temporary, content)
        temporary.replace(path)
        sync_dir(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise IdentityError(f"{path}: can't be written: {error.strerror}") from error


def _create(path: Path, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, _PRIVATE_FILE), "wb") as file:
        # An umask may have taken bits that we need; it can't have added any.
        os.fchmod(file.fileno(), _PRIVATE_FILE)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def clear_temporaries(folder: Path) -> None:
    """Removes what a crash in `write_private` left. Only for the one process that writes there.

    Raises:
        IdentityError: a file can't be removed.
    """
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name):
            remove(path)


def rename(old: Path, new: Path) -> None:
    """Renames within one folder, durably.

    Raises:
        IdentityError: it can't be renamed.
    """
    try:
        old.replace(new)
        sync_dir(new.parent)
    except OSError as error:
        raise IdentityError(f"{new}: can't be replaced: {error.strerror}") from error


def remove(path: Path) -> None:
    """Removes a file if it is there, durably.

    Raises:
        IdentityError: it can't be removed.
    """
    try:
        path.unlink(missing_ok=True)
        sync_dir(path.parent)
    except OSError as error:
        raise IdentityError(f"{path}: can't be removed: {error.strerror}") from error


def exists(path: Path) -> bool:
    """Whether there is anything by that name, also a link that leads nowhere."""
    return os.path.lexists(path)


def sync_dir(path: Path) -> None:
    """Makes a folder's entries durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
