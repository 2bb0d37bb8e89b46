"""Every key of the document, of whatever mode: its path, and how a text for it is read."""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterator
from typing import Literal, TypeAlias

from pydantic import BaseModel

from zlayer_native.config.cluster import ClusterConfig
from zlayer_native.config.document import Config
from zlayer_native.config.labels import Labels
from zlayer_native.config.modes import MODES
from zlayer_native.config.origins import Path

Kind: TypeAlias = Literal["text", "list", "blocks", "map"]


@functools.cache
def kinds() -> dict[Path, Kind]:
    """Every key that a text can set, and how its text is read. Blocks are set key by key."""
    return {
        path: _kind(annotation) for path, annotation in _keys(Config, ()) if not _is(annotation)
    }


@functools.cache
def blocks() -> dict[Path, type[BaseModel]]:
    """Every block of keys that is no item of a list, outer ones first."""
    return {path: annotation for path, annotation in _keys(Config, ()) if _is(annotation)}


def _keys(model: type[BaseModel], above: Path) -> Iterator[tuple[Path, typing.Any]]:
    for cls in MODES.values() if model is ClusterConfig else (model,):
        for key, field in cls.model_fields.items():
            path = (*above, key)
            yield path, field.annotation
            if _is(field.annotation):
                yield from _keys(typing.cast("type[BaseModel]", field.annotation), path)


def _is(annotation: object) -> bool:
    """Whether a block stands there."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _kind(annotation: object) -> Kind:
    if annotation is Labels:
        return "map"
    if typing.get_origin(annotation) is not tuple:
        return "text"
    return "blocks" if _is(typing.get_args(annotation)[0]) else "list"
