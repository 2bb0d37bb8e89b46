"""One process at a time is a given worker.

Two that share an identity would supersede each other's session for ever. A record lock, unlike
`flock`, belongs to the process: a forked child neither holds it nor keeps it after its parent.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from pathlib import Path

from zlayer_native.errors import IdentityError
from zlayer_native.identity import files

_NAME = "lock"
_MODE = 0o600

#: `struct flock` of fcntl(2) on Linux: type, whence, start, length, pid, with native alignment.
_FLOCK = "hhqqi"

#: This process's claims, by process and folder: a record lock does not tell two of them apart.
_held: set[tuple[int, Path]] = set()


class Claim:
    """Holds an identity folder until `release`, or until the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Takes the folder, and makes it (mode 0700) if it is missing.

        Raises:
            IdentityError: another worker has it, or it is not private, or can't be made.
        """
        files.make_private_dir(folder)
        self._key = (os.getpid(), folder.resolve())
        if self._key in _held:
            raise IdentityError(
                f"{folder}: another Worker of this process has this identity: stop it first, or"
                " give each its own identity_dir"
            )
        self._descriptor = _lock(folder / _NAME)
        _held.add(self._key)

    def release(self) -> None:
        """Lets others have it. Does nothing the second time, or in a forked child."""
        if self._key in _held and self._key[0] == os.getpid():
            _held.discard(self._key)
            os.close(self._descriptor)


def _lock(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, _MODE)
    except OSError as error:
        raise IdentityError(f"{path}: can't be opened: {error.strerror}") from error
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = _holder(descriptor)
        os.close(descriptor)
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise IdentityError(f"{path}: can't be locked: {error.strerror}") from error
        raise IdentityError(
            f"{path.parent}: {holder} has this identity: stop it first, or give each its own"
            " identity_dir"
        ) from error
    return descriptor


def _holder(descriptor: int) -> str:
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    with contextlib.suppress(OSError):
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
        if kind != fcntl.F_UNLCK and pid > 0:
            return f"process {pid}"
    return "another process"
