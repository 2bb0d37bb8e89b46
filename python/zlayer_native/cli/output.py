"""What commands print: data on standard output, remarks on standard error.

Tables are drawn for a terminal only; a pipe gets aligned columns without colours, boxes or cuts.
JSON and YAML are the API's own documents.
"""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zlayer_native.cli import text

if TYPE_CHECKING:
    from rich.console import Console

_GAP = "  "


class Format(enum.StrEnum):
    """How one thing is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


class ListFormat(enum.StrEnum):
    """How many things are printed; `name` is their ids alone, one a line."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


@dataclass(frozen=True)
class Cell:
    """A value with the style that it has on a terminal."""

    value: object
    style: str = ""

    @property
    def text(self) -> str:
        """What is printed."""
        return text.plain(text.word(self.value))


_STYLES = {
    "Ready": "green",
    "Suspect": "yellow",
    "Unreachable": "red",
    "Draining": "cyan",
    "Left": "dim",
}


def state(name: object) -> Cell:
    """A node's state, in its colour."""
    return Cell(name, _STYLES.get(str(name), ""))


def is_document(form: Format | ListFormat) -> bool:
    """Whether the API's document itself is wanted."""
    return form.value in ("json", "yaml")


def document(form: Format | ListFormat, content: Any) -> None:
    """Prints a document as JSON or YAML."""
    if form.value == "json":
        _write(json.dumps(content, indent=2))
        return
    import yaml

    _write(yaml.safe_dump(content, sort_keys=False, default_flow_style=False).rstrip("\n"))


def line(form: Format | ListFormat, content: Any) -> None:
    """Prints one document of a stream: a line of JSON, or a YAML document after `---`."""
    if form.value == "json":
        _write(json.dumps(content, separators=(",", ":")))
        return
    sys.stdout.write("---\n")
    document(form, content)


def names(ids: Iterable[object]) -> None:
    """Prints ids, one a line."""
    for item in ids:
        _write(text.plain(item))


def table(headers: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Prints a table."""
    if not on_terminal():
        _write("\n".join(_aligned(headers, [[cell.text for cell in row] for row in rows])))
        return
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        drawn.add_column(header, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell.text, cell.style) for cell in row))
    _console().print(drawn)


def _aligned(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(text.width, column)) for column in zip(headers, *rows, strict=True)]
    return [_padded(row, widths) for row in (headers, *rows)]


def _padded(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        item + " " * (wanted - text.width(item)) for item, wanted in zip(row, widths, strict=True)
    ]
    return _GAP.join(cells).rstrip()


def fixed(cells: Sequence[Cell], widths: Sequence[int]) -> None:
    """Prints one line of a table that has no end: columns of given widths, longer cells push on."""
    if not on_terminal():
        _write(_padded([cell.text for cell in cells], _at_least(cells, widths)))
        return
    from rich.text import Text

    drawn = Text(end="")
    for cell, wanted in zip(cells, _at_least(cells, widths), strict=True):
        drawn.append(cell.text, cell.style)
        drawn.append(" " * (wanted - text.width(cell.text)) + _GAP)
    drawn.rstrip()
    _console().print(drawn, soft_wrap=True)
    sys.stdout.flush()


def _at_least(cells: Sequence[Cell], widths: Sequence[int]) -> list[int]:
    return [max(wanted, text.width(cell.text)) for cell, wanted in zip(cells, widths, strict=True)]


def facts(pairs: Sequence[tuple[str, Cell]]) -> None:
    """Prints what is known of one thing, a line each."""
    longest = max(len(name) for name, _ in pairs)
    if not on_terminal():
        _write("\n".join(f"{name:<{longest}}{_GAP}{cell.text}" for name, cell in pairs))
        return
    from rich.text import Text

    for name, cell in pairs:
        drawn = Text.assemble((f"{name:<{longest}}{_GAP}", "bold"), (cell.text, cell.style))
        _console().print(drawn, soft_wrap=True)
    sys.stdout.flush()


def plain_line(content: object = "") -> None:
    """Prints a line of data."""
    _write(text.plain(content))


def note(content: object) -> None:
    """Prints a remark to standard error."""
    print(text.plain(content), file=sys.stderr, flush=True)


def on_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def _console() -> Console:
    from rich.console import Console

    # Neither markup nor emoji codes nor guessed highlights: values are printed as they are.
    return Console(file=sys.stdout, markup=False, emoji=False, highlight=False)


def _write(content: str) -> None:
    # Flushed, so that a reader who has gone is noticed here and not while the process ends.
    print(content, flush=True)
