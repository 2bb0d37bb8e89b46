"""Private keys: P-256 for everything in TLS. Made here, read here, never printed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from zlayer_native.errors import IdentityError


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    """The key as unencrypted PKCS #8 PEM. A secret."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def load_key(pem: bytes, what: str) -> ec.EllipticCurvePrivateKey:
    """Reads a P-256 key.

    Args:
        pem: unencrypted PEM.
        what: the file or the thing, for the message.

    Raises:
        IdentityError: no such key; the message never holds the bytes.
    """
    key = _load(pem, what)
    if not (isinstance(key, ec.EllipticCurvePrivateKey) and is_p256(key.public_key())):
        raise IdentityError(f"{what}: is not a P-256 key")
    return key


def load_signer_key(pem: bytes, what: str) -> ed25519.Ed25519PrivateKey:
    """As `load_key`, for an Ed25519 key."""
    key = _load(pem, what)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise IdentityError(f"{what}: is not an Ed25519 key")
    return key


def _load(pem: bytes, what: str) -> object:
    read: Callable[..., Any] = serialization.load_pem_private_key
    try:
        return read(pem, password=None)
    except TypeError:
        raise IdentityError(f"{what}: is encrypted, and there is no passphrase to give") from None
    except (ValueError, UnsupportedAlgorithm):
        # The library's own message may quote what it read.
        raise IdentityError(f"{what}: holds no readable private key (cut short?)") from None


def is_p256(key: object) -> bool:
    """Whether it is an EC public key on the curve P-256."""
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)


def public_der(key: ec.EllipticCurvePublicKey) -> bytes:
    """The SubjectPublicKeyInfo: named curve, uncompressed point."""
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def key_hash(key: ec.EllipticCurvePublicKey) -> str:
    """How the control state knows a key: SHA-256 of its SubjectPublicKeyInfo, lower-case hex."""
    return hashlib.sha256(public_der(key)).hexdigest()
