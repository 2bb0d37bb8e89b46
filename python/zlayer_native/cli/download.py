"""A new file that is there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from zlayer_native.errors import ConfigError


class NewFile:
    """A context that writes `path` (mode 0600) beside its place and moves it there at its end.

    Raises:
        ConfigError: it is there already, or can't be written; what was written is removed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.part")
        self._descriptor = -1
        #: Bytes written.
        self.size = 0

    def __enter__(self) -> Self:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._told():
            self._descriptor = os.open(self._part, flags, 0o600)
        return self

    def write(self, piece: bytes) -> None:
        """Appends."""
        with self._told():
            while piece:
                piece = piece[os.write(self._descriptor, piece) :]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                with self._told():
                    self.size = os.fstat(self._descriptor).st_size
                    os.fsync(self._descriptor)
                    os.link(self._part, self._path)  # Unlike a rename it replaces nothing.
        finally:
            os.close(self._descriptor)
            with contextlib.suppress(OSError):
                self._part.unlink()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigError(f"{self._path}: can't be written: {error.strerror}") from error
