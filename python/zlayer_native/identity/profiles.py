"""The four certificate profiles. All of a certificate is decided here, nothing by a request.

    CA      P-256, 10 years, CA:TRUE pathlen 0, keyCertSign + cRLSign, no names
    server  30 days, URI spiffe://<cluster>/server/<id> + DNS server.<cluster>…,
            serverAuth + clientAuth
    join    30 days, DNS join.<cluster>… only, serverAuth: a stolen join key can't act as a server
    worker  24 hours, exactly one URI spiffe://<cluster>/worker/<id>, clientAuth only

All leaves: CA:FALSE, digitalSignature, subject and authority key ids, ecdsa-with-SHA256. There are
no URI name constraints: webpki fails closed on them and would refuse every leaf that has a URI.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from zlayer_native.errors import IdentityError
from zlayer_native.identity.names import join_name, member_uri, server_name

#: Certificates are valid this long before they are made, for clocks that are a little behind.
BACKDATE = timedelta(minutes=5)
CA_LIFE = timedelta(days=3652)
SERVER_LIFE = timedelta(days=30)
WORKER_LIFE = timedelta(hours=24)

#: Of the cluster id in the CA's subject. Enough for people to tell two clusters apart.
_CLUSTER_CHARACTERS = 8


@dataclass(frozen=True)
class Validity:
    """From when to when, in UTC and whole seconds."""

    not_before: datetime
    not_after: datetime

    @classmethod
    def starting(cls, now: datetime, life: timedelta) -> Validity:
        """From `BACKDATE` before `now` to `life` after it."""
        whole = now.astimezone(UTC).replace(microsecond=0)
        return cls(whole - BACKDATE, whole + life)

    def until_at_most(self, end: datetime) -> Validity:
        """The same, but no longer than to `end`."""
        return Validity(self.not_before, min(self.not_after, end))


@dataclass(frozen=True)
class Leaf:
    """What tells one kind of leaf from another."""

    common_name: str
    names: tuple[x509.GeneralName, ...]
    usages: tuple[x509.ObjectIdentifier, ...]


@dataclass(frozen=True)
class Issuer:
    """A CA certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return "Issuer(***)"


def new_serial() -> int:
    """A random serial number of at most 159 bits."""
    return x509.random_serial_number()


def server_leaf(cluster_id: str, node_id: int) -> Leaf:
    """A server: TLS server for workers, TLS client and server towards its peers."""
    return Leaf(
        f"server-{node_id}",
        (
            x509.UniformResourceIdentifier(member_uri(cluster_id, "server", node_id)),
            x509.DNSName(server_name(cluster_id)),
        ),
        (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    )


def join_leaf(cluster_id: str, node_id: int) -> Leaf:
    """The Enrollment service of a server."""
    names = (x509.DNSName(join_name(cluster_id)),)
    return Leaf(f"join-{node_id}", names, (ExtendedKeyUsageOID.SERVER_AUTH,))


def worker_leaf(cluster_id: str, node_id: int) -> Leaf:
    """A worker."""
    names = (x509.UniformResourceIdentifier(member_uri(cluster_id, "worker", node_id)),)
    return Leaf(f"worker-{node_id}", names, (ExtendedKeyUsageOID.CLIENT_AUTH,))


def sign_ca(key: ec.EllipticCurvePrivateKey, cluster_id: str, now: datetime) -> x509.Certificate:
    """A new, self-signed CA certificate."""
    name = _subject(f"zlayer worker CA {cluster_id[:_CLUSTER_CHARACTERS]}")
    usage = _key_usage(key_cert_sign=True, crl_sign=True)
    validity = Validity.starting(now, CA_LIFE)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(new_serial())
        .not_valid_before(validity.not_before)
        .not_valid_after(validity.not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def sign_leaf(
    issuer: Issuer,
    leaf: Leaf,
    public_key: ec.EllipticCurvePublicKey,
    *,
    serial: int,
    validity: Validity,
) -> x509.Certificate:
    """A new leaf, signed by the CA.

    Raises:
        IdentityError: its validity is empty or outlives the CA's.
    """
    if validity.not_before >= validity.not_after:
        raise IdentityError("a certificate would end before it begins")
    if validity.not_after > issuer.certificate.not_valid_after_utc:
        raise IdentityError("a certificate would outlive its CA")
    authority = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    authority_id = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority.value)
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(leaf.common_name))
        .issuer_name(issuer.certificate.subject)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(validity.not_before)
        .not_valid_after(validity.not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(leaf.usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(leaf.names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(authority_id, critical=False)
        .sign(issuer.key, hashes.SHA256())
    )


def _subject(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


#: Key usage of every leaf.
LEAF_USAGE = _key_usage(digital_signature=True)
#: Key usage of the CA.
CA_USAGE = _key_usage(key_cert_sign=True, crl_sign=True)


def pem(certificate: x509.Certificate) -> bytes:
    """The certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def pem_of_der(content: bytes) -> str:
    """A certificate's DER as PEM text."""
    return ssl.DER_cert_to_PEM_cert(content)


def der(certificate: x509.Certificate) -> bytes:
    """The certificate as DER."""
    return certificate.public_bytes(serialization.Encoding.DER)
