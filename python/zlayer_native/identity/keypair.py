"""A server's certificate with its private key, and the file that keeps the two together."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from zlayer_native.errors import IdentityError
from zlayer_native.identity import files, profiles
from zlayer_native.identity.certificate import parse_pem
from zlayer_native.identity.keys import key_pem, load_key

_CERTIFICATE_BEGIN = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True)
class KeyPair:
    """PEM texts. The key is a secret; it is not part of the repr."""

    cert_pem: str
    key_pem: str = field(repr=False)
    not_before: datetime
    not_after: datetime

    @classmethod
    def of(cls, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> KeyPair:
        """The pair of a certificate and its key."""
        return cls(
            profiles.pem(certificate).decode(),
            key_pem(key).decode(),
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
        )

    @property
    def renew_at(self) -> datetime:
        """Half of its life."""
        return self.not_before + (self.not_after - self.not_before) / 2

    def save(self, path: Path) -> None:
        """Writes key and certificate into one file, so that they can never be a wrong pair.

        Raises:
            IdentityError: the file can't be written.
        """
        files.write_private(path, (self.key_pem + self.cert_pem).encode())

    @classmethod
    def load(cls, path: Path) -> tuple[KeyPair, x509.Certificate]:
        """Reads what `save` wrote.

        Raises:
            IdentityError: it can't be read, or key and certificate do not belong together.
        """
        content = files.read_private(path)
        key_part, found, certificate_part = content.partition(_CERTIFICATE_BEGIN)
        key = load_key(key_part, str(path))
        certificate = parse_pem(found + certificate_part, str(path))[0]
        if certificate.public_key() != key.public_key():
            raise IdentityError(f"{path}: key and certificate do not belong together")
        return cls.of(key, certificate), certificate
