"""S3: no line but the one that was made is taken, and refusing it is cheap."""

from __future__ import annotations

import base64
import string
import time
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.security.calls import Refusal, register
from tests.unit.enroll.cluster import RunningCluster
from tests.unit.identity.test_token import claims
from zlayer_native.errors import TokenInvalid
from zlayer_native.identity import profiles
from zlayer_native.identity import token as token_module
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.certificate import parse_pem
from zlayer_native.identity.token import decode, encode

NOW = int(time.time())
ALPHABET = string.ascii_letters + string.digits + "-_"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("x") / "cluster", "c1")


@pytest.fixture(scope="module")
def line(authority: Authority) -> str:
    return authority.token_signer.issue(claims(labels={"zone": "a"}))


def refused(authority: Authority, line: str) -> None:
    with pytest.raises(TokenInvalid, match=r"\Athe token does not admit\Z"):
        authority.token_signer.verify(line, NOW)


def test_s3_every_one_bit_flip_is_refused(authority: Authority, line: str) -> None:
    content = base64.urlsafe_b64decode(line + "=" * (-len(line) % 4))
    for bit in range(len(content) * 8):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        changed = base64.urlsafe_b64encode(flipped).rstrip(b"=").decode()
        assert changed != line
        refused(authority, changed)


def test_s3_every_one_character_change_is_refused(authority: Authority, line: str) -> None:
    for at in range(len(line)):
        for other in (ALPHABET[(ALPHABET.index(line[at]) + step) % 64] for step in (1, 2, 32)):
            refused(authority, line[:at] + other + line[at + 1 :])


def test_s3_every_truncation_and_extension_is_refused(authority: Authority, line: str) -> None:
    for end in range(len(line)):
        refused(authority, line[:end])
        refused(authority, line[end + 1 :])
    for more in (*ALPHABET, "AA", line):
        refused(authority, line + more)
        refused(authority, more + line)


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line + "=",
        lambda line: line + "==",
        lambda line: line + "\n",
        lambda line: "\n" + line,
        lambda line: line + "\r\n",
        lambda line: line + " ",
        lambda line: line[:50] + "\n" + line[50:],
        lambda line: line[:50] + "\t" + line[50:],
        lambda line: line + "\0",
        lambda line: "\ufeff" + line,
        lambda line: line.replace("A", "\u0410", 1),
        lambda line: line.replace("1", "\uff11", 1),
        lambda line: line.swapcase(),
        lambda line: line.replace("-", "+").replace("_", "/") + "+",
        lambda line: line.encode().hex(),
        lambda line: base64.b32encode(line.encode()).decode(),
        lambda line: base64.urlsafe_b64encode(line.encode()).decode(),
        lambda line: line[::-1],
        lambda line: f"Bearer {line}",
        lambda line: f'"{line}"',
        lambda line: "",
        lambda line: "zlt1",
        lambda line: "A" * 4096,
        lambda line: "A" * 4097,
        lambda line: "zlt1" + "A" * 4093,
    ],
)
def test_s3_lookalikes_are_refused(authority: Authority, line: str, change: object) -> None:
    assert callable(change)
    refused(authority, change(line))
    with pytest.raises(TokenInvalid):
        decode(change(line))


def test_s3_bits_that_decoding_would_drop_are_refused(authority: Authority) -> None:
    # Lengths that leave two or four bits over in the last character.
    found = 0
    for extra in range(6):
        line = authority.token_signer.issue(claims(labels={"k": "v" * (extra + 1)}))
        content = base64.urlsafe_b64decode(line + "=" * (-len(line) % 4))
        for last in ALPHABET:
            other = line[:-1] + last
            if (
                other != line
                and base64.urlsafe_b64decode(other + "=" * (-len(line) % 4)) == content
            ):
                found += 1
                refused(authority, other)
                with pytest.raises(TokenInvalid, match="last character"):
                    decode(other)
    assert found


@settings(max_examples=2000, deadline=None)
@given(st.text(max_size=200) | st.text(ALPHABET, max_size=4200))
@example("A" * 5000)
def test_s3_no_text_is_a_token(authority: Authority, text: str) -> None:
    refused(authority, text)
    with pytest.raises(TokenInvalid):
        decode(text)


@settings(max_examples=2000, deadline=None)
@given(st.binary(max_size=600))
def test_s3_no_body_behind_the_magic_is_a_token(authority: Authority, body: bytes) -> None:
    text = "zlt1" + base64.urlsafe_b64encode(body).rstrip(b"=").decode()
    refused(authority, text)
    with pytest.raises(TokenInvalid):
        decode(text)


@pytest.mark.parametrize("length", [4097, 2**26])
def test_s3_what_is_too_long_is_refused_before_it_is_looked_at(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    class NeverLooked:
        def fullmatch(self, text: str) -> object:
            raise AssertionError("it was read")

    monkeypatch.setattr(token_module, "_LINE", NeverLooked())
    line = "A" * length
    refused(authority, line)
    with pytest.raises(TokenInvalid, match="longer than 4096"):
        decode(line)


async def test_s3_the_wire_gives_one_answer_for_every_bad_token(cluster: RunningCluster) -> None:
    good = await cluster.token()
    expired = cluster.authority.token_signer.issue(
        replace(cluster.claims(), created_s=NOW - 7200, expires_s=NOW - 3600)
    )
    unknown = cluster.authority.token_signer.issue(cluster.claims())
    answers = set()
    for line in (good[:-1], good + "=", "", "x", "A" * 4097, expired, unknown, good.swapcase()):
        with pytest.raises(Refusal) as refusal:
            await register(cluster, line)
        answers.add((refusal.value.code, refusal.value.reason, refusal.value.text))
    assert answers == {("UNAUTHENTICATED", "token_invalid", "the token does not admit")}
    assert cluster.state.proposed == []
    assert (await register(cluster, good)).node_id == 1000


def test_s3_a_machine_refuses_a_token_with_a_ca_that_is_none(authority: Authority) -> None:
    leaf = authority.issue_server(1).cert_pem
    der = profiles.der(parse_pem(leaf.encode(), "")[0])
    key = authority.token_signer._key
    for cas in ([der], [b"junk"], [b""], authority.ca_der_list * 3, []):
        with pytest.raises(TokenInvalid, match=r"CA|certificate"):
            decode(encode(claims(), "c1", key, cas))
