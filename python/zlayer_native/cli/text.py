"""Values as people read them. Whatever a server says, no control character leaves here."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Mapping

#: Control, format (direction marks, zero width), surrogate, private, and line ends: a terminal may
#: act on them, or hide what is there.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_NONE = "-"


def plain(value: object) -> str:
    """The value as one line that a terminal can only print: hidden characters are spelled out."""
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(char) if _is_hidden(char) else char for char in text)


def _is_hidden(char: str) -> bool:
    return unicodedata.category(char) in _HIDDEN


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def width(text: str) -> int:
    """Columns that the text takes in a terminal."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) != 0 for char in text)


def span(ms: float | None) -> str:
    """A length of time in its two largest units: `800ms`, `12s`, `3m20s`, `2h5m`, `4d1h`."""
    if ms is None:
        return _NONE
    if ms < 1000:
        return f"{max(0, int(ms))}ms"
    seconds = int(ms // 1000)
    for size, unit, small, smaller in _UNITS:
        if seconds >= size:
            rest = seconds % size // small
            return f"{seconds // size}{unit}" + (f"{rest}{smaller}" if rest and smaller else "")
    return f"{seconds}s"


_UNITS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"), (1, "s", 1, ""))


def ago(ms: float | None) -> str:
    """How long something is past, given its length in milliseconds."""
    return _NONE if ms is None else f"{span(ms)} ago"


def since(unix_ms: float | None) -> str:
    """How long ago a time is, by this machine's clock; a clock that is behind gives `0ms ago`."""
    return _NONE if unix_ms is None else ago(time.time() * 1000 - unix_ms)


def until(unix_ms: float | None) -> str:
    """`in 59m`, or `12s ago`, by this machine's clock."""
    if unix_ms is None:
        return _NONE
    left = unix_ms - time.time() * 1000
    return f"in {span(left)}" if left > 0 else ago(-left)


def local_time(unix_ms: float | None) -> str:
    """Date and time in this machine's zone, to the second."""
    if unix_ms is None:
        return _NONE
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_ms / 1000))
    except (ValueError, OverflowError, OSError):  # No calendar has it.
        return f"{unix_ms}ms"


def labels(items: Mapping[str, str] | None) -> str:
    """`a=1,b=2`."""
    return ",".join(f"{key}={value}" for key, value in sorted((items or {}).items())) or _NONE


def size(count: float | None) -> str:
    """Bytes in binary units: `512B`, `1.5GiB`."""
    if count is None:
        return _NONE
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:.0f}{unit}" if unit == "B" or count >= 100 else f"{count:.1f}{unit}"


def word(value: object) -> str:
    """Text, with a dash for nothing."""
    return _NONE if value is None or value == "" else str(value)
