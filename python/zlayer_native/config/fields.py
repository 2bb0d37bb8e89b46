"""Types of fields: each takes what a file, a variable or Python gives, or says what it expected."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Annotated, TypeVar

from pydantic import BeforeValidator, PlainSerializer, PlainValidator
from pydantic_core import PydanticCustomError

from zlayer_native.config import addresses, durations, labels
from zlayer_native.config.hidden import holds_secret
from zlayer_native.config.labels import LABELS_MAX, RESERVED_PREFIX, Labels
from zlayer_native.config.model import many_wrong, wrong
from zlayer_native.config.origins import Path, Plain
from zlayer_native.config.problems import is_null, nearest, shown

T = TypeVar("T")

#: An integer that every JSON reader holds exactly.
_ID_MAX = 2**53 - 1
#: Ids of servers end where those of workers begin.
SERVER_ID_MAX = 999
#: Days that a duration may last. Chosen: no fleet waits longer than a month for a heartbeat.
_DURATION_MAX = 30 * 86_400
_PATH_BYTES_MAX = 4096  # PATH_MAX on Linux.

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")


def _integer(low: int, high: int) -> Callable[[object], int]:
    expected = f"an integer in {low}..{high}"

    def parse(value: object) -> int:
        if isinstance(value, Plain) and _INTEGER.fullmatch(value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong(f"got {shown(value)}", expected)
        if not low <= value <= high:
            raise wrong(f"{shown(value)} is out of range", expected)
        return int(value)

    return parse


def _duration(low: int, high: int = _DURATION_MAX) -> Callable[[object], int]:
    def parse(value: object) -> int:
        try:
            seconds = durations.parse_duration(value)
        except ValueError as error:
            raise wrong(f"{error}: {shown(value)}", durations.EXPECTED) from None
        if not low <= seconds <= high:
            raise wrong(f"{shown(value)} is out of range", f"{low}..{high} seconds")
        return seconds

    return parse


def _text(value: object, expected: str) -> str:
    if is_null(value) or not isinstance(value, str):
        raise wrong(f"got {shown(value)}", expected)
    return str(value)


def _name(value: object) -> str:
    name = _text(value, labels.EXPECTED)
    if not labels.is_name(name):
        raise wrong(f"{shown(name)} is not a name", labels.EXPECTED)
    return name


def _address(parser: Callable[[str], str], expected: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        text = _text(value, expected)
        try:
            return parser(text)
        except ValueError as error:
            # Who writes a user name may write a password behind it: that is not repeated.
            said = "it" if "@" in text else shown(text)
            raise wrong(f"{said} is not an address: {error}", expected) from None

    return parse


def _path(value: object) -> pathlib.Path:
    text = str(value) if isinstance(value, pathlib.Path) else _text(value, "a path")
    if holds_secret(text):
        # Never repeated: what stands here is the secret itself.
        raise wrong("this looks like a token or a key itself", "the path of a file or folder")
    if not text.isprintable():
        raise wrong(f"{shown(text)} holds characters that no path should", "a printable path")
    if not text or len(text.encode()) > _PATH_BYTES_MAX:
        raise wrong("an empty or endless path", f"1..{_PATH_BYTES_MAX} bytes")
    try:
        return pathlib.Path(text).expanduser()
    except RuntimeError:
        raise wrong(f"{shown(text)}: there is no such home", "a path") from None


def _or_null(parse: Callable[[object], T]) -> Callable[[object], T | None]:
    return lambda value: None if is_null(value) else parse(value)


def choice(*options: str) -> BeforeValidator:
    """One of the words, with a suggestion for a near miss."""
    expected = "one of " + ", ".join(options)

    def parse(value: object) -> str:
        word = _text(value, expected)
        if word in options:
            return word
        near = nearest(word, options)
        hint = f", did you mean {near}?" if near else ""
        raise wrong(f"got {shown(word)}{hint}", expected)

    return BeforeValidator(parse)


def _labels(value: object) -> Labels:
    if is_null(value):
        return Labels()
    if not isinstance(value, Mapping):
        raise wrong(f"got {shown(value)}", "a map of label to value")
    if len(value) > LABELS_MAX:
        raise wrong(f"{len(value)} labels", f"at most {LABELS_MAX}")
    errors: list[tuple[Path, PydanticCustomError]] = []
    items: dict[str, str] = {}
    for key, item in value.items():
        problem = _label_problem(key, item)
        if problem:
            errors.append(((str(key),), wrong(problem, labels.EXPECTED)))
        else:
            items[str(key)] = str(item)
    if errors:
        raise many_wrong(errors)
    return Labels(items)


def _label_problem(key: object, value: object) -> str:
    if not isinstance(key, str):
        return "a label's key is text"
    if key.startswith(RESERVED_PREFIX):
        return f"the prefix {RESERVED_PREFIX} is reserved"
    if not labels.is_name(key):
        return "not a label's key"
    if not isinstance(value, str):
        return f"got {shown(value)}, a label's value is text"
    if not labels.is_name(value):
        return f"{shown(str(value))} is not a label's value"
    return ""


PeerId = Annotated[int, BeforeValidator(_integer(1, _ID_MAX))]
ServerId = Annotated[int, BeforeValidator(_integer(1, SERVER_ID_MAX))]
Count = Annotated[int, BeforeValidator(_integer(1, 1_000_000))]
Rate = Annotated[int, BeforeValidator(_integer(0, 1_000_000))]
Seconds = Annotated[int, BeforeValidator(_duration(1))]
SecondsOrZero = Annotated[int, BeforeValidator(_duration(0))]
Name = Annotated[str, BeforeValidator(_name)]
FilePath = Annotated[pathlib.Path, BeforeValidator(_path)]
FilePathOrNull = Annotated[pathlib.Path | None, BeforeValidator(_or_null(_path))]
BindAddress = Annotated[
    str, BeforeValidator(_address(addresses.parse_bind, addresses.EXPECTED_BIND))
]
BindAddressOrNull = Annotated[
    str | None,
    BeforeValidator(_or_null(_address(addresses.parse_bind, addresses.EXPECTED_BIND))),
]
DialAddress = Annotated[
    str, BeforeValidator(_address(addresses.parse_dial, addresses.EXPECTED_DIAL))
]
DialAddressOrNull = Annotated[
    str | None,
    BeforeValidator(_or_null(_address(addresses.parse_dial, addresses.EXPECTED_DIAL))),
]
ServerAddress = Annotated[
    str, BeforeValidator(_address(addresses.parse_server, addresses.EXPECTED_SERVER))
]
LabelMap = Annotated[Labels, PlainValidator(_labels), PlainSerializer(dict, return_type=dict)]
