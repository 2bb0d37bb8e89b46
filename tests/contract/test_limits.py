"""Limits and the rule of names: what Python lets pass, the core takes, and the other way round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.boundary.real_core import RealCore, create_token, real_core
from tests.unit.api.api import NODES, TOKENS, running_api
from zlayer_native.api.tokens import TTL_MAX, USES_MAX
from zlayer_native.config.labels import LABELS_MAX, is_name
from zlayer_native.errors import InvalidRequest, LabelNotPermitted

WORDS = [
    "a",
    "0",
    "zone",
    "a-b_c.d",
    "a--b",
    "a.-b",
    "a" * 63,
    "1.2.3",
    "xn--bcher-kva",
    "",
    "a" * 64,
    "-a",
    "a-",
    ".a",
    "a.",
    "_a",
    "A",
    "aB",
    "a b",
    "a\n",
    "\na",
    "a\0b",
    "a/b",
    "zlayer.io/x",
    "..",
    "a=b",
    "\u00e9",
    "\u0430",
    "\u0661",
    "\u202e",
    "a\u0301",
    "\x1b[2J",
    "<b>",
]


async def takes(core: RealCore, **fields: Any) -> bool:
    """Whether the core makes such a token."""
    try:
        await core.server.propose({**create_token(), **fields})
    except (InvalidRequest, LabelNotPermitted):
        return False
    return True


async def test_one_rule_of_names(tmp_path: Path) -> None:
    async with real_core(tmp_path) as core, running_api() as api:
        for word in WORDS:
            good = is_name(word)
            for fields in (
                {"labels": {word: "x"}},
                {"labels": {"x": word}},
                {"labels_allowed": [word]},
                {"name": word or "-"},  # A token may have no name.
            ):
                assert await takes(core, **fields) is good, (word, fields)
                response = await api.call("POST", TOKENS, json=fields)
                assert response.status_code == (201 if good else 400), (word, fields)
            selector = await api.call("GET", NODES, params={"label": f"{word}=x"})
            assert selector.status_code == (200 if good else 400), word


async def test_python_takes_no_name_that_the_core_does_not(tmp_path: Path) -> None:
    """Two dots in a row lead out of a folder: Python refuses them, wherever the core does not."""
    assert not is_name("a..b")
    async with running_api() as api:
        response = await api.call("POST", TOKENS, json={"labels": {"a": "a..b"}})
        assert response.status_code == 400


@pytest.mark.parametrize("above", [0, 1], ids=["at_the_limit", "above_it"])
async def test_the_limits_are_the_same(tmp_path: Path, above: int) -> None:
    async with real_core(tmp_path) as core:
        many = {f"k{n}": "v" for n in range(LABELS_MAX + above)}
        for fields in (
            {"uses_max": USES_MAX + above},
            {"labels": many},
            {"labels_allowed": list(many)},
        ):
            assert await takes(core, **fields) is (above == 0)


async def test_the_longest_life_of_a_token_is_taken(tmp_path: Path) -> None:
    async with real_core(tmp_path) as core:
        assert await takes(core, expires_ms=create_token(ttl_s=TTL_MAX)["expires_ms"])
        # An hour more is for clocks that disagree.
        assert not await takes(core, expires_ms=create_token(ttl_s=TTL_MAX + 3700)["expires_ms"])
