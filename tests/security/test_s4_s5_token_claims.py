"""S4, S5, S6: lines that are well formed, and still admit nobody."""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from tests.security.calls import Refusal, register
from tests.unit.enroll.cluster import RunningCluster
from zlayer_native.errors import TokenInvalid
from zlayer_native.identity import claims as claims_module
from zlayer_native.identity import token as token_module
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.claims import Token
from zlayer_native.identity.token import decode, encode

NOW = int(time.time())
GOOD = {
    "cluster": "c1",
    "jti": "ab" * 16,
    "iat": NOW,
    "exp": NOW + 3600,
    "role": "worker",
    "uses": 1,
    "labels": {},
    "labels_allowed": [],
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("x") / "cluster", "c1")


def signed(authority: Authority, body: bytes, monkeypatch: pytest.MonkeyPatch) -> str:
    """A line with any body, signed by the cluster's own key: what a buggy issuer could make."""
    with monkeypatch.context() as patched:
        patched.setattr(token_module, "claims_json", lambda *_: body)
        patched.setattr(token_module, "parse_claims", lambda _: None)
        return authority.token_signer.issue(None)  # type: ignore[arg-type]  # claims are patched


@pytest.mark.parametrize(
    "change",
    [
        {"exp": NOW - 1, "iat": NOW - 3600},
        {"exp": NOW, "iat": NOW - 3600},
        {"iat": NOW + 61, "exp": NOW + 3600},
        {"exp": NOW - 10, "iat": NOW},
        {"exp": NOW, "iat": NOW},
        {"exp": NOW + 24 * 3600 + 1},
        {"exp": 2**63 - 1},
        {"exp": 2**64},
        {"exp": -1},
        {"iat": -1},
        {"iat": -(2**63)},
        {"exp": 10**400},
        {"exp": NOW + 0.5},
        {"exp": True},
        {"exp": str(NOW + 3600)},
        {"exp": None},
        {"role": "boss"},
        {"role": None},
        {"uses": 0},
        {"uses": -1},
        {"uses": 2**32 - 1},
        {"uses": 100_001},
        {"uses": "1"},
        {"uses": None},
        {"jti": "AB" * 16},
        {"jti": 7},
        {"jti": "ab" * 16 + "\n"},
        {"cluster": ""},
        {"cluster": "C1"},
        {"cluster": "c1\0"},
        {"cluster": None},
        {"labels": []},
        {"labels": {"a": 1}},
        {"labels": {"../a": "b"}},
        {"labels": {"zlayer.io/x": "b"}},
        {"labels_allowed": {}},
        {"labels_allowed": [1]},
        {"labels_allowed": ["a"] * 33},
        {"alg": "none"},
        {"extra": 1},
    ],
    ids=lambda change: json.dumps(change)[:40],
)
def test_s4_signed_claims_out_of_range_are_refused(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    good = signed(authority, json.dumps(GOOD).encode(), monkeypatch)
    assert authority.token_signer.verify(good, NOW).jti == GOOD["jti"]
    line = signed(authority, json.dumps({**GOOD, **change}).encode(), monkeypatch)
    with pytest.raises(TokenInvalid, match="does not admit"):
        authority.token_signer.verify(line, NOW)


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_s4_a_missing_claim_is_refused(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    body = {key: value for key, value in GOOD.items() if key != missing}
    line = signed(authority, json.dumps(body).encode(), monkeypatch)
    with pytest.raises(TokenInvalid, match="does not admit"):
        authority.token_signer.verify(line, NOW)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b"[" * 2000,
        b'{"a":' * 300,
        json.dumps(GOOD).encode()[:-1] + b',"uses":5}',
        json.dumps(GOOD).replace('"uses": 1', '"uses": NaN').encode(),
        json.dumps(GOOD).replace('"uses": 1', '"uses": 1e0').encode(),
        json.dumps(GOOD).encode() + b" {}",
        b"\xef\xbb\xbf" + json.dumps(GOOD).encode(),
    ],
    ids=range(12),
)
def test_s4_claims_that_are_no_plain_json_object_are_refused(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    line = signed(authority, body, monkeypatch)
    with pytest.raises(TokenInvalid, match="does not admit"):
        authority.token_signer.verify(line, NOW)
    with pytest.raises(TokenInvalid, match="no usable token"):
        decode(line)


def test_s4_a_minute_of_skew_is_forgiven_at_the_beginning_only(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = signed(authority, json.dumps(GOOD).encode(), monkeypatch)
    verify = authority.token_signer.verify
    assert verify(line, NOW - 60).jti == GOOD["jti"]
    assert verify(line, NOW + 3599).jti == GOOD["jti"]
    for now in (NOW - 61, NOW + 3600, NOW + 10**9, 0):
        with pytest.raises(TokenInvalid):
            verify(line, now)


async def test_s4_the_records_end_counts_not_the_lines(cluster: RunningCluster) -> None:
    line = await cluster.token(ttl_s=3600)
    (token,) = cluster.state.tokens.values()
    token["expires_ms"] = cluster.clock.now_ms()
    with pytest.raises(Refusal) as refused:
        await register(cluster, line)
    assert refused.value.reason == "token_invalid"
    assert cluster.state.proposed == []


async def test_s5_a_genuine_signature_without_a_record_is_refused(cluster: RunningCluster) -> None:
    line = cluster.authority.token_signer.issue(cluster.claims())
    with pytest.raises(Refusal) as refused:
        await register(cluster, line)
    assert (refused.value.code, refused.value.reason) == ("UNAUTHENTICATED", "token_invalid")
    assert cluster.state.proposed == []


async def test_s5_a_revoked_token_is_refused_also_within_the_records_age(
    cluster: RunningCluster,
) -> None:
    line = await cluster.token(uses=5)
    assert (await register(cluster, line)).node_id == 1000
    (jti,) = cluster.state.tokens
    await cluster.state.propose({"type": "revoke_token", "jti": jti})
    with pytest.raises(Refusal) as refused:
        await register(cluster, line)
    assert (refused.value.code, refused.value.reason) == ("UNAUTHENTICATED", "token_invalid")
    cluster.clock.offset_s += 2
    cluster.state.proposed.clear()
    with pytest.raises(Refusal):
        await register(cluster, line)
    assert cluster.state.proposed == []


async def test_s5_another_clusters_token_is_refused(
    cluster: RunningCluster, tmp_path: Path
) -> None:
    stranger = Authority.create(tmp_path / "other")
    line = stranger.token_signer.issue(cluster.claims())
    with pytest.raises(Refusal) as refused:
        await register(cluster, line)
    assert (refused.value.code, refused.value.reason) == ("UNAUTHENTICATED", "token_invalid")


async def test_s5_our_own_signature_for_another_cluster_is_told_apart(
    cluster: RunningCluster,
) -> None:
    line = encode(
        cluster.claims(),
        "another-cluster",
        cluster.authority.token_signer._key,
        cluster.authority.ca_der_list,
    )
    with pytest.raises(Refusal) as refused:
        await register(cluster, line)
    assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "wrong_cluster")
    assert cluster.state.proposed == []


@pytest.mark.parametrize("domain", [b"", b"zlayer-renew-v1\0", b"zlayer-bootstrap-token"])
def test_s5_a_signature_for_another_purpose_is_refused(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, domain: bytes
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(token_module, "_DOMAIN", domain)
        line = signed(authority, json.dumps(GOOD).encode(), monkeypatch)
    with pytest.raises(TokenInvalid):
        authority.token_signer.verify(line, NOW)


def test_s5_a_former_signer_is_refused(authority: Authority) -> None:
    former = ed25519.Ed25519PrivateKey.generate()
    made = Token(
        cluster_id="c1",
        jti=secrets.token_hex(16),
        created_s=NOW,
        expires_s=NOW + 60,
        uses_max=1,
        labels={},
        labels_allowed=(),
    )
    line = encode(made, "c1", former, authority.ca_der_list)
    assert decode(line).claims == made
    with pytest.raises(TokenInvalid):
        authority.token_signer.verify(line, NOW)


async def test_s6_an_operators_bearer_token_is_no_join_token(cluster: RunningCluster) -> None:
    for line in (secrets.token_urlsafe(32), f"zla_{secrets.token_urlsafe(32)}"):
        with pytest.raises(Refusal) as refused:
            await register(cluster, line)
        assert (refused.value.code, refused.value.reason) == ("UNAUTHENTICATED", "token_invalid")


def test_s4_limits_are_those_of_the_contract() -> None:
    assert claims_module.TTL_SECS_DEFAULT == 3600
    assert claims_module.TTL_SECS_MAX == 24 * 3600
    assert claims_module.USES_MAX == 100_000
