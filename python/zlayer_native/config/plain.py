"""A configuration as plain data: what is written, shown and compared."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import TypeAlias

from pydantic import BaseModel

#: Blocks, lists and scalars, in the order of the fields.
Data: TypeAlias = "dict[str, Data] | list[Data] | str | int | None"


def to_data(value: object) -> Data:
    """The value with durations as whole seconds, paths as text, labels as maps."""
    if isinstance(value, BaseModel):
        return {key: to_data(getattr(value, key)) for key in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(key): to_data(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [to_data(item) for item in value]
    if isinstance(value, pathlib.Path):
        return str(value)
    if value is None or isinstance(value, str | int):
        return value
    raise TypeError(f"a {type(value).__name__} is no value of a configuration")
