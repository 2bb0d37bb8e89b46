"""Values that a program gives by dotted key: what the command line's flags become."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from zlayer_native.config.origins import Layer, Origin, Path, Plain
from zlayer_native.config.problems import Problem, SyntaxProblem
from zlayer_native.config.texts import read_text


@dataclass(frozen=True, slots=True)
class Flag:
    """A value, and what the flag is called that gave it, such as `--server`."""

    name: str
    value: Any


def dotted_layer(
    values: Mapping[str, Any], kind: Literal["flag", "implied"]
) -> tuple[Layer, list[Problem]]:
    """A layer of values by dotted key, such as `{"cluster.heartbeat_min_ttl": "15s"}`.

    A value of None is a flag that was not given. Maps are merged with what is below, all else
    replaces it. Text is read as in a variable. A `Flag` says how it is called.

    Returns:
        The layer, and what is wrong with its texts.
    """
    layer = Layer()
    problems: list[Problem] = []
    for key, given in values.items():
        flag = given if isinstance(given, Flag) else Flag(f"flag {key}", given)
        if flag.value is None:
            continue
        origin = Origin(kind, flag.name if kind == "flag" else "")
        path: Path = tuple(key.split("."))
        one = Layer()
        try:
            value, found = _value(flag.value, path, origin)
        except SyntaxProblem as problem:
            told = Problem(path, problem.text, problem.expected, origin=origin, unread=True)
            problems.append(told)
            continue
        problems += found
        one.put(path, value, origin)
        layer = one.over(layer)
    return layer, problems


def _value(given: Any, path: Path, origin: Origin) -> tuple[Any, list[Problem]]:
    value = _plain(given)
    return read_text(value, path, origin) if isinstance(value, Plain) else (value, [])


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, str):
        return Plain(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
