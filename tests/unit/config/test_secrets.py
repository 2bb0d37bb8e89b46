"""A token or a key that was pasted into the wrong place is refused, and never repeated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.config.documents import API_TOKEN, TOKEN, WORKER, bent
from zlayer_native.config import ClusterConfig, load_config
from zlayer_native.config.hidden import holds_secret, looks_secret, shown_path
from zlayer_native.errors import ConfigError

PEM = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIBadBadBadBad"
SECRETS = [TOKEN, API_TOKEN, PEM]

#: Where somebody may paste it, by what becomes of the document.
PLACES: dict[str, Any] = {
    "token_file": lambda s: {"cluster": bent(WORKER, token_file=s)},
    "token_file in a path": lambda s: {"cluster": bent(WORKER, token_file=f"/run/{s}/x")},
    "identity_dir": lambda s: {"cluster": bent(WORKER, identity_dir=s)},
    "servers": lambda s: {"cluster": bent(WORKER, servers=[s])},
    "user name": lambda s: {"cluster": bent(WORKER, servers=[f"u:{s}@h:1"])},
    "label": lambda s: {"cluster": bent(WORKER, labels={"zone": s})},
    "label key": lambda s: {"cluster": bent(WORKER, labels={s: "zone"})},
    "duration": lambda s: {"cluster": bent(WORKER, heartbeat_grace=s)},
    "mode": lambda s: {"cluster": {"mode": s}},
    "unknown key": lambda s: {"cluster": bent(WORKER, **{s: 1})},
    "unknown value": lambda s: {"cluster": bent(WORKER, token=s)},
    "cluster": lambda s: {"cluster": s},
    "peer id": lambda s: {
        "cluster": {
            "mode": "static",
            "node_id": 1,
            "peers": [{"id": s, "api_addr": f"u:{s}@a:1"}, {"id": s, "api_addr": f"u:{s}@a:1"}],
        }
    },
    "name": lambda s: {"name": s},
    "data_dir": lambda s: {"data_dir": s},
    "key_file": lambda s: {"http": {"cert_file": "/c", "key_file": s}},
    "level": lambda s: {"log": {"level": s}},
    "twice": lambda s: f'{{"name": {json.dumps(s)}, "name": {json.dumps(s)}}}',
    "alone": json.dumps,
    "no JSON": lambda s: s,
}


def _never(secret: str, text: str) -> None:
    for start in range(0, len(secret) - 12, 6):
        assert secret[start : start + 12] not in text


@pytest.mark.parametrize("secret", SECRETS, ids=["token", "api token", "pem"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("form", ["json", "yaml", "toml"])
def test_a_pasted_secret_is_refused_and_not_repeated(
    tmp_path: Path, secret: str, place: str, form: str
) -> None:
    document = PLACES[place](secret)
    path = tmp_path / f"a.{form}"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    with pytest.raises(ConfigError) as caught:
        load_config(path, env={})
    _never(secret, str(caught.value))
    _never(secret, repr(caught.value.__cause__) + repr(caught.value.problems))


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "name", ["CLUSTER__TOKEN_FILE", "CLUSTER__SERVERS", "CLUSTER__LABELS", "NAME", "TOKN"]
)
def test_nor_is_one_in_a_variable(tmp_path: Path, secret: str, name: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"cluster": WORKER}))
    with pytest.raises(ConfigError) as caught:
        load_config(path, env={f"ZLAYER_{name}": secret})
    _never(secret, str(caught.value))


@pytest.mark.parametrize("secret", SECRETS)
def test_nor_is_one_in_place_of_the_files_name(secret: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(secret, env={})
    _never(secret, str(caught.value))


def test_the_clients_own_secrets_are_not_looked_at() -> None:
    env = {"ZLAYER_TOKEN": API_TOKEN, "ZLAYER_TOKEN_FILE": API_TOKEN}
    assert load_config(env=env) == load_config(env={})


@pytest.mark.parametrize(
    "path",
    [
        "/var/lib/docker/volumes/" + "0123456789abcdef" * 4 + "/_data",
        "/nix/store/" + "a1b2c3d4" * 4 + "-zlayer-1.0/etc",
        "/run/secrets/zlat_token",
        "token.zlt1",
        "/" + "/".join(["directory"] * 40),
    ],
)
def test_paths_that_only_look_long_are_paths(path: str) -> None:
    assert not holds_secret(path)
    assert shown_path(path) == path
    cluster = ClusterConfig.parse(bent(WORKER, token_file=path))
    assert str(cluster.model_dump()["token_file"]) == path


@pytest.mark.parametrize("text", ["", "srv-1", "a" * 63, "0123456789abcdef" * 4, "10.0.0.1:3670"])
def test_what_a_message_may_quote(text: str) -> None:
    assert not looks_secret(text)
