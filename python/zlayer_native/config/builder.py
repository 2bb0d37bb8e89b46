"""Builds plain data out of a reader's events, within limits; notes origins and equal keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zlayer_native.config.origins import Origin, Path
from zlayer_native.config.problems import PROBLEMS_MAX, Problem, SyntaxProblem

#: Bytes of a file or a variable. The threat list (T37) asks for this at most.
SOURCE_BYTES_MAX = 1024 * 1024
#: Blocks and lists within each other. The threat list (T37) asks for this at most.
DEPTH_MAX = 32
#: Values in one source. Chosen: a thousand static peers with a dozen labels each fit.
VALUES_MAX = 20_000
#: More than any number of ours has; reading endless ones takes the square of their digits.
NUMBER_CHARACTERS_MAX = 400


@dataclass(slots=True)
class _Frame:
    """An open block or list. A detached one is a duplicate: read on, and thrown away."""

    container: dict[str, Any] | list[Any]
    path: Path
    detached: bool
    key: str | None = None
    line: int = 0  # Of the key.


class Builder:
    """Takes events in the order of the text; `value` is what they made.

    Args:
        origin: the origin of a line.
        root: the path of the whole text in the document.
    """

    def __init__(self, origin: Callable[[int], Origin], root: Path = ()) -> None:
        self.value: Any = None
        self.origins: dict[Path, Origin] = {}
        self.problems: list[Problem] = []
        self._origin = origin
        self._last: Origin | None = None
        self._root = root
        self._frames: list[_Frame] = []
        self._values = 0

    @property
    def wants_key(self) -> bool:
        """Whether a block is open whose next event is a key."""
        frame = self._frames[-1] if self._frames else None
        return frame is not None and isinstance(frame.container, dict) and frame.key is None

    def key(self, key: str, line: int) -> None:
        """The key of the value that comes next."""
        frame = self._frames[-1]
        frame.key, frame.line = key, line
        assert isinstance(frame.container, dict)  # noqa: S101 - the readers ask `wants_key`
        if key in frame.container:
            first = self.origins.get((*frame.path, key))
            where = f", first in line {first.line}" if first and first.line else ""
            self.wrong("given twice" + where, line, expected="each key once")

    def scalar(self, value: object, line: int) -> None:
        """A value that holds no others."""
        self._put(value, line)

    def open(self, container: dict[str, Any] | list[Any], line: int) -> None:
        """An empty block or list, which the next events fill until `close`.

        Raises:
            SyntaxProblem: too deep.
        """
        if len(self._frames) >= DEPTH_MAX:
            raise SyntaxProblem(f"nested deeper than {DEPTH_MAX}", line=line)
        path, detached = self._put(container, line)
        self._frames.append(_Frame(container, path, detached))

    def close(self) -> None:
        """The end of the innermost block or list."""
        self._frames.pop()

    def wrong(self, text: str, line: int, *, expected: str = "", unread: bool = False) -> None:
        """A problem with the value that comes next (or with what its key is).

        Args:
            text: what is wrong.
            line: where it stands.
            expected: what would be right.
            unread: the value is not the one that was meant.

        Raises:
            SyntaxProblem: more problems than a report tells.
        """
        if len(self.problems) >= PROBLEMS_MAX:
            raise SyntaxProblem("more is wrong than one report tells", line=line)
        path, origin = self._next_path(), self._origin_at(line)
        self.problems.append(Problem(path, text, expected, origin=origin, unread=unread))

    def _put(self, value: object, line: int) -> tuple[Path, bool]:
        self._values += 1
        if self._values > VALUES_MAX:
            raise SyntaxProblem(f"more than {VALUES_MAX} values", line=line)
        path = self._next_path()
        if not self._frames:
            self.value = value
            self.origins[path] = self._origin_at(line)
            return path, False
        frame = self._frames[-1]
        detached = frame.detached
        if isinstance(frame.container, list):
            frame.container.append(value)
        else:
            key, frame.key = str(frame.key), None
            line = frame.line  # A block begins where its key is, not where its first key is.
            detached = detached or key in frame.container
            if not detached:
                frame.container[key] = value
        if not detached:
            self.origins[path] = self._origin_at(line)
        return path, detached

    def _next_path(self) -> Path:
        if not self._frames:
            return self._root
        frame = self._frames[-1]
        if isinstance(frame.container, list):
            return (*frame.path, len(frame.container))
        return frame.path if frame.key is None else (*frame.path, frame.key)

    def _origin_at(self, line: int) -> Origin:
        if self._last is None or self._last.line != line:
            self._last = self._origin(line)
        return self._last
