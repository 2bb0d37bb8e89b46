"""Labels: the words that work is placed by. A small frozen map of text to text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

#: Names, label keys and label values: one pattern, because they end up in paths and selectors.
PATTERN = re.compile(r"[a-z0-9](?:[-a-z0-9_.]{0,61}[a-z0-9])?")
EXPECTED = "1-63 of a-z 0-9 - _ . that start and end with a letter or digit, without '..'"
RESERVED_PREFIX = "zlayer.io/"
#: Labels of one node. The same limit holds in the control state.
LABELS_MAX = 32


def is_name(text: str) -> bool:
    """Whether the text may be a name, a label's key or its value."""
    return PATTERN.fullmatch(text) is not None and ".." not in text


class Labels(Mapping[str, str]):
    """An immutable map that can be hashed, compared with a dict, and pickled. Sorted by key."""

    __slots__ = ("_items",)
    _items: dict[str, str]

    def __init__(self, items: Mapping[str, str] | None = None) -> None:
        object.__setattr__(self, "_items", dict(sorted((items or {}).items())))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("labels can't be changed")

    def __getitem__(self, key: str) -> str:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(tuple(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)

    def __reduce__(self) -> tuple[type[Labels], tuple[dict[str, str]]]:
        return Labels, (dict(self._items),)
