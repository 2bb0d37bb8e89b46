"""Shows every value of a configuration with its origin."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Literal

from zlayer_native.config.load import Resolved
from zlayer_native.config.origins import dotted, leaves
from zlayer_native.config.plain import to_data
from zlayer_native.config.rendering import toml_text, yaml_text

_TITLES = ("KEY", "VALUE", "ORIGIN")


def show_resolved(
    resolved: Resolved,
    format: Literal["table", "yaml", "json", "toml"] = "table",
    *,
    origins: bool = True,
) -> str:
    """Every value and where it came from: default, implied, file and line, variable or flag.

    YAML and TOML are documents with the origins as comments; JSON is a map of dotted key to
    `{"value": …, "origin": …}`. No value is a secret: what looks like one is refused at load.

    Args:
        resolved: what `resolve` gave.
        format: how to write it.
        origins: False leaves the origins out of a table.
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
    cells = [_TITLES, *((dotted(path), _cell(value), origin) for path, value, origin in rows)]
    columns = cells if origins else [row[:2] for row in cells]
    return "".join(f"{line}\n" for line in _aligned(columns))


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(padded).rstrip()


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return json.dumps(value) if isinstance(value, dict | list) else str(value)
