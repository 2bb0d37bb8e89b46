"""The load: layers over each other, validated once, every problem in one report."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from zlayer_native.config.advice import advise
from zlayer_native.config.document import Config
from zlayer_native.config.environment import read_environment
from zlayer_native.config.explain import problems_of
from zlayer_native.config.flags import dotted_layer
from zlayer_native.config.hidden import shown_path
from zlayer_native.config.keys import blocks
from zlayer_native.config.origins import Layer, Origin, Path, look_up, walk
from zlayer_native.config.problems import Advice, Problem, is_null, report, shown
from zlayer_native.config.source import Source, read_file

#: Defaults that follow from something, and from what.
_DERIVED: dict[Path, Origin] = {
    ("name",): Origin("default", "host name"),
    ("cluster", "worker_ca_dir"): Origin("default", "data_dir"),
    ("cluster", "identity_dir"): Origin("default", "data_dir"),
}


@dataclass(frozen=True, slots=True)
class Resolved:
    """A configuration, and where each of its values came from."""

    config: Config
    _layer: Layer = field(repr=False, compare=False)

    def origin_of(self, path: Path) -> Origin:
        """The origin of one value, such as `("cluster", "peers", 0, "id")`."""
        return self._layer.origins.get(path) or _DERIVED.get(path) or Origin("default")

    def advice(self) -> list[Advice]:
        """What works, and will hurt later."""
        return advise(self.config, self.origin_of)


def load_config(
    path: pathlib.Path | str | None = None,
    *,
    env: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    implied: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration: defaults, then what is implied, file, environment, flags.

    Args:
        path: a YAML, TOML or JSON file, or None for no file.
        env: the environment, of which `ZLAYER_…` is read; None takes this process's own.
        flags: values by dotted key, such as `{"cluster.heartbeat_min_ttl": "15s"}`. None as a
            value is a flag that was not given; a `Flag` also says how it is called.
        implied: as `flags`, under everything else; used only if nothing else sets `cluster.mode`.

    Raises:
        ConfigError: with a line for each problem: place, key, what is wrong, what was expected.
    """
    return resolve(path, env=env, flags=flags, implied=implied).config


def resolve(
    path: pathlib.Path | str | None = None,
    *,
    env: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    implied: Mapping[str, Any] | None = None,
) -> Resolved:
    """As `load_config`, and keeps where each value came from.

    Raises:
        ConfigError: as `load_config`.
    """
    what = "configuration" if path is None else shown_path(os.fspath(path))
    file = Source() if path is None else read_file(path)
    problems = [*file.problems, *_open_blocks(file.layer)]
    environment, wrong_variables = read_environment(os.environ if env is None else env)
    given, wrong_flags = dotted_layer(flags or {}, "flag")
    problems += [*wrong_variables, *wrong_flags]
    if file.broken:
        raise report(problems, file.layer, what=what)
    layer = given.over(environment.over(file.layer))
    if look_up(layer.data, ("cluster", "mode")) is None:
        below, wrong_implied = dotted_layer(implied or {}, "implied")
        layer = layer.over(below)
        problems += wrong_implied
    try:
        config = Config.model_validate(layer.data)
    except ValidationError as error:
        # What could not be read is not there to be validated: that is told once.
        unread = {problem.path for problem in problems if problem.unread}
        found = problems_of(error, Config, layer.data, layer)
        problems += [problem for problem in found if problem.path not in unread]
    if problems:
        raise report(problems, layer, what=what)
    return Resolved(config, layer)


def _open_blocks(layer: Layer) -> list[Problem]:
    """Makes blocks of what stands in their places, so that other layers can lie over it.

    A null is one whose keys are all comments; everything else is a problem.
    """
    found: list[Problem] = []
    for path in blocks():
        above = look_up(layer.data, path[:-1])
        key = path[-1]
        if not isinstance(above, dict) or key not in above or isinstance(above[key], dict):
            continue
        value = above[key]
        if not is_null(value):
            told = f"got {shown(value)}"
            found.append(Problem(path, told, "a block of keys", unread=True))
        for below in walk(value, path):
            if below != path:
                layer.origins.pop(below, None)
        above[key] = {}
    return found
