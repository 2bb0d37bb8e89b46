"""Reads a file of any of the formats: what it may be, how long, and in which letters."""

from __future__ import annotations

import functools
import os
import pathlib
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from zlayer_native.config.builder import SOURCE_BYTES_MAX, Builder
from zlayer_native.config.hidden import shown_path
from zlayer_native.config.origins import Layer, Origin
from zlayer_native.config.problems import Problem, SyntaxProblem, is_null, shown

Format: TypeAlias = Literal["yaml", "toml", "json"]

_EXTENSIONS: dict[str, Format] = {
    ".yaml": "yaml",
    ".yml": "yaml",
    ".toml": "toml",
    ".json": "json",
}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\ufeff\ufffe\uffff]")
_JSON_STARTS = re.compile(r"\s*\{\s*[\"}]")
_TOML_STARTS = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\r?\n)*[ \t]*(?:\[|[\w.\"'-]+[ \t]*=)")


@dataclass(slots=True)
class Source:
    """What a file holds, as far as it could be read. `broken`: it could not be read to its end."""

    layer: Layer = field(default_factory=Layer)
    problems: list[Problem] = field(default_factory=list)
    broken: bool = False


def read_file(path: pathlib.Path | str) -> Source:
    """Reads YAML, TOML or JSON: by the name's end, or else by what the content looks like.

    Raises nothing: what is wrong is in the source's problems.
    """
    path = os.fspath(path)
    name = shown_path(path)
    builder = Builder(functools.partial(Origin, "file", name))
    try:
        text = _text(_content(path))
        _reader(_format(path, text))(text, builder)
    except SyntaxProblem as problem:
        origin = Origin("file", name, problem.line)
        told = Problem((), problem.text, problem.expected, origin=origin)
        return Source(problems=[*builder.problems, told], broken=True)
    root = builder.value
    if root is None or is_null(root):  # An empty file, or one of comments.
        return Source(problems=builder.problems)
    if not isinstance(root, dict):
        told = Problem((), f"got {shown(root)}", "a block of keys", origin=builder.origins[()])
        return Source(problems=[*builder.problems, told], broken=True)
    return Source(Layer(root, builder.origins), builder.problems)


def _content(path: str) -> bytes:
    # O_NONBLOCK: opening a pipe must not wait for who writes it.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no name of a file"
        raise SyntaxProblem(f"can't be opened: {reason}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SyntaxProblem(f"is {_kind(status.st_mode)}", expected="a file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(SOURCE_BYTES_MAX + 1)
    except OSError as error:
        raise SyntaxProblem(f"can't be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(content) > SOURCE_BYTES_MAX:
        raise SyntaxProblem("too long", expected=f"at most {SOURCE_BYTES_MAX} bytes")
    return content


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _text(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SyntaxProblem("UTF-16", line=1, expected="UTF-8")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SyntaxProblem(f"byte {content[error.start]:#04x} is not UTF-8", line=line) from None
    control = _CONTROL.search(text)
    if control:
        line = text.count("\n", 0, control.start()) + 1
        raise SyntaxProblem(f"the character U+{ord(control[0]):04X}", line=line, expected="text")
    return text


def _format(path: str, text: str) -> Format:
    by_name = _EXTENSIONS.get(pathlib.PurePath(path).suffix.lower())
    if by_name is not None:
        return by_name
    if _JSON_STARTS.match(text):
        return "json"
    return "toml" if _TOML_STARTS.match(text) else "yaml"


def _reader(format_: Format) -> Callable[[str, Builder], None]:
    # Each is loaded when a file of its kind is: YAML alone costs a third of the rest.
    if format_ == "json":
        from zlayer_native.config.json_source import read_json

        return read_json
    if format_ == "toml":
        from zlayer_native.config.toml_source import read_toml

        return read_toml
    from zlayer_native.config.yaml_source import read_yaml

    return read_yaml
