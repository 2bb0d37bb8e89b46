"""Each certificate has exactly its profile, and the verifiers that we meet agree."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID as Eku
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from zlayer_native.errors import IdentityError
from zlayer_native.identity import profiles
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.keys import key_pem, new_key
from zlayer_native.identity.names import join_name, server_name

NOW = datetime(2027, 3, 4, 5, 6, 7, 890, tzinfo=UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "cluster", "c1", now=lambda: NOW)


def load(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def worker(authority: Authority, node_id: int = 1000) -> x509.Certificate:
    key = new_key().public_key()
    not_after = authority.worker_not_after()
    return authority.sign_worker(node_id, key, serial=profiles.new_serial(), not_after=not_after)


def extensions(certificate: x509.Certificate) -> dict[str, tuple[bool, object]]:
    return {type(e.value).__name__: (e.critical, e.value) for e in certificate.extensions}


def check_leaf(
    authority: Authority,
    certificate: x509.Certificate,
    *,
    common_name: str,
    names: list[x509.GeneralName],
    usages: list[x509.ObjectIdentifier],
    life: timedelta,
) -> None:
    ca = authority.certificates[0]
    found = extensions(certificate)
    public_key = certificate.public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    assert isinstance(public_key.curve, ec.SECP256R1)
    assert certificate.signature_algorithm_oid == SignatureAlgorithmOID.ECDSA_WITH_SHA256
    assert certificate.version is x509.Version.v3
    assert certificate.issuer == ca.subject
    assert [(a.oid, a.value) for a in certificate.subject] == [(NameOID.COMMON_NAME, common_name)]
    whole = NOW.replace(microsecond=0)
    assert certificate.not_valid_before_utc == whole - timedelta(minutes=5)
    assert certificate.not_valid_after_utc == whole + life
    assert set(found) == {
        "BasicConstraints",
        "KeyUsage",
        "ExtendedKeyUsage",
        "SubjectAlternativeName",
        "SubjectKeyIdentifier",
        "AuthorityKeyIdentifier",
    }
    assert found["BasicConstraints"] == (True, x509.BasicConstraints(ca=False, path_length=None))
    assert found["KeyUsage"] == (True, profiles.LEAF_USAGE)
    assert profiles.LEAF_USAGE.digital_signature
    assert not profiles.LEAF_USAGE.key_cert_sign
    assert found["ExtendedKeyUsage"] == (False, x509.ExtendedKeyUsage(usages))
    assert found["SubjectAlternativeName"] == (False, x509.SubjectAlternativeName(names))
    ski = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    aki = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert aki.key_identifier == ski.digest


def test_the_ca_has_exactly_its_profile(authority: Authority) -> None:
    ca = authority.certificates[0]
    found = extensions(ca)
    assert [(a.oid, a.value) for a in ca.subject] == [(NameOID.COMMON_NAME, "zlayer worker CA c1")]
    assert ca.issuer == ca.subject
    assert ca.signature_algorithm_oid == SignatureAlgorithmOID.ECDSA_WITH_SHA256
    assert set(found) == {"BasicConstraints", "KeyUsage", "SubjectKeyIdentifier"}
    assert found["BasicConstraints"] == (True, x509.BasicConstraints(ca=True, path_length=0))
    assert found["KeyUsage"] == (True, profiles.CA_USAGE)
    assert profiles.CA_USAGE.key_cert_sign
    assert profiles.CA_USAGE.crl_sign
    assert not profiles.CA_USAGE.digital_signature
    assert ca.not_valid_after_utc - ca.not_valid_before_utc > timedelta(days=3650)


def test_the_server_leaf_has_exactly_its_profile(authority: Authority) -> None:
    check_leaf(
        authority,
        load(authority.issue_server(3).cert_pem),
        common_name="server-3",
        names=[
            x509.UniformResourceIdentifier("spiffe://c1/server/3"),
            x509.DNSName("server.c1.zlayer.internal"),
        ],
        usages=[Eku.SERVER_AUTH, Eku.CLIENT_AUTH],
        life=timedelta(days=30),
    )


def test_the_join_leaf_has_exactly_its_profile(authority: Authority) -> None:
    check_leaf(
        authority,
        load(authority.issue_join(3).cert_pem),
        common_name="join-3",
        names=[x509.DNSName("join.c1.zlayer.internal")],
        usages=[Eku.SERVER_AUTH],
        life=timedelta(days=30),
    )


def test_the_worker_leaf_has_exactly_its_profile(authority: Authority) -> None:
    check_leaf(
        authority,
        worker(authority, 1234),
        common_name="worker-1234",
        names=[x509.UniformResourceIdentifier("spiffe://c1/worker/1234")],
        usages=[Eku.CLIENT_AUTH],
        life=timedelta(hours=24),
    )


def test_cryptography_verifies_each_leaf(authority: Authority) -> None:
    store = Store(authority.certificates)
    server = load(authority.issue_server(1).cert_pem)
    join = load(authority.issue_join(1).cert_pem)
    builder = PolicyBuilder().store(store).time(NOW)
    for certificate, name in ((server, server_name("c1")), (join, join_name("c1"))):
        builder.build_server_verifier(x509.DNSName(name)).verify(certificate, [])
    client = builder.build_client_verifier().verify(worker(authority), [])
    assert client.subjects == [x509.UniformResourceIdentifier("spiffe://c1/worker/1000")]
    with pytest.raises(VerificationError):
        builder.build_client_verifier().verify(join, [])
    with pytest.raises(VerificationError):
        builder.build_server_verifier(x509.DNSName(server_name("c1"))).verify(worker(authority), [])


async def test_openssl_verifies_server_and_worker_in_strict_mode(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "cluster", "c1")
    server, key = authority.issue_server(1), new_key()
    leaf = authority.sign_worker(
        1000, key.public_key(), serial=7, not_after=authority.worker_not_after()
    )
    listening, dialling = (
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    )
    pairs = (
        (listening, server.cert_pem, server.key_pem),
        (dialling, profiles.pem(leaf).decode(), key_pem(key).decode()),
    )
    for n, (context, certificate, private) in enumerate(pairs):
        path = tmp_path / f"{n}.pem"
        path.write_text(private + certificate)
        context.load_cert_chain(path)
        context.load_verify_locations(cadata=authority.ca_pem)
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    seen: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.set_result(writer.get_extra_info("peercert")["subjectAltName"])
        writer.write(b"x")
        writer.close()

    running = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=listening)
    port = running.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=dialling, server_hostname=server_name("c1")
    )
    assert await reader.read() == b"x"
    assert await seen == (("URI", "spiffe://c1/worker/1000"),)
    writer.close()
    running.close()


def test_serials_have_up_to_159_bits_and_do_not_repeat() -> None:
    serials = {profiles.new_serial() for _ in range(1000)}
    assert len(serials) == 1000
    assert 150 < max(serials).bit_length() <= 159


def test_no_leaf_outlives_its_ca(tmp_path: Path) -> None:
    now = [NOW]
    authority = Authority.create(tmp_path / "c", "c1", now=lambda: now[0])
    end = authority.certificates[0].not_valid_after_utc
    now[0] = end - timedelta(hours=1)
    assert authority.worker_not_after() == end
    assert worker(authority).not_valid_after_utc == end
    with pytest.raises(IdentityError, match="outlive"):
        authority.sign_worker(
            1, new_key().public_key(), serial=1, not_after=end + timedelta(seconds=1)
        )
    now[0] = end
    with pytest.raises(IdentityError, match="expired"):
        authority.issue_join(1)


def test_a_clock_that_went_back_signs_nothing(tmp_path: Path) -> None:
    now = [NOW]
    authority = Authority.create(tmp_path / "c", "c1", now=lambda: now[0])
    authority.issue_join(1)
    now[0] = NOW - timedelta(seconds=59)
    authority.issue_join(1)
    now[0] = NOW - timedelta(seconds=61)
    with pytest.raises(IdentityError, match="clock went back"):
        authority.issue_join(1)
    now[0] = NOW - timedelta(minutes=6)
    with pytest.raises(IdentityError, match="before its CA"):
        authority.worker_not_after()


@pytest.mark.parametrize("node_id", [0, -1, 2**63])
def test_ids_that_no_uri_can_hold_are_refused(authority: Authority, node_id: int) -> None:
    with pytest.raises(IdentityError, match="node id"):
        worker(authority, node_id)
