"""A secret for the holder of one key: an ECIES box over P-256.

    box = 0x01 | ephemeral public key (65, uncompressed) | nonce (12) | AES-256-GCM of the secret
    key = HKDF-SHA256 of the ECDH secret; salt: both public keys; info: purpose 0x00 context

The purpose and the context are also authenticated, so that a box opens only where it was meant for.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from zlayer_native.errors import IdentityError

_VERSION = b"\x01"
_PURPOSE = b"zlayer-sealed-authority-v1"
_POINT_BYTES, _NONCE_BYTES, _KEY_BYTES, _TAG_BYTES = 65, 12, 32, 16
_HEAD_BYTES = len(_VERSION) + _POINT_BYTES + _NONCE_BYTES


def seal(recipient: ec.EllipticCurvePublicKey, secret: bytes, context: str) -> bytes:
    """Seals a secret for the holder of a P-256 key.

    Args:
        recipient: whose private key opens it.
        secret: what is sealed.
        context: where it is meant for; opening needs the same.
    """
    ephemeral = ec.generate_private_key(recipient.curve)
    point, nonce = _point(ephemeral.public_key()), os.urandom(_NONCE_BYTES)
    key = _key(ephemeral.exchange(ec.ECDH(), recipient), point, _point(recipient), context)
    return _VERSION + point + nonce + AESGCM(key).encrypt(nonce, secret, _info(context))


def open_sealed(key: ec.EllipticCurvePrivateKey, box: bytes, context: str) -> bytes:
    """Opens what `seal` made for this key and context.

    Raises:
        IdentityError: it is for another key or another place, or was changed on its way.
    """
    try:
        if len(box) < _HEAD_BYTES + _TAG_BYTES or not box.startswith(_VERSION):
            raise ValueError("no box of this version")
        point, nonce = box[1 : 1 + _POINT_BYTES], box[1 + _POINT_BYTES : _HEAD_BYTES]
        ephemeral = ec.EllipticCurvePublicKey.from_encoded_point(key.curve, point)
        shared = key.exchange(ec.ECDH(), ephemeral)
        opened = _key(shared, point, _point(key.public_key()), context)
        return AESGCM(opened).decrypt(nonce, box[_HEAD_BYTES:], _info(context))
    except (ValueError, InvalidTag):
        raise IdentityError(
            "the sealed authority can't be opened: it is not for this server, or was changed"
        ) from None


def _key(shared: bytes, ephemeral: bytes, recipient: bytes, context: str) -> bytes:
    derive = HKDF(hashes.SHA256(), _KEY_BYTES, salt=ephemeral + recipient, info=_info(context))
    return derive.derive(shared)


def _info(context: str) -> bytes:
    return _PURPOSE + b"\0" + context.encode()


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
