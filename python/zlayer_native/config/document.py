"""The whole document: what one process is called, where it keeps things, listens and logs."""

from __future__ import annotations

import pathlib
import re
import socket
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from zlayer_native.config.addresses import is_loopback, parse_bind, split
from zlayer_native.config.cluster import ClusterConfig
from zlayer_native.config.data_dir import default_data_dir
from zlayer_native.config.fields import (
    BindAddress,
    DialAddressOrNull,
    FilePath,
    FilePathOrNull,
    Name,
    choice,
)
from zlayer_native.config.labels import is_name
from zlayer_native.config.model import Model, errors_of, many_wrong, wrong
from zlayer_native.config.origins import Path
from zlayer_native.config.problems import is_null
from zlayer_native.config.single_node import SingleNodeConfig

_NAME_CHARACTERS_MAX = 63
_NAMELESS = "node"  # For a host whose name has no letter or digit that a name may have.


def host_name() -> str:
    """This host's name, made a valid name."""
    text = re.sub(r"[^a-z0-9_.-]+", "-", socket.gethostname().lower())
    name = re.sub(r"\.{2,}", ".", text)[:_NAME_CHARACTERS_MAX].strip("-_.")
    return name if is_name(name) else _NAMELESS


class HttpConfig(Model):
    """The HTTP API. It takes bearer tokens, so it leaves this machine only under TLS.

    Attributes:
        bind: where it listens.
        advertise: where others reach it, when that is another address.
        cert_file: PEM, the certificate and what it is signed by; with `key_file`, or neither.
        key_file: PEM, its key.
    """

    bind: BindAddress = "127.0.0.1:3669"
    advertise: DialAddressOrNull = None
    cert_file: FilePathOrNull = None
    key_file: FilePathOrNull = None

    @model_validator(mode="wrap")
    @classmethod
    def _check_tls(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        errors: list[tuple[Path, PydanticCustomError]] = []
        http: Self | None = None
        try:
            http = handler(value)
        except ValidationError as error:
            errors = errors_of(error)
        if isinstance(value, dict):
            errors += _tls_errors(value)
        if errors or http is None:
            raise many_wrong(errors)
        return http


def _tls_errors(raw: dict[str, Any]) -> list[tuple[Path, PydanticCustomError]]:
    """What is wrong between the keys, whether or not each is right itself."""
    files = ("cert_file", "key_file")
    absent = [key for key in files if is_null(raw.get(key))]
    if len(absent) == 1:
        given = files[1 - files.index(absent[0])]
        problem = wrong(f"missing, and {given} is set", "both or neither", sibling=given)
        return [((absent[0],), problem)]
    bind = raw.get("bind")
    if not absent or not isinstance(bind, str):
        return []
    try:
        host, _ = split(parse_bind(bind))
    except ValueError:
        return []
    if is_loopback(host):
        return []
    problem = wrong(
        f"{host} is not loopback, and bearer tokens would cross the network in clear",
        "cert_file and key_file, or a loopback address such as 127.0.0.1:3669",
    )
    return [(("bind",), problem)]


class LogConfig(Model):
    """What is logged, to standard error.

    Attributes:
        level: the least that is logged.
        format: `auto` is text on a terminal and JSON elsewhere.
    """

    level: Annotated[
        Literal["debug", "info", "warning", "error"], choice("debug", "info", "warning", "error")
    ] = "info"
    format: Annotated[Literal["auto", "text", "json"], choice("auto", "text", "json")] = "auto"


class Config(Model):
    """One process. Frozen, hashable, picklable; equal configurations compare equal.

    Attributes:
        name: what people call this node; this host's name unless set.
        data_dir: below it is all state; the places of single things can be set apart from it.
        http: the HTTP API.
        log: what is logged.
        cluster: what kind of cluster this process is part of.
    """

    name: Name = Field(default_factory=host_name)
    data_dir: FilePath = Field(default_factory=default_data_dir)
    http: HttpConfig = HttpConfig()
    log: LogConfig = LogConfig()
    cluster: SerializeAsAny[ClusterConfig] = SingleNodeConfig()

    @field_validator("cluster")
    @classmethod
    def _place(cls, value: ClusterConfig, info: ValidationInfo) -> ClusterConfig:
        data_dir: pathlib.Path | None = info.data.get("data_dir")
        return value if data_dir is None else value.below(data_dir)
