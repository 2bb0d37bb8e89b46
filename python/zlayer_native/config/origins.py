"""Where each value came from: a layer is plain data plus the origin of each of its paths."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from zlayer_native.config.hidden import looks_secret

#: Keys and list positions from the document's top.
Path: TypeAlias = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_KEY_CHARACTERS_SHOWN = 64


class Plain(str):
    """Text without a type of its own: a plain YAML scalar, an environment variable, a flag.

    The schema types it: for an integer `no` is wrong, for a label it is the text `no`.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from."""

    kind: Literal["default", "implied", "file", "env", "flag"]
    #: The file's path, the variable's or flag's name, or for a default what it is derived from.
    name: str = ""
    #: Line in the file, from 1; 0 when there is none.
    line: int = 0

    def __str__(self) -> str:
        if self.kind == "file":
            return f"{self.name}:{self.line}" if self.line else self.name
        if self.kind in ("default", "implied"):
            return f"{self.kind} ({self.name})" if self.name else self.kind
        return self.name

    def sort_key(self) -> tuple[int, int, str]:
        """Files by line first, then the environment, flags and what has no place."""
        rank = ("file", "env", "flag", "implied", "default").index(self.kind)
        return rank, self.line, self.name


DEFAULT = Origin("default")


@dataclass(slots=True)
class Layer:
    """Values of one source, or of several merged, with their origins."""

    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path, Origin] = field(default_factory=dict)

    def put(self, path: Path, value: Any, origin: Origin) -> None:
        """Sets the value at `path`, making the blocks above it."""
        block = self.data
        for key in path[:-1]:
            block = block.setdefault(str(key), {})
        block[str(path[-1])] = value
        for below in walk(value, path):
            self.origins[below] = origin

    def over(self, under: Layer) -> Layer:
        """This layer over `under`: maps merge key by key, all else is replaced."""
        merged = Layer(origins=dict(under.origins))
        merged.data = _merged(under.data, self.data, (), merged.origins)
        merged.origins.update(self.origins)
        return merged

    def origin_of(self, path: Path) -> Origin:
        """The origin of `path` or of the nearest block around it; else the default's."""
        for length in range(len(path), -1, -1):
            origin = self.origins.get(path[:length])
            if origin is not None:
                return origin
        return DEFAULT


def _merged(
    under: Mapping[str, Any], over: Mapping[str, Any], path: Path, origins: dict[Path, Origin]
) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        here = (*path, key)
        below = merged.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            merged[key] = _merged(below, value, here, origins)
        else:
            for gone in walk(below, here):
                origins.pop(gone, None)
            merged[key] = value
    return merged


def walk(value: object, path: Path) -> Iterator[Path]:
    """The path of the value and of everything in it."""
    yield path
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from walk(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from walk(item, (*path, index))


def leaves(value: object, path: Path = ()) -> Iterator[tuple[Path, object]]:
    """Every scalar (and every empty map or list) with its path."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list | tuple) and value:
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value


def look_up(data: object, path: Path) -> object:
    """The value at `path`, or None."""
    for key in path:
        if isinstance(data, Mapping):
            data = data.get(key)
        elif isinstance(data, list | tuple) and isinstance(key, int) and key < len(data):
            data = data[key]
        else:
            return None
    return data


def dotted(path: Path) -> str:
    """The path as people write it: `cluster.peers[0].id`, `cluster.labels."a.b"`."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
            continue
        name = key if len(key) <= _KEY_CHARACTERS_SHOWN else key[:_KEY_CHARACTERS_SHOWN] + "…"
        if looks_secret(key):
            name = '"…"'
        elif not _BARE.fullmatch(key):
            name = '"' + ascii(name)[1:-1] + '"'
        text += f".{name}" if text else name
    return text
