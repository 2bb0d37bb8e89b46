"""What a `Worker` is made with, checked by the configuration's rules, but without pydantic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from zlayer_native.config.addresses import EXPECTED_SERVER, parse_server
from zlayer_native.config.data_dir import default_data_dir
from zlayer_native.config.labels import EXPECTED, LABELS_MAX, RESERVED_PREFIX, is_name
from zlayer_native.errors import ConfigError
from zlayer_native.worker.agent import Settings
from zlayer_native.worker.token_source import TokenSource


def settings_of(
    *,
    servers: Sequence[str],
    token_file: Path | str | None,
    token: str | None,
    labels: Mapping[str, str],
    name: str | None,
    identity_dir: Path | str | None,
    data_dir: Path | str | None,
    enrol_secs: float | None,
    leave_secs: float,
) -> Settings:
    """Settings with every default filled in.

    Raises:
        ConfigError: with a line for each problem.
    """
    problems: list[str] = []
    addresses = _servers(servers, problems)
    if token is not None and token_file is not None:
        problems.append("token and token_file: expected one of the two")
    if name is not None and not is_name(name):
        problems.append(f"name: {name!r}: expected {EXPECTED}")
    _check_labels(labels, problems)
    if problems:
        raise ConfigError("; ".join(problems), problems=problems)
    data = default_data_dir() if data_dir is None else Path(data_dir)
    return Settings(
        servers=addresses,
        identity_dir=data / "worker" / "identity" if identity_dir is None else Path(identity_dir),
        data_dir=data,
        name=name,
        labels=dict(labels),
        token=TokenSource(file=None if token_file is None else Path(token_file), line=token),
        enrol_secs=enrol_secs,
        leave_secs=leave_secs,
    )


def _servers(servers: Sequence[str], problems: list[str]) -> tuple[str, ...]:
    if isinstance(servers, str):
        problems.append(f"servers: {servers!r} is one text: expected a list of {EXPECTED_SERVER}")
        return ()
    if not servers:
        problems.append(f"servers: is empty: expected {EXPECTED_SERVER}")
    found: list[str] = []
    for server in servers:
        try:
            found.append(parse_server(server))
        except ValueError as error:
            problems.append(f"servers: {server!r}: {error}: expected {EXPECTED_SERVER}")
    return tuple(dict.fromkeys(found))


def _check_labels(labels: Mapping[str, str], problems: list[str]) -> None:
    if len(labels) > LABELS_MAX:
        problems.append(f"labels: {len(labels)} of them: expected at most {LABELS_MAX}")
    for key, value in labels.items():
        if key.startswith(RESERVED_PREFIX):
            problems.append(f"labels: {key!r}: {RESERVED_PREFIX} is for the cluster's own")
        elif not is_name(key) or not isinstance(value, str) or not is_name(value):
            problems.append(f"labels: {key!r}={value!r}: expected {EXPECTED}")
