"""The `cluster` block: a union of the modes, told apart by `mode` (and worker-tier by `role`)."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from pydantic import ModelWrapValidatorHandler, model_validator

from zlayer_native.config.model import Model

if TYPE_CHECKING:
    from zlayer_native._bridge.lease import AdaptiveTtlConfig


class ClusterConfig(Model):
    """What kind of cluster this process is part of. The base of one class for each mode.

    Make one with `load`, `parse`, or a mode's own class. Frozen, hashable, picklable; equal
    configurations compare equal.
    """

    if TYPE_CHECKING:
        mode: str  # A field of each mode's class.

    @classmethod
    def load(
        cls,
        path: pathlib.Path | str | None = None,
        *,
        env: Mapping[str, str] | None = None,
        flags: Mapping[str, Any] | None = None,
    ) -> ClusterConfig:
        """The `cluster` block of a document: file, then environment, then flags.

        Args:
            path: a YAML, TOML or JSON file, or None for no file.
            env: the environment; None takes this process's own.
            flags: values by dotted key, such as `{"cluster.heartbeat_min_ttl": "15s"}`.

        Raises:
            ConfigError: with a line for each problem.
        """
        from zlayer_native.config.load import load_config

        return load_config(path, env=env, flags=flags).cluster

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> ClusterConfig:
        """A `cluster` block from plain data, of the class that its mode says.

        Raises:
            ConfigError: with a line for each problem.
        """
        from pydantic import ValidationError

        from zlayer_native.config.explain import as_config_error

        try:
            return ClusterConfig.model_validate(data)
        except ValidationError as error:
            raise as_config_error(error, ClusterConfig, data) from None

    def adaptive_ttl_config(self) -> AdaptiveTtlConfig | None:
        """How long workers may stay silent, as the core's own type; None where no workers are."""
        return None

    def is_worker_tier_server(self) -> bool:
        """Whether this process is a server of a worker tier."""
        return False

    def is_worker_tier_worker(self) -> bool:
        """Whether this process is a worker of a worker tier."""
        return False

    def below(self, data_dir: pathlib.Path) -> Self:
        """The same, with the directories that nobody set placed below `data_dir`."""
        return self

    if not TYPE_CHECKING:  # As in `Model`.

        def __init__(self, **data: Any) -> None:
            if type(self) is ClusterConfig:
                raise TypeError("ClusterConfig is the base of the modes: use parse, load or a mode")
            super().__init__(**data)

        __init__.__pydantic_base_init__ = True

    def _with_default(self, field: str, value: pathlib.Path) -> Self:
        """The same, with `value` in a field that nobody set. It still counts as not set."""
        if field in self.model_fields_set:
            return self
        copy = self.model_copy(update={field: value})
        copy.__pydantic_fields_set__.discard(field)
        return copy

    @model_validator(mode="wrap")
    @classmethod
    def _dispatch(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Any:
        if cls is not ClusterConfig or isinstance(value, ClusterConfig):
            return handler(value)
        from zlayer_native.config.modes import pick

        return pick(value).model_validate(value)
