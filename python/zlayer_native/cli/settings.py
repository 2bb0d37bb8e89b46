"""The configuration of a daemon, from its file, its environment and its flags."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zlayer_native.errors import ConfigError

if TYPE_CHECKING:
    from zlayer_native.config import Config
    from zlayer_native.config.load import Resolved


def load(
    path: Path | None,
    flags: Mapping[str, Any],
    settings: Sequence[str] | None = None,
    *,
    implied: Mapping[str, Any],
) -> Config:
    """Loads and checks; advice goes to standard error.

    Args:
        path: the file, if any.
        flags: values by dotted key; None stands for a flag that was not given.
        settings: texts of `--set KEY=VALUE`; they win over the other flags.
        implied: what the verb means when no source says `cluster.mode`.

    Raises:
        ConfigError: with a line for each problem.
    """
    return resolved(path, flags, settings, implied=implied).config


def resolved(
    path: Path | None,
    flags: Mapping[str, Any],
    settings: Sequence[str] | None = None,
    *,
    implied: Mapping[str, Any],
) -> Resolved:
    """As `load`, with where each value comes from."""
    from zlayer_native.config import advise
    from zlayer_native.config.load import resolve

    given = {key: value for key, value in flags.items() if value is not None}
    for text in settings or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {text!r}: expected KEY=VALUE, such as cluster.node_id=2")
        given[key] = value
    found = resolve(path, flags=given, implied=implied)
    for advice in advise(found.config, found.origin_of):
        if advice.origin.kind in ("default", "implied"):
            continue  # Nobody chose it: `zlayerd config validate` tells it, a start does not.
        print(f"warning: {advice}", file=sys.stderr)
    return found


def is_chosen(found: Resolved, *path: str | int) -> bool:
    """Whether somebody set the value: it is neither a default nor implied by the verb."""
    return found.origin_of(path).kind not in ("default", "implied")
