"""Proof of an old key: what a worker signs to renew its certificate, and how that is checked."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from zlayer_native.errors import ProofRefused

#: Domain tag: no signature made for anything else is valid here.
_DOMAIN = b"zlayer-renew-v1"

#: An ECDSA P-256 signature in DER has at most 72 bytes.
SIGNATURE_BYTES_MAX = 72

#: Seconds that a nonce is good for. Chosen: a renewal takes well below one.
NONCE_SECS = 60
_EXPIRY_BYTES, _RANDOM_BYTES, _MAC_BYTES = 8, 16, 32
NONCE_BYTES = _EXPIRY_BYTES + _RANDOM_BYTES + _MAC_BYTES


def signed_bytes(cluster_id: str, old_certificate: bytes, csr: bytes, nonce: bytes) -> bytes:
    """What the old key signs. Both certificate and CSR are DER."""
    return b"".join(
        (
            _DOMAIN,
            b"\0",
            cluster_id.encode(),
            b"\0",
            hashlib.sha256(old_certificate).digest(),
            hashlib.sha256(csr).digest(),
            nonce,
        )
    )


def sign(key: ec.EllipticCurvePrivateKey, content: bytes) -> bytes:
    """The proof, as DER."""
    return key.sign(content, ec.ECDSA(hashes.SHA256()))


def verify(key: ec.EllipticCurvePublicKey, signature: bytes, content: bytes) -> None:
    """Checks a proof.

    Raises:
        ProofRefused: it does not hold.
    """
    if not 1 <= len(signature) <= SIGNATURE_BYTES_MAX:
        raise ProofRefused("the proof has a wrong length", code="UNAUTHENTICATED")
    try:
        key.verify(signature, content, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise ProofRefused("the proof is not by the old key", code="UNAUTHENTICATED") from None


class Nonces:
    """Nonces that need no memory: each carries its end and a MAC of this process.

    They live on the monotonic clock: no jump of the wall clock makes an old one good again.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._key = secrets.token_bytes(32)

    def new(self) -> bytes:
        """A nonce that is good for `NONCE_SECS`."""
        expires_ms = int((self._now() + NONCE_SECS) * 1000)
        body = expires_ms.to_bytes(_EXPIRY_BYTES, "big") + secrets.token_bytes(_RANDOM_BYTES)
        return body + self._mac(body)

    def is_good(self, nonce: bytes) -> bool:
        """Whether this process made it and its time is not up."""
        if len(nonce) != NONCE_BYTES:
            return False
        body, mac = nonce[:-_MAC_BYTES], nonce[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(body)):
            return False
        return self._now() * 1000 < int.from_bytes(body[:_EXPIRY_BYTES], "big")

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, _DOMAIN + b"-nonce\0" + body, "sha256")
