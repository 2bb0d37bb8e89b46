"""What `zlayerd worker` makes of its configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zlayer_native.cli.settings import load
from zlayer_native.cli.worker import A_WORKER, _labels, settings_of
from zlayer_native.errors import ConfigError, NotSupported


def config(tmp_path: Path, document: dict[str, Any] | None = None, **flags: Any) -> Any:
    path = None
    if document is not None:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(document))
    dotted = {key.replace("__", "."): value for key, value in flags.items()}
    return load(path, {"data_dir": str(tmp_path), **dotted}, implied=A_WORKER)


def test_flags_alone_are_a_whole_configuration(tmp_path: Path):
    settings = settings_of(
        config(
            tmp_path,
            name="w1",
            cluster__servers=["a:1", "b:1"],
            cluster__token_file="-",
            cluster__labels=_labels(["zone=a", "k=v.w"]),
        )
    )
    assert settings.servers == ("a:1", "b:1")
    assert settings.identity_dir == tmp_path / "worker" / "identity"
    assert settings.token.file == Path("-")
    assert (settings.name, settings.labels) == ("w1", {"zone": "a", "k": "v.w"})
    assert settings.enrol_secs is None


def test_a_label_without_a_value_is_named():
    with pytest.raises(ConfigError, match="--label 'zone'"):
        _labels(["zone"])


PEERS = [{"id": 1, "raft_addr": "a:1", "api_addr": "a:2"}]


@pytest.mark.parametrize(
    ("cluster", "told"),
    [
        ({"mode": "single-node"}, "mode single-node is not built yet"),
        ({"mode": "raft", "node_id": 1, "peers": PEERS}, "mode raft is not built yet"),
        (
            {"mode": "static", "node_id": 1, "peers": [{"id": 1, "api_addr": "a:2"}]},
            "mode static is not built yet",
        ),
        (
            {"mode": "worker-tier", "role": "server", "node_id": 1, "peers": PEERS},
            "run `zlayerd server`",
        ),
    ],
)
def test_a_configuration_of_something_else_says_so(
    tmp_path: Path, cluster: dict[str, Any], told: str
):
    with pytest.raises(NotSupported, match=told):
        settings_of(config(tmp_path, {"cluster": cluster}))
