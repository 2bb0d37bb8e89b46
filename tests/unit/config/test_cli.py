"""`zlayerd config validate` and `config show`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from tests.unit.config.documents import API_TOKEN, LEAST, SERVER, TOKEN, WORKER, bent
from zlayer_native.cli.config import app
from zlayer_native.config import load_config
from zlayer_native.errors import ConfigError


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("ZLAYER_"):
            monkeypatch.delenv(name)


def _run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def _write(tmp_path: Path, cluster: dict[str, Any], **document: Any) -> Path:
    path = tmp_path / "zlayerd.json"
    path.write_text(json.dumps({"cluster": cluster, **document}, indent=1))
    return path


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("single-node", "single-node"),
        ("raft", "raft"),
        ("static", "static"),
        ("server", "worker-tier (server)"),
        ("worker", "worker-tier (worker)"),
    ],
)
def test_validate_says_what_a_valid_file_is(tmp_path: Path, name: str, mode: str) -> None:
    path = _write(tmp_path, LEAST[name])
    result = _run("validate", path)
    assert (result.exit_code, result.stdout) == (0, f"{path}: valid, mode {mode}\n")
    assert bool(result.stderr) is (name == "server")


def test_validate_warns_on_standard_error(tmp_path: Path) -> None:
    path = _write(tmp_path, bent(SERVER, max_heartbeats_per_second=0))
    result = _run("validate", path)
    assert result.exit_code == 0
    warnings = result.stderr.splitlines()
    line = json.dumps(json.loads(path.read_text()), indent=1).splitlines()
    number = next(n for n, text in enumerate(line, 1) if "max_heartbeats" in text)
    assert f"warning: {path}:{number}: cluster.max_heartbeats_per_second: 0 gives" in warnings[1]
    assert all(warning.startswith("warning: ") for warning in warnings)


def test_validate_reports_every_problem_and_exits_1(tmp_path: Path) -> None:
    path = _write(tmp_path, bent(WORKER, heartbeat_mn_ttl=15, servers=["x"]), nme="a")
    result = _run("validate", path)
    assert (result.exit_code, result.stdout) == (1, "")
    first, *problems = result.stderr.splitlines()
    assert first == f"error: {path}: 3 problems"
    assert [line.split(": ")[1] for line in problems] == [
        "cluster.servers[0]",
        "cluster.heartbeat_mn_ttl",
        "nme",
    ]
    assert "did you mean heartbeat_min_ttl?" in result.stderr


def test_validate_sees_the_variables_that_a_start_would_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path, bent(WORKER, servers=...))
    assert _run("validate", path).exit_code == 1
    monkeypatch.setenv("ZLAYER_CLUSTER__SERVERS", "a:1")
    assert _run("validate", path).exit_code == 0
    monkeypatch.setenv("ZLAYER_CLUSTER__SERVRES", "a:1")
    assert "did you mean ZLAYER_CLUSTER__SERVERS?" in _run("validate", path).stderr


@pytest.mark.parametrize("secret", [TOKEN, API_TOKEN])
def test_a_token_in_place_of_the_file_is_not_repeated(secret: str) -> None:
    result = _run("validate", secret)
    assert result.exit_code == 1
    assert secret[:20] not in result.output


def test_validate_needs_a_file() -> None:
    assert _run("validate").exit_code == 2


@pytest.mark.parametrize("form", [None, "yaml", "json", "toml"])
def test_show_prints_a_document_that_loads_as_the_same(tmp_path: Path, form: str | None) -> None:
    path = _write(tmp_path, bent(WORKER, heartbeat_min_ttl="15s"), name="w")
    result = _run("show", "-c", path, *(["-o", form] if form else []))
    assert result.exit_code == 0
    again = tmp_path / f"again.{form or 'yaml'}"
    again.write_text(result.stdout)
    assert load_config(again, env={}) == load_config(path, env={})
    plain = {"json": json.loads, "toml": tomllib.loads}.get(form or "", yaml.safe_load)
    assert plain(result.stdout)["cluster"]["heartbeat_min_ttl"] == 15
    assert str(path) not in result.stdout


def test_show_resolved_gives_every_value_its_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path, WORKER, data_dir="/srv/w")
    monkeypatch.setenv("ZLAYER_NAME", "w-1")
    monkeypatch.setenv("ZLAYER_CLUSTER__LABELS", "zone=eu-1")
    result = _run("show", "-c", path, "--resolved")
    rows = [line.split(None, 2) for line in result.stdout.splitlines()]
    assert rows[0] == ["KEY", "VALUE", "ORIGIN"]
    origins = {key: (value, origin) for key, value, origin in rows[1:]}
    assert origins["name"] == ("w-1", "ZLAYER_NAME")
    assert origins["data_dir"] == ("/srv/w", f"{path}:9")
    assert origins["http.bind"] == ("127.0.0.1:3669", "default")
    assert origins["http.key_file"] == ("-", "default")
    assert origins["cluster.mode"] == ("worker-tier", f"{path}:3")
    assert origins["cluster.servers[0]"] == ("10.0.0.1:3670", f"{path}:6")
    assert origins["cluster.labels.zone"] == ("eu-1", "ZLAYER_CLUSTER__LABELS")
    assert origins["cluster.identity_dir"] == ("/srv/w/worker/identity", "default (data_dir)")
    assert origins["cluster.heartbeat_grace"] == ("10", "default")

    told = json.loads(_run("show", "-c", path, "--resolved", "-o", "json").stdout)
    assert {key: each["origin"] for key, each in told.items()} == {
        key: origin for key, (_, origin) in origins.items()
    }
    assert told["http.key_file"]["value"] is None
    text = _run("show", "-c", path, "--resolved", "-o", "yaml").stdout
    assert f"  mode: worker-tier  # {path}:3\n" in text
    assert "    zone: eu-1  # ZLAYER_CLUSTER__LABELS\n" in text
    text = _run("show", "-c", path, "--resolved", "-o", "toml").stdout
    assert f'  "10.0.0.1:3670",  # {path}:6\n' in text


def test_show_as_a_table_has_no_origins_unless_asked(tmp_path: Path) -> None:
    lines = _run("show", "-c", _write(tmp_path, WORKER), "-o", "table").stdout.splitlines()
    assert lines[0].split() == ["KEY", "VALUE"]
    assert "cluster.heartbeat_grace            10" in lines
    assert lines == [line.rstrip() for line in lines]


def test_show_takes_the_file_from_zlayer_config_or_goes_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    result = _run("show", "--resolved")
    assert "default (host name)" in result.stdout.splitlines()[1]
    assert "single-node" in result.stdout
    monkeypatch.setenv("ZLAYER_CONFIG", str(_write(tmp_path, WORKER)))
    assert "worker-tier" in _run("show").stdout


def test_an_invalid_file_leaves_show_as_our_error(tmp_path: Path) -> None:
    result = _run("show", "-c", tmp_path / "missing.yaml")
    assert isinstance(result.exception, ConfigError)
    assert result.stdout == ""


def test_the_module_is_cheap_until_a_verb_runs() -> None:
    code = (
        "import sys, zlayer_native.cli.config\n"
        "print([name for name in ('pydantic', 'yaml', 'rich', 'zlayer_native._native')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
