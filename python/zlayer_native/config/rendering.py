"""Writes a configuration as YAML, TOML or JSON that loads back as an equal one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

from zlayer_native.config.document import Config
from zlayer_native.config.origins import Path
from zlayer_native.config.plain import Data, to_data

Format: TypeAlias = Literal["yaml", "toml", "json"]
#: What stands behind a value, given its path; "" for nothing.
Comment: TypeAlias = Callable[[Path], str]

_YAML_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
#: Words that some YAML reader takes for something else than text.
_YAML_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_TOML_BARE = re.compile(r"[A-Za-z0-9_-]+")


def render(config: Config, format: Literal["yaml", "toml", "json"] = "yaml") -> str:
    """The document as text: every key, durations as integer seconds.

    TOML has no null, so a key that is null is left out there.

    Args:
        config: what to write.
        format: in which language.
    """
    data = to_data(config)
    if format == "json":
        return json.dumps(data, indent=2) + "\n"
    return (yaml_text if format == "yaml" else toml_text)(data)


def yaml_text(data: Data, comment: Comment = lambda _: "") -> str:
    """Block style; the comments stand behind the values."""
    return "".join(f"{line}\n" for line in _yaml_block(data, (), comment))


def _yaml_block(data: Data, path: Path, comment: Comment) -> Iterator[str]:
    items: Iterator[tuple[str, str | int, Data]]
    if isinstance(data, dict):
        items = ((_yaml_scalar(key) + ":", key, item) for key, item in data.items())
    elif isinstance(data, list):
        items = (("-", index, item) for index, item in enumerate(data))
    else:
        raise TypeError("a scalar is no document")
    for lead, key, item in items:
        here = (*path, key)
        if not isinstance(item, dict | list) or not item:
            yield f"{lead} {_yaml_scalar(item)}{comment(here)}"
        elif lead == "-":
            first, *rest = _yaml_block(item, here, comment)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
        else:
            yield lead
            yield from (f"  {line}" for line in _yaml_block(item, here, comment))


def _yaml_scalar(value: Data) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        plain = _YAML_PLAIN.fullmatch(value) and value.lower() not in _YAML_WORDS
        return value if plain else _quoted(value)
    return str(value) if isinstance(value, int) else "{}" if isinstance(value, dict) else "[]"


def toml_text(data: Data, comment: Comment = lambda _: "") -> str:
    """Tables and lists of tables; the comments stand behind the values."""
    return "\n".join(_toml_table(data, (), (), comment)).lstrip("\n") + "\n"


def _toml_table(data: Data, name: tuple[str, ...], path: Path, comment: Comment) -> Iterator[str]:
    if not isinstance(data, dict):
        raise TypeError("a table is a block of keys")
    tables: dict[str, Data] = {}
    for key, item in data.items():
        if _is_table(item) or (isinstance(item, list) and item and _is_table(item[0])):
            tables[key] = item
        elif isinstance(item, list):
            yield from _toml_list(key, item, (*path, key), comment)
        elif item is not None:
            yield f"{_toml_key(key)} = {_toml_scalar(item)}{comment((*path, key))}"
    for key, item in tables.items():
        below = (*name, key)
        title = ".".join(map(_toml_key, below))
        if isinstance(item, list):
            for index, table in enumerate(item):
                yield from ("", f"[[{title}]]")
                yield from _toml_table(table, below, (*path, key, index), comment)
        else:
            yield from ("", f"[{title}]")
            yield from _toml_table(item, below, (*path, key), comment)


def _is_table(value: Data) -> bool:
    return isinstance(value, dict) and bool(value)


def _toml_list(key: str, items: list[Data], path: Path, comment: Comment) -> Iterator[str]:
    yield f"{_toml_key(key)} = ["
    for index, item in enumerate(items):
        yield f"  {_toml_scalar(item)},{comment((*path, index))}"
    yield "]"


def _toml_key(key: str) -> str:
    return key if _TOML_BARE.fullmatch(key) else _quoted(key)


def _toml_scalar(value: Data) -> str:
    if isinstance(value, str):
        return _quoted(value)
    return "{}" if isinstance(value, dict) else str(value)


def _quoted(text: str) -> str:
    # JSON's way of quoting is right in YAML and TOML too, as long as nothing needs a surrogate.
    return json.dumps(text, ensure_ascii=False)
