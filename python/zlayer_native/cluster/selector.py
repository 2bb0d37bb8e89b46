"""Selectors of labels: `gpu=a100,zone in (eu-1,eu-2),!spot`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from zlayer_native.config.labels import is_name
from zlayer_native.errors import ConfigError

Labels = Mapping[str, str]
Test = Callable[[Labels], bool]

_EXPECTED = "key, !key, key=value, key!=value, key in (a,b) or key notin (a,b), joined by commas"
_SET = re.compile(r"(?P<key>\S+)\s+(?P<how>in|notin)\s*\((?P<values>[^()]*)\)")
#: A comma that is not inside brackets.
_COMMA = re.compile(r",(?![^(]*\))")


def parse(text: str) -> Test:
    """What a selector selects; an empty one selects everything.

    Raises:
        ConfigError: it can't be read; the message says which part.
    """
    if not text.strip():
        return lambda _: True
    tests = [_term(part.strip()) for part in _COMMA.split(text)]
    return lambda labels: all(test(labels) for test in tests)


def _term(part: str) -> Test:
    match = _SET.fullmatch(part)
    if match is not None:
        key = _name(match["key"], part)
        values = {_name(value.strip(), part) for value in match["values"].split(",")}
        if match["how"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    for sign, wanted in (("!=", False), ("=", True)):
        key, found, value = part.partition(sign)
        if found:
            key, value = _name(key.strip(), part), _name(value.strip(), part)
            return lambda labels: (labels.get(key) == value) is wanted
    if part.startswith("!"):
        key = _name(part[1:], part)
        return lambda labels: key not in labels
    key = _name(part, part)
    return lambda labels: key in labels


def _name(text: str, part: str) -> str:
    if not is_name(text):
        raise ConfigError(f"selector {part!r}: expected {_EXPECTED}")
    return text
