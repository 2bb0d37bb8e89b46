"""Selectors of labels."""

from __future__ import annotations

import pytest

from zlayer_native.cluster.selector import parse
from zlayer_native.errors import ConfigError

A = {"gpu": "a100", "zone": "eu-1"}
B = {"zone": "eu-2", "spot": "yes"}
C: dict[str, str] = {}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("", [A, B, C]),
        (" ", [A, B, C]),
        ("gpu", [A]),
        ("!gpu", [B, C]),
        ("gpu=a100", [A]),
        ("gpu != a100", [B, C]),
        ("zone in (eu-1, eu-2)", [A, B]),
        ("zone notin (eu-1)", [B, C]),
        ("zone in (eu-1,eu-2),!spot", [A]),
        ("gpu=a100,zone=eu-2", []),
    ],
)
def test_what_is_selected(text: str, selected: list[dict[str, str]]) -> None:
    assert [labels for labels in (A, B, C) if parse(text)(labels)] == selected


@pytest.mark.parametrize(
    "text", ["=", "gpu=", "gpu==a", "a b", "zone in eu-1", "zone in ()", ",", "gpu,", "GPU", "!"]
)
def test_what_is_none_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=r"selector '.*': expected key, !key, key=value"):
        parse(text)
