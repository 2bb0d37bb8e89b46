"""TOML through `tomllib`, which knows no lines and no limits: a scan of the text adds both."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

from zlayer_native.config.builder import (
    DEPTH_MAX,
    NUMBER_CHARACTERS_MAX,
    VALUES_MAX,
    Builder,
)
from zlayer_native.config.hidden import HIDDEN, looks_secret
from zlayer_native.config.origins import Path
from zlayer_native.config.problems import SyntaxProblem

#: Parts of a dotted key. `tomllib` takes the square of them, and the longest of ours has three.
_PARTS_MAX = 4

#: Possessive (`++`): a megabyte of text leaves no trail of positions to go back to.
_TOKEN = re.compile(
    r"""
    (?P<space>[ \t]+|\#[^\n]*)
    | (?P<newline>\n(?:[ \t\n]++|\#[^\n]*+)*+)
    | (?P<string>\"\"\"(?:[^"\\]++|\\.|"(?!""))*+"{3,5} | '''(?:[^']++|'(?!''))*+'{3,5}
        | "(?:[^"\\\n]++|\\[^\n])*+" | '[^'\n]*')
    | (?P<mark>[\[\]{},=.])
    | (?P<word>[^\s\#"'\[\]{},=.]+)
    """,
    re.VERBOSE | re.DOTALL,
)
_PLACE = re.compile(r" \(at (?:line (?P<line>\d+), column \d+|end of document)\)$")


def read_toml(text: str, builder: Builder) -> None:
    """Reads the document into the builder.

    Raises:
        SyntaxProblem: the text can't be read on.
    """
    text = text.replace("\r\n", "\n")
    scan = _Scan(text)
    try:
        scan.read()
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = _PLACE.search(str(error))
        line = int(place["line"] or text.count("\n") + 1) if place else 0
        said = str(error)[: place.start()] if place else str(error)
        if looks_secret(said):
            said = HIDDEN
        raise SyntaxProblem(f"not TOML, {said[:1].lower()}{said[1:]}", line=line) from None
    _build(data, (), scan.lines, builder, 1)


def _build(value: object, path: Path, lines: dict[Path, int], builder: Builder, line: int) -> None:
    line = lines.get(path, line)
    if isinstance(value, dict):
        builder.open({}, line)
        for key, item in value.items():
            builder.key(key, lines.get((*path, key), line))
            _build(item, (*path, key), lines, builder, line)
        builder.close()
    elif isinstance(value, list):
        builder.open([], line)
        for index, item in enumerate(value):
            _build(item, (*path, index), lines, builder, line)
        builder.close()
    else:
        builder.scalar(value, line)


class _End(Exception):
    """The text ends, or is no TOML: `tomllib` will say so better."""


class _Scan:
    """Finds the line of each key and list item. Understands valid TOML; the rest ends the scan."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self.line = 1
        self._tokens = self._split(text)
        self._kind, self._text = "", ""
        self._newlines = 0
        self._items: dict[Path, int] = {}  # Items so far of each `[[list of tables]]`.
        self._values = 0

    def read(self) -> None:
        """Scans the whole text.

        Raises:
            SyntaxProblem: it is over a limit.
        """
        table: Path = ()
        try:
            self._next()
            while True:
                if self._kind == "newline":
                    self._next()
                elif self._is("["):
                    table = self._header()
                else:
                    self._assignment(table, depth=1)
        except _End:
            return

    def _split(self, text: str) -> Iterator[tuple[str, str, int]]:
        at = 0
        while token := _TOKEN.match(text, at):
            at = token.end()
            yield str(token.lastgroup), token[0], token[0].count("\n")

    def _next(self) -> None:
        self.line += self._newlines
        for kind, text, newlines in self._tokens:
            if kind != "space":
                self._kind, self._text, self._newlines = kind, text, newlines
                return
        raise _End

    def _skip_newlines(self) -> None:
        while self._kind == "newline":
            self._next()

    def _is(self, mark: str) -> bool:
        return self._kind == "mark" and self._text == mark

    def _header(self) -> Path:
        line = self.line
        self._count()
        self._next()
        is_list = self._is("[")
        if is_list:
            self._next()
        parts = self._key()
        path: Path = ()
        for left, part in zip(range(len(parts) - 1, -1, -1), parts, strict=True):
            path = (*path, part)
            self.lines.setdefault(path, line)
            if left and path in self._items:
                path = (*path, self._items[path] - 1)
        if is_list:
            self._items[path] = self._items.get(path, 0) + 1
        if path in self._items:
            path = (*path, self._items[path] - 1)
        self.lines[path] = line
        self._next()
        if is_list:
            self._next()
        return path

    def _key(self) -> list[str]:
        parts: list[str] = []
        while True:
            if self._kind not in ("word", "string"):
                raise _End
            parts.append(self._text if self._kind == "word" else _unquoted(self._text))
            if len(parts) > _PARTS_MAX:
                raise SyntaxProblem(f"a key of more than {_PARTS_MAX} parts", line=self.line)
            self._next()
            if not self._is("."):
                return parts
            self._next()

    def _assignment(self, block: Path, depth: int) -> None:
        line = self.line
        path = block
        for part in self._key():
            path = (*path, part)
            self.lines.setdefault(path, line)
        if not self._is("="):
            raise _End
        self._next()
        self._value(path, depth + 1)

    def _value(self, path: Path, depth: int) -> None:
        self._count()
        if depth > DEPTH_MAX:
            raise SyntaxProblem(f"nested deeper than {DEPTH_MAX}", line=self.line)
        if self._is("["):
            self._list(path, depth)
        elif self._is("{"):
            self._table(path, depth)
        else:
            self._scalar()

    def _count(self) -> None:
        self._values += 1
        if self._values > VALUES_MAX:
            raise SyntaxProblem(f"more than {VALUES_MAX} values", line=self.line)

    def _list(self, path: Path, depth: int) -> None:
        self._next()
        index = 0
        while True:
            self._skip_newlines()
            if self._is("]"):
                return self._next()
            self.lines[(*path, index)] = self.line
            self._value((*path, index), depth + 1)
            index += 1
            self._skip_newlines()
            if self._is(","):
                self._next()

    def _table(self, path: Path, depth: int) -> None:
        self._next()
        while True:
            self._skip_newlines()
            if self._is("}"):
                return self._next()
            self._assignment(path, depth)
            self._skip_newlines()
            if self._is(","):
                self._next()

    def _scalar(self) -> None:
        if self._kind == "string":
            return self._next()
        if self._kind != "word":
            raise _End
        # A date and its time, or a number with a fraction, are several words and dots.
        while self._kind == "word" or self._is("."):
            if len(self._text) > NUMBER_CHARACTERS_MAX:
                told = f"a number of {len(self._text)} characters"
                raise SyntaxProblem(told, line=self.line, expected="a number")
            self._next()


def _unquoted(text: str) -> str:
    if text.startswith("'") or "\\" not in text:
        return text[1:-1]
    try:
        return str(tomllib.loads(f"key = {text}")["key"])
    except tomllib.TOMLDecodeError:
        raise _End from None
