"""From pydantic's errors to problems that a person can act on."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from zlayer_native.config.cluster import ClusterConfig
from zlayer_native.config.model import ERROR_TYPE
from zlayer_native.config.modes import MODES, model_at, whose
from zlayer_native.config.origins import Layer, Path, dotted, look_up
from zlayer_native.config.problems import (
    PROBLEMS_MAX,
    Problem,
    place_of,
    report,
    shown,
    unknown_key,
)
from zlayer_native.errors import ConfigError

#: What pydantic says of a value of the wrong shape, and what was expected.
_SHAPES = {
    "tuple_type": "a list",
    "model_type": "a block of keys",
    "model_attributes_type": "a block of keys",
    "dict_type": "a block of keys",
}


def as_config_error(
    error: ValidationError, root: type[BaseModel], data: Mapping[str, Any]
) -> ConfigError:
    """The error of a model that was made from Python values: it has keys, and no places."""
    layer = Layer()
    return report(problems_of(error, root, data, layer), layer, what=root.__name__)


def problems_of(
    error: ValidationError, root: type[BaseModel], data: Mapping[str, Any], layer: Layer
) -> list[Problem]:
    """The problems in the order of a report, and no more than just too many for one.

    Args:
        error: what validating `data` raised.
        root: the model that was validated.
        data: what was validated.
        layer: where to look up the places.
    """
    details = error.errors(include_url=False, include_input=False)
    # Sorted before they are explained: a hostile file has thousands, and a near miss costs time.
    details.sort(key=lambda detail: place_of(Problem(detail["loc"], ""), layer).sort_key())
    return [
        _problem(detail["loc"], detail["type"], detail["msg"], detail.get("ctx", {}), root, data)
        for detail in details[: PROBLEMS_MAX + 1]
    ]


def _problem(
    path: Path,
    kind: str,
    message: str,
    context: Mapping[str, Any],
    root: type[BaseModel],
    data: Mapping[str, Any],
) -> Problem:
    if kind == ERROR_TYPE:
        sibling = context["sibling"]
        return Problem(
            path,
            context["problem"],
            context["expected"],
            sibling=(*path[:-1], sibling) if sibling else None,
        )
    kind, message = context.get("native", kind), context.get("message", message)
    block = model_at(root, path[:-1], data) if path else None
    if kind == "extra_forbidden" and block is not None:
        known = tuple(block.model_fields)
        text, expected = unknown_key(
            str(path[-1]), known, owner=_owner(block), elsewhere=_elsewhere(block)
        )
        return Problem(path, text, expected)
    if kind == "missing" and block is not None:
        return Problem(path, "missing", f"a value, {_owner(block)} needs it")
    value = look_up(data, path)
    if kind in _SHAPES:
        return Problem(path, f"got {shown(value)}", _SHAPES[kind])
    return Problem(path, f"got {shown(value)}: {message}")


def _owner(block: type[BaseModel]) -> str:
    """A block as messages name it."""
    from zlayer_native.config.document import Config
    from zlayer_native.config.keys import blocks

    if issubclass(block, ClusterConfig):
        return whose(block)
    if block is Config:
        return "the document"
    found = (path for path, model in blocks().items() if model is block)
    return next((f"the block {dotted(path)}" for path in found), "a peer")


@functools.cache
def _elsewhere(block: type[BaseModel]) -> dict[str, str]:
    """Keys that other blocks have, and whose they are."""
    from zlayer_native.config.document import Config
    from zlayer_native.config.keys import blocks

    found = dict.fromkeys(Config.model_fields, "the top of the document")
    for path, model in blocks().items():
        found |= dict.fromkeys(model.model_fields, f"the block {dotted(path)}")
    for key in {key for cls in MODES.values() for key in cls.model_fields}:
        owners = [whose(cls) for cls in MODES.values() if key in cls.model_fields]
        inside = issubclass(block, ClusterConfig)
        found[key] = " and to ".join(owners) if inside else "the block cluster"
    return {key: owner for key, owner in found.items() if key not in block.model_fields}
