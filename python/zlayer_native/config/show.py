"""Shows every value of a configuration with its origin."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Literal

from zlayer_native.config.load import Resolved
from zlayer_native.config.origins import Path, dotted, leaves
from zlayer_native.config.plain import to_data
from zlayer_native.config.rendering import toml_text, yaml_text

_TITLES = ("KEY", "VALUE", "ORIGIN")


def show_resolved(
    resolved: Resolved, format: Literal["table", "yaml", "json", "toml"] = "table"
) -> str:
    """Every value and where it came from: default, implied, file and line, variable or flag.

    YAML and TOML are documents with the origins as comments; JSON is a map of dotted key to
    `{"value": …, "origin": …}`. No value is a secret: what looks like one is refused at load.

    Args:
        resolved: what `resolve` gave.
        format: how to write it.
    """
    data = to_data(resolved.config)
    if format == "yaml":
        return yaml_text(data, lambda path: f"  # {resolved.origin_of(path)}")
    if format == "toml":
        return toml_text(data, lambda path: f"  # {resolved.origin_of(path)}")
    rows = [(path, value, str(resolved.origin_of(path))) for path, value in leaves(data)]
    if format == "json":
        told = {dotted(path): {"value": value, "origin": origin} for path, value, origin in rows}
        return json.dumps(told, indent=2) + "\n"
    return "".join(f"{line}\n" for line in _table(rows))


def _table(rows: list[tuple[Path, object, str]]) -> Iterator[str]:
    cells = [_TITLES, *((dotted(path), _cell(value), origin) for path, value, origin in rows)]
    key_width, value_width = (max(len(row[column]) for row in cells) for column in (0, 1))
    for key, value, origin in cells:
        yield f"{key:<{key_width}}  {value:<{value_width}}  {origin}"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return json.dumps(value) if isinstance(value, dict | list) else str(value)
