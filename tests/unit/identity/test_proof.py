"""A proof is about one old certificate, one request and one nonce of one cluster."""

from __future__ import annotations

import hashlib

import pytest

from zlayer_native.errors import ProofRefused
from zlayer_native.identity import proof
from zlayer_native.identity.keys import new_key

PARTS = ("c1", b"old certificate", b"csr", b"n" * proof.NONCE_BYTES)


def test_what_is_signed_is_what_the_contract_says() -> None:
    assert proof.signed_bytes(*PARTS) == (
        b"zlayer-renew-v1\0c1\0"
        + hashlib.sha256(b"old certificate").digest()
        + hashlib.sha256(b"csr").digest()
        + PARTS[3]
    )


def test_only_the_old_keys_signature_over_the_same_parts_holds() -> None:
    key = new_key()
    signature = proof.sign(key, proof.signed_bytes(*PARTS))
    proof.verify(key.public_key(), signature, proof.signed_bytes(*PARTS))
    with pytest.raises(ProofRefused, match="not by the old key"):
        proof.verify(new_key().public_key(), signature, proof.signed_bytes(*PARTS))
    for other in (
        ("c2", *PARTS[1:]),
        (PARTS[0], b"x", *PARTS[2:]),
        (*PARTS[:2], b"x", PARTS[3]),
        (*PARTS[:3], b"m" * proof.NONCE_BYTES),
    ):
        with pytest.raises(ProofRefused):
            proof.verify(key.public_key(), signature, proof.signed_bytes(*other))
    for damaged in (b"", signature[:-1], signature + b"\0", b"\0" * 64, b"x" * 10_000):
        with pytest.raises(ProofRefused):
            proof.verify(key.public_key(), damaged, proof.signed_bytes(*PARTS))


def test_nonces_are_good_for_a_minute_in_their_own_process() -> None:
    now = [1000.0]
    nonces, others = proof.Nonces(lambda: now[0]), proof.Nonces(lambda: now[0])
    nonce = nonces.new()
    assert len(nonce) == proof.NONCE_BYTES <= 64
    assert nonces.is_good(nonce)
    assert nonces.new() != nonce
    assert not others.is_good(nonce)
    now[0] += proof.NONCE_SECS - 0.01
    assert nonces.is_good(nonce)
    now[0] += 0.02
    assert not nonces.is_good(nonce)


def test_no_changed_nonce_is_good() -> None:
    nonces = proof.Nonces(lambda: 0.0)
    nonce = nonces.new()
    for bit in range(len(nonce) * 8):
        flipped = bytearray(nonce)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not nonces.is_good(bytes(flipped))
    for other in (b"", nonce[:-1], nonce + b"\0"):
        assert not nonces.is_good(other)
