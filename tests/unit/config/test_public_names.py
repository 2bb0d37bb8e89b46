"""What `zlayer_native.config` exports, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from zlayer_native import config
from zlayer_native.config import ClusterConfig


def test_every_public_name_is_there_and_documented() -> None:
    for name in config.__all__:
        assert getattr(config, name).__doc__, name
    assert dir(config) == sorted(config.__all__)
    assert not hasattr(config, "no_such_name")


@pytest.mark.parametrize(
    ("code", "loaded"),
    [
        ("import zlayer_native.config", []),
        ("from zlayer_native.config import labels, addresses, durations", []),
        ("from zlayer_native import ClusterConfig, load_config", ["pydantic"]),
        ("from zlayer_native import load_config; load_config(env={})", ["pydantic"]),
        (
            "from zlayer_native.config import *; advise(Config(cluster=WorkerTierServerConfig("
            "node_id=1, peers=[{'id': 1, 'raft_addr': 'a:1', 'api_addr': 'a:2'}])))",
            ["pydantic"],
        ),
        (
            "from zlayer_native.config import *;"
            "WorkerTierWorkerConfig(servers=['a:1']).adaptive_ttl_config()",
            ["pydantic", "zlayer_native._native"],
        ),
    ],
)
def test_only_what_is_needed_is_loaded(code: str, loaded: list[str]) -> None:
    names = ("pydantic", "yaml", "grpc", "cryptography", "rich", "zlayer_native._native")
    code = f"import sys\n{code}\nprint([name for name in {names!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == repr(loaded)


@pytest.mark.parametrize("first", ["rendering", "show", "advice", "load", "flags"])
def test_functions_are_not_hidden_by_modules(first: str) -> None:
    code = (
        f"import zlayer_native.config.{first}\n"
        "from zlayer_native.config import render, resolve, advise, load_config, show_resolved\n"
        "assert all(map(callable, (render, resolve, advise, load_config, show_resolved)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_field_that_is_ours_has_a_word_in_its_class_docstring() -> None:
    for cls in (
        config.Config,
        config.HttpConfig,
        config.LogConfig,
        *ClusterConfig.__subclasses__(),
    ):
        for each in (cls, *cls.__subclasses__()):
            for name in each.model_fields:
                documented = "".join(base.__doc__ or "" for base in each.__mro__)
                assert f"{name}:" in documented or name == "mode", (each, name)
