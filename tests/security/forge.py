"""Builds the requests and certificates that nobody honest would send, byte by byte."""

from __future__ import annotations

import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SEQUENCE, SET, INTEGER, OID, BITS, OCTETS = 0x30, 0x31, 0x02, 0x06, 0x03, 0x04
ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
EC_PUBLIC_KEY = bytes.fromhex("06072a8648ce3d0201")
PRIME256V1 = bytes.fromhex("06082a8648ce3d030107")

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
G = bytes.fromhex(
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)


def tlv(tag: int, *contents: bytes) -> bytes:
    """One DER element."""
    body = b"".join(contents)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    width = (len(body).bit_length() + 7) // 8
    return bytes([tag, 0x80 | width]) + len(body).to_bytes(width, "big") + body


def integer(value: int) -> bytes:
    return tlv(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def spki(point: bytes, parameters: bytes = PRIME256V1) -> bytes:
    """A SubjectPublicKeyInfo for an elliptic curve."""
    return tlv(SEQUENCE, tlv(SEQUENCE, EC_PUBLIC_KEY, parameters), tlv(BITS, b"\0", point))


def explicit_p256() -> bytes:
    """The parameters of P-256, spelled out instead of named."""
    field = tlv(SEQUENCE, bytes.fromhex("06072a8648ce3d0101"), integer(P))
    curve = tlv(
        SEQUENCE, tlv(OCTETS, (P - 3).to_bytes(32, "big")), tlv(OCTETS, B.to_bytes(32, "big"))
    )
    return tlv(SEQUENCE, integer(1), field, curve, tlv(OCTETS, G), integer(N), integer(1))


def point(key: ec.EllipticCurvePrivateKey, *, compressed: bool = False) -> bytes:
    form = (
        serialization.PublicFormat.CompressedPoint
        if compressed
        else serialization.PublicFormat.UncompressedPoint
    )
    return key.public_key().public_bytes(serialization.Encoding.X962, form)


def csr(
    key: ec.EllipticCurvePrivateKey,
    *,
    public: bytes | None = None,
    subject: bytes = b"\x30\x00",
    attributes: bytes = b"\xa0\x00",
    version: bytes = b"\x02\x01\x00",
) -> bytes:
    """A PKCS #10 request, signed by `key` over whatever was put into it."""
    information = tlv(SEQUENCE, version, subject, public or spki(point(key)), attributes)
    signature = key.sign(information, ec.ECDSA(hashes.SHA256()))
    return tlv(SEQUENCE, information, ECDSA_WITH_SHA256, tlv(BITS, b"\0", signature))


def certificate(
    issuer_key: Any,
    issuer: x509.Name,
    public_key: Any,
    *extensions: x509.ExtensionType,
    life: datetime.timedelta = datetime.timedelta(hours=1),
    begin: datetime.datetime | None = None,
    subject: str = "worker-1000",
) -> x509.Certificate:
    """A certificate with any profile."""
    begin = begin or datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + life)
    )
    for extension in extensions:
        critical = isinstance(extension, (x509.BasicConstraints, x509.KeyUsage))
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer_key, hashes.SHA256())


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
