"""What is put into a token line comes out of it, on the machine and on the server."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zlayer_native.errors import InvalidRequest, TokenInvalid
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.claims import TTL_SECS_MAX, USES_MAX, Token
from zlayer_native.identity.token import TOKEN_CHARACTERS_MAX, decode

NOW = int(time.time())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("x") / "cluster", "c1")


def claims(**fields: Any) -> Token:
    token = Token(
        cluster_id="c1",
        jti="0123456789abcdef" * 2,
        created_s=NOW,
        expires_s=NOW + 3600,
        uses_max=1,
        labels={},
        labels_allowed=(),
    )
    return replace(token, **fields)


NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9_]{0,20}[a-z0-9])?", fullmatch=True)


@settings(deadline=None)
@given(
    ttl=st.integers(1, TTL_SECS_MAX),
    uses=st.integers(1, USES_MAX),
    labels=st.dictionaries(NAMES, NAMES, max_size=8),
    allowed=st.lists(NAMES, max_size=8),
)
def test_it_is_read_as_it_was_made(
    authority: Authority, ttl: int, uses: int, labels: dict[str, str], allowed: list[str]
) -> None:
    made = claims(expires_s=NOW + ttl, uses_max=uses, labels=labels, labels_allowed=tuple(allowed))
    line = authority.token_signer.issue(made)
    read = decode(line)
    assert read.claims == made
    assert read.cas == authority.certificates
    assert authority.token_signer.verify(line, NOW) == made
    assert re.fullmatch(r"zlt1[A-Za-z0-9_-]+", line)
    assert len(line) <= TOKEN_CHARACTERS_MAX


def test_a_plain_token_is_short(authority: Authority) -> None:
    assert len(authority.token_signer.issue(claims())) < 900


def test_labels_that_fill_more_than_a_line_are_refused(authority: Authority) -> None:
    labels = {f"{n:02}{'x' * 60}": "y" * 63 for n in range(32)}
    with pytest.raises(InvalidRequest, match="fewer or shorter labels"):
        authority.token_signer.issue(claims(labels=labels))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("uses_max", 0),
        ("uses_max", -1),
        ("uses_max", USES_MAX + 1),
        ("uses_max", 2**32 - 1),
        ("uses_max", True),
        ("uses_max", 1.0),
        ("expires_s", NOW),
        ("expires_s", NOW - 1),
        ("expires_s", NOW + TTL_SECS_MAX + 1),
        ("expires_s", 2**63 - 1),
        ("created_s", -1),
        ("created_s", 2**63 - 1),
        ("jti", ""),
        ("jti", "0" * 31),
        ("jti", "A" * 32),
        ("jti", "0" * 32 + "\n"),
        ("labels", {"a b": "c"}),
        ("labels", {"a": ""}),
        ("labels", {"a": "../b"}),
        ("labels", {"zlayer.io/role": "x"}),
        ("labels", {f"k{n}": "v" for n in range(33)}),
        ("labels_allowed", ("A",)),
        ("labels_allowed", ("zlayer.io/role",)),
        ("labels_allowed", tuple(f"k{n}" for n in range(33))),
    ],
)
def test_claims_out_of_range_are_not_issued(
    authority: Authority, field: str, value: object
) -> None:
    with pytest.raises(InvalidRequest):
        authority.token_signer.issue(claims(**{field: value}))


def test_a_machine_is_told_what_is_wrong_with_its_line(authority: Authority) -> None:
    line = authority.token_signer.issue(claims())
    for damaged, why in (
        (f"{line}\n", "white space"),
        (f" {line}", "white space"),
        (f"{line}=", "padding"),
        ("", "white space"),
        (line[:-3], "cut short|last character|not a CA|no certificate|nothing"),
        (line[:200], "cut short"),
        ("A" + line[1:], "does not begin with zlt1"),
        ("zlt2" + line[4:], "newer version"),
        (line * 10, "longer than 4096"),
    ):
        with pytest.raises(TokenInvalid, match=f"no usable token: .*({why})") as refused:
            decode(damaged)
        assert line[20:40] not in str(refused.value)
