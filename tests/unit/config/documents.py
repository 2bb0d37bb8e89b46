"""Documents that load, to be bent by the tests; and what a refused one says."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from zlayer_native.config import Config, load_config
from zlayer_native.errors import ConfigError

_RAFT_PEERS = [
    {"id": n, "raft_addr": f"10.0.0.{n}:3671", "api_addr": f"10.0.0.{n}:3669"} for n in (1, 2, 3)
]
RAFT: dict[str, Any] = {"mode": "raft", "node_id": 1, "peers": _RAFT_PEERS}
STATIC: dict[str, Any] = {
    "mode": "static",
    "node_id": 2,
    "peers": [{"id": n, "api_addr": f"10.0.0.{n}:3669"} for n in (1, 2)],
}
SERVER: dict[str, Any] = {
    "mode": "worker-tier",
    "role": "server",
    "node_id": 1,
    "peers": _RAFT_PEERS,
}
WORKER: dict[str, Any] = {"mode": "worker-tier", "role": "worker", "servers": ["10.0.0.1:3670"]}

#: Every mode and role with the least that it needs.
LEAST: dict[str, dict[str, Any]] = {
    "single-node": {"mode": "single-node"},
    "raft": RAFT,
    "static": STATIC,
    "server": SERVER,
    "worker": WORKER,
}

#: A bootstrap token as it looks; no real one.
TOKEN = "zlt1" + "AbC-0123_xyz" * 40
#: An API token as it looks.
API_TOKEN = "zlat_" + "Q9" * 21 + "z"


def bent(block: Mapping[str, Any], /, **changes: Any) -> dict[str, Any]:
    """A copy with other values; `...` takes a key out."""
    changed = {**copy.deepcopy(dict(block)), **changes}
    return {key: value for key, value in changed.items() if value is not ...}


def load(path: Path, text: str | bytes, **layers: Any) -> Config:
    """Writes the file and loads it, in an empty environment unless one is given."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(path, **{"env": {}, **layers})


def load_document(tmp_path: Path, document: Mapping[str, Any], **layers: Any) -> Config:
    return load(tmp_path / "zlayerd.json", json.dumps(document), **layers)


def refused(path: Path, text: str | bytes, **layers: Any) -> list[str]:
    """Loads a file that must be refused; its problems, with the file's name in short."""
    with pytest.raises(ConfigError) as caught:
        load(path, text, **layers)
    check_manners(caught.value)
    return [line.replace(str(path), path.name) for line in caught.value.problems]


def refused_document(tmp_path: Path, document: Mapping[str, Any], **layers: Any) -> list[str]:
    return refused(tmp_path / "zlayerd.json", json.dumps(document, indent=1), **layers)


def check_manners(error: ConfigError) -> None:
    """What holds for every refusal: problems, each on one line, no secret, no library's words."""
    assert error.problems
    assert "\n".join(error.problems) in str(error)
    for line in error.problems:
        assert line.isprintable(), ascii(line)
        assert len(line) < 1_000
        assert "pydantic" not in line
        assert TOKEN[:30] not in line
        assert API_TOKEN[:20] not in line
