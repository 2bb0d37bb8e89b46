"""A disk whose power can be cut: ext4 on a loop device, shut down with its journal unwritten.

What the cut loses is what the system still held in memory: file contents, names and lengths that
were not synced, and the file system's own log. The file below keeps what was given to the device,
so that a device which loses its cache in spite of a flush is not what is tested here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

#: Linux's `FS_IOC_SHUTDOWN`, also known as `EXT4_IOC_SHUTDOWN`: `_IOR('X', 125, __u32)`.
_SHUTDOWN = 0x8004_587D

#: Do not write the journal first.
_NO_LOG_FLUSH = 2

#: Of all loop devices.
_LOOP_MAJOR = 7

#: The image is sparse: it takes what is written.
_BYTES = 256 << 20

_PACKAGES = {"mkfs.ext4": "e2fsprogs", "mount": "mount", "umount": "mount", "losetup": "mount"}


class HostRefusedError(Exception):
    """This machine can't do it; the text says what it said."""


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostRefusedError(f"{' '.join(command[:2])}: {done.stderr.strip()}")
    return done.stdout


class Disk:
    """An ext4 below `root`, mounted and not by turns. Its context leaves nothing behind."""

    def __init__(self, root: Path) -> None:
        self._image = root / "disk.img"
        self.folder = root / "disk"
        self._is_mounted = False

    def __enter__(self) -> Self:
        self.folder.mkdir()
        with self._image.open("wb") as image:
            image.truncate(_BYTES)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_mounted:
            self.unmount()
        # The unmount takes the loop device along; a mount that failed half-way may not have.
        for line in _run("losetup", "--associated", str(self._image)).splitlines():
            _run("losetup", "--detach", line.split(":")[0])

    def mount(self) -> None:
        """Mounts it, which repeats the journal."""
        _run("mount", "-o", "loop", str(self._image), str(self.folder))
        self._is_mounted = True

    def unmount(self) -> None:
        _run("umount", str(self.folder))
        self._is_mounted = False

    def cut(self) -> None:
        """Cuts the power: from here on it answers every write and sync with an I/O error."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if os.major(os.fstat(descriptor).st_dev) != _LOOP_MAJOR:
                raise AssertionError(f"{self.folder} is on a disk of this machine")
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        except OSError as error:
            raise HostRefusedError(f"FS_IOC_SHUTDOWN: {error}") from error
        finally:
            os.close(descriptor)


def why_not(root: Path) -> str | None:
    """Why this machine can't cut the power of a disk; None where it can. Tries it, below `root`."""
    if os.geteuid() != 0:
        return "not root"
    for command, package in _PACKAGES.items():
        if shutil.which(command) is None:
            return f"no {command} (package {package})"
    if shutil.which("cargo") is None:
        return "no cargo to build the writer with"
    root.mkdir()
    try:
        with Disk(root) as disk:
            disk.mount()
            disk.cut()
    except HostRefusedError as refusal:
        return str(refusal)
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(root)
    return None
