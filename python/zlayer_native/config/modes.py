"""The table of modes: which class reads which `cluster` block."""

from __future__ import annotations

import typing
from collections.abc import Mapping

from pydantic import BaseModel

from zlayer_native.config.cluster import ClusterConfig
from zlayer_native.config.model import many_wrong, wrong
from zlayer_native.config.origins import Path
from zlayer_native.config.problems import is_null, nearest, shown
from zlayer_native.config.raft import RaftConfig
from zlayer_native.config.single_node import SingleNodeConfig
from zlayer_native.config.static import StaticConfig
from zlayer_native.config.worker_tier import WorkerTierServerConfig, WorkerTierWorkerConfig

DEFAULT_MODE = "single-node"
SPLIT_MODE = "worker-tier"

#: Mode and role ("" where the mode has none), and the class.
MODES: dict[tuple[str, str], type[ClusterConfig]] = {
    ("single-node", ""): SingleNodeConfig,
    ("raft", ""): RaftConfig,
    ("static", ""): StaticConfig,
    ("worker-tier", "server"): WorkerTierServerConfig,
    ("worker-tier", "worker"): WorkerTierWorkerConfig,
}
MODE_NAMES = tuple(dict.fromkeys(mode for mode, _ in MODES))
ROLE_NAMES = tuple(role for _, role in MODES if role)


def pick(block: object) -> type[ClusterConfig]:
    """The class that reads this block.

    Raises:
        ValidationError: the mode or the role is none that exists, or this is no block.
    """
    if not isinstance(block, Mapping):
        raise many_wrong([((), wrong(f"got {shown(block)}", "a block with a mode"))])
    mode = _word(block, "mode", MODE_NAMES, default=DEFAULT_MODE)
    role = _word(block, "role", ROLE_NAMES) if mode == SPLIT_MODE else ""
    return MODES[mode, role]


def _word(
    block: Mapping[str, object], key: str, words: tuple[str, ...], *, default: str = ""
) -> str:
    expected = "one of " + ", ".join(words)
    value = block.get(key, default or None)
    if key not in block and not default:
        raise many_wrong([((key,), wrong("missing", expected))])
    if isinstance(value, str) and str(value) in words:
        return str(value)
    near = nearest(value, words) if isinstance(value, str) and not is_null(value) else None
    hint = f", did you mean {near}?" if near else ""
    raise many_wrong([((key,), wrong(f"got {shown(value)}{hint}", expected))])


def whose(cls: type[ClusterConfig]) -> str:
    """A class as messages name it."""
    keys = [key for key, value in MODES.items() if issubclass(value, cls)]
    mode, role = keys[0]
    return f"mode {mode}, role {role}" if role and len(keys) == 1 else f"mode {mode}"


def title(cluster: ClusterConfig) -> str:
    """A block's mode as a person reads it, such as `worker-tier (server)`."""
    mode, role = next(key for key, value in MODES.items() if isinstance(cluster, value))
    return f"{mode} ({role})" if role else mode


def model_at(root: type[BaseModel], path: Path, data: object) -> type[BaseModel] | None:
    """The model whose keys stand at `path` of `data`; None where there is none."""
    model: type[BaseModel] | None = root
    for key in (None, *path):
        if key is not None and isinstance(data, Mapping):
            if model is not None:
                field = model.model_fields.get(str(key))
                model = _model_in(field.annotation) if field else None
            data = data.get(key)
        elif isinstance(data, list | tuple) and isinstance(key, int):
            data = data[key]
        if model is ClusterConfig:
            model = type(data) if isinstance(data, ClusterConfig) else _picked(data)
    return model


def _picked(block: object) -> type[ClusterConfig] | None:
    try:
        return pick(block)
    except ValueError:
        return None


def _model_in(annotation: object) -> type[BaseModel] | None:
    for inner in (annotation, *typing.get_args(annotation)):
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return inner
    return None
