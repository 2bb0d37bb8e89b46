"""`zlayerd version`."""

from __future__ import annotations

import json
import platform

import zlayer_native
from tests.unit.cli.running import Zlayerd


def test_version(alone: Zlayerd) -> None:
    facts = dict(alone("version").rows)
    assert facts["zlayer-native"] == zlayer_native.__version__
    assert facts["python"] == f"CPython {platform.python_version()}"


def test_version_for_programs(alone: Zlayerd) -> None:
    found = json.loads(alone("version", "-o", "json").out)
    assert found["zlayer_native"] == zlayer_native.__version__
    assert found["packages"].keys() == {"cryptography", "grpcio", "httpx", "protobuf"}
    assert all(found["packages"].values())


def test_a_package_that_is_not_there_is_no_crash(alone: Zlayerd) -> None:
    alone.monkeypatch.setattr("zlayer_native.cli.version._PACKAGES", ("no-such-package",))
    assert json.loads(alone("version", "-o", "json").out)["packages"] == {"no-such-package": None}
    assert dict(alone("version").rows)["no-such-package"] == "-"
