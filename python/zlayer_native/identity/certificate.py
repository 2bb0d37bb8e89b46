"""Reading certificates that come from outside: exactly what this cluster issues, or refused.

Sets are compared as a whole, never with "contains": an extra name or usage is somebody's trick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID

from zlayer_native.errors import IdentityError
from zlayer_native.identity.keys import is_p256, key_hash
from zlayer_native.identity.names import parse_uri
from zlayer_native.identity.profiles import CA_USAGE, LEAF_USAGE

_Kind = TypeVar("_Kind", bound=x509.ExtensionType)

#: Ours have about 460 bytes. Chosen.
CERTIFICATE_BYTES_MAX = 2048
#: Two during a rotation.
CA_CERTIFICATES_MAX = 2

#: What the library raises on bytes that are no certificate, or on an extension that it can't read.
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True)
class WorkerCertificate:
    """A worker's certificate whose issuer and profile were checked. Its validity was not."""

    cluster_id: str
    node_id: int
    not_before: datetime
    not_after: datetime
    serial: str
    key_hash: str
    public_key: ec.EllipticCurvePublicKey


def parse(content: bytes, what: str) -> x509.Certificate:
    """Reads one certificate in DER.

    Raises:
        IdentityError: too long, or no certificate.
    """
    if len(content) > CERTIFICATE_BYTES_MAX:
        raise IdentityError(f"{what}: is longer than {CERTIFICATE_BYTES_MAX} bytes")
    try:
        return x509.load_der_x509_certificate(content)
    except _UNREADABLE as error:
        raise IdentityError(f"{what}: is no certificate") from error


def parse_pem(content: bytes, what: str) -> list[x509.Certificate]:
    """Reads the certificates of a PEM file, at least one.

    Raises:
        IdentityError: there is none, or one of them can't be read.
    """
    try:
        return x509.load_pem_x509_certificates(content)
    except _UNREADABLE as error:
        raise IdentityError(f"{what}: holds no readable certificate (cut short?)") from error


def certificate_key_hash(certificate: x509.Certificate) -> str:
    """`key_hash` of a certificate that is known to have a P-256 key."""
    return key_hash(cast("ec.EllipticCurvePublicKey", certificate.public_key()))


def check_ca(certificate: x509.Certificate, what: str) -> x509.Certificate:
    """Checks that it is a CA of our profile, signed by itself. Returns it.

    Raises:
        IdentityError: it is not.
    """
    try:
        fits = (
            is_p256(certificate.public_key())
            and certificate.signature_algorithm_oid == SignatureAlgorithmOID.ECDSA_WITH_SHA256
            and _extension(certificate, x509.BasicConstraints).ca
            and _extension(certificate, x509.KeyUsage) == CA_USAGE
        )
        if fits:
            certificate.verify_directly_issued_by(certificate)
    except (*_UNREADABLE, x509.ExtensionNotFound, InvalidSignature) as error:
        raise IdentityError(f"{what}: is not a CA certificate of a cluster") from error
    if not fits:
        raise IdentityError(f"{what}: is not a CA certificate of a cluster")
    return certificate


def check_cas(ders: Sequence[bytes], what: str) -> list[x509.Certificate]:
    """Reads the CA certificates that travel with a token or an answer.

    Raises:
        IdentityError: none, too many, or one that is no CA of a cluster.
    """
    if not 1 <= len(ders) <= CA_CERTIFICATES_MAX:
        raise IdentityError(f"{what}: {len(ders)} CA certificates, expected 1 or 2")
    return [check_ca(parse(content, what), what) for content in ders]


def check_worker(
    content: bytes, issuers: Sequence[x509.Certificate], cluster_id: str | None = None
) -> WorkerCertificate:
    """Reads a worker's certificate: issued by one of `issuers`, and exactly our profile.

    Says nothing about its validity or about removal.

    Args:
        content: DER.
        issuers: CA certificates.
        cluster_id: the cluster that it must be of; None takes any that the issuers serve.

    Raises:
        IdentityError: it is anything else.
    """
    certificate = parse(content, "the certificate")
    if not any(is_issued_by(certificate, issuer) for issuer in issuers):
        raise IdentityError("the certificate was not issued by this cluster's CA")
    try:
        uri = _worker_uri(certificate)
    except (*_UNREADABLE, x509.ExtensionNotFound) as error:
        raise IdentityError("the certificate does not have a worker's profile") from error
    if uri is None:
        raise IdentityError("the certificate does not have a worker's profile")
    member = parse_uri(uri)
    if cluster_id is not None and member.cluster_id != cluster_id:
        raise IdentityError(f"the certificate is of cluster {member.cluster_id}, not {cluster_id}")
    if member.role != "worker":
        raise IdentityError(f"the certificate is a {member.role}'s, not a worker's")
    public_key = cast("ec.EllipticCurvePublicKey", certificate.public_key())
    return WorkerCertificate(
        cluster_id=member.cluster_id,
        node_id=member.node_id,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        serial=format(certificate.serial_number, "x"),
        key_hash=key_hash(public_key),
        public_key=public_key,
    )


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer's key signed it, with ecdsa-with-SHA256."""
    if certificate.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*_UNREADABLE, InvalidSignature):
        return False
    return True


def _worker_uri(certificate: x509.Certificate) -> str | None:
    """The one URI, or None where something differs from the profile."""
    constraints = _extension(certificate, x509.BasicConstraints)
    usages = list(_extension(certificate, x509.ExtendedKeyUsage))
    names = list(_extension(certificate, x509.SubjectAlternativeName))
    if (
        not is_p256(certificate.public_key())
        or constraints.ca
        or _extension(certificate, x509.KeyUsage) != LEAF_USAGE
        or usages != [ExtendedKeyUsageOID.CLIENT_AUTH]
        or len(names) != 1
        or not isinstance(names[0], x509.UniformResourceIdentifier)
    ):
        return None
    return names[0].value


def _extension(certificate: x509.Certificate, kind: type[_Kind]) -> _Kind:
    return certificate.extensions.get_extension_for_class(kind).value
