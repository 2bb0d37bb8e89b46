"""S8, S9: of a request only a fresh P-256 key is taken; whatever else it holds refuses it."""

from __future__ import annotations

import hashlib
import ipaddress
import random
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.x509.oid import AttributeOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.security import forge
from tests.security.calls import Refusal, register
from tests.unit.enroll.cluster import RunningCluster
from zlayer_native.errors import InvalidRequest
from zlayer_native.identity.certificate import check_worker, parse
from zlayer_native.identity.csr import CSR_BYTES_MAX, check_csr, new_csr
from zlayer_native.identity.keys import key_hash, load_key, new_key

KEY = new_key()
GOOD = forge.csr(KEY)


def built(
    key: Any = KEY,
    *extensions: x509.ExtensionType,
    algorithm: hashes.HashAlgorithm | None = hashes.SHA256(),  # noqa: B008 - immutable
    subject: x509.Name | None = None,
    attribute: bool = False,
) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject or x509.Name([]))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    if attribute:
        builder = builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, b"password")
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.DER)


def san(*names: x509.GeneralName) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(names)


def san_other_name() -> bytes:
    return built(KEY, san(x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x05\x00")))


def flipped(content: bytes, at: int) -> bytes:
    changed = bytearray(content)
    changed[at] ^= 1
    return bytes(changed)


def wrong_signer() -> bytes:
    """Somebody else's public key, signed by our own."""
    return forge.csr(new_key(), public=forge.spki(forge.point(KEY)))


def twice(extension: bytes) -> bytes:
    """An extensionRequest attribute that holds the same extension twice."""
    request = forge.tlv(forge.SEQUENCE, extension, extension)
    oid = bytes.fromhex("06092a864886f70d01090e")
    attribute = forge.tlv(forge.SEQUENCE, oid, forge.tlv(forge.SET, request))
    return forge.csr(KEY, attributes=forge.tlv(0xA0, attribute))


BASIC_CONSTRAINTS = bytes.fromhex("300f0603551d130101ff040530030101ff")
NAMED = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "spiffe://c1/worker/1")])


def off_curve() -> bytes:
    return forge.spki(flipped(forge.point(KEY), 64))


def hybrid() -> bytes:
    point = forge.point(KEY)
    return forge.spki(bytes([6 + (point[-1] & 1)]) + point[1:])


REFUSED: dict[str, Callable[[], bytes]] = {
    "bad_signature": lambda: flipped(GOOD, len(GOOD) - 1),
    "wrong_signer": wrong_signer,
    "san_dns": lambda: built(KEY, san(x509.DNSName("server.c1.zlayer.internal"))),
    "san_uri": lambda: built(KEY, san(x509.UniformResourceIdentifier("spiffe://c1/worker/1"))),
    "san_ip": lambda: built(KEY, san(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))),
    "san_email": lambda: built(KEY, san(x509.RFC822Name("a@example.com"))),
    "san_other_name": san_other_name,
    "ca_true": lambda: built(KEY, x509.BasicConstraints(ca=True, path_length=None)),
    "ca_false": lambda: built(KEY, x509.BasicConstraints(ca=False, path_length=None)),
    "eku": lambda: built(KEY, x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH])),
    "extension_100": lambda: built(
        KEY,
        *(
            x509.UnrecognizedExtension(x509.ObjectIdentifier(f"1.2.{n}"), b"\x05\x00")
            for n in range(40)
        ),
    ),
    "duplicate_extension": lambda: twice(BASIC_CONSTRAINTS),
    "empty_extension_request": lambda: forge.csr(
        KEY,
        attributes=forge.tlv(
            0xA0,
            forge.tlv(0x30, bytes.fromhex("06092a864886f70d01090e"), forge.tlv(0x31, b"\x30\x00")),
        ),
    ),
    "challenge_password": lambda: built(attribute=True),
    "rsa_1024": lambda: built(rsa.generate_private_key(65537, 1024)),
    "rsa_2048": lambda: built(rsa.generate_private_key(65537, 2048)),
    "rsa_4096": lambda: built(rsa.generate_private_key(65537, 4096)),
    "p384": lambda: built(ec.generate_private_key(ec.SECP384R1())),
    "p521": lambda: built(ec.generate_private_key(ec.SECP521R1())),
    "secp256k1": lambda: built(ec.generate_private_key(ec.SECP256K1())),
    "brainpool": lambda: built(ec.generate_private_key(ec.BrainpoolP256R1())),
    "ed25519": lambda: built(ed25519.Ed25519PrivateKey.generate(), algorithm=None),
    "ed448": lambda: built(ed448.Ed448PrivateKey.generate(), algorithm=None),
    "dsa": lambda: built(dsa.generate_private_key(1024)),
    "sha384": lambda: built(algorithm=hashes.SHA384()),
    "sha512": lambda: built(algorithm=hashes.SHA512()),
    "off_curve": lambda: forge.csr(KEY, public=off_curve()),
    "infinity": lambda: forge.csr(KEY, public=forge.spki(b"\0")),
    "compressed": lambda: forge.csr(KEY, public=forge.spki(forge.point(KEY, compressed=True))),
    "hybrid_point": lambda: forge.csr(KEY, public=hybrid()),
    "explicit_parameters": lambda: forge.csr(
        KEY, public=forge.spki(forge.point(KEY), forge.explicit_p256())
    ),
    "no_parameters": lambda: forge.csr(KEY, public=forge.spki(forge.point(KEY), b"")),
    "null_parameters": lambda: forge.csr(KEY, public=forge.spki(forge.point(KEY), b"\x05\x00")),
    "huge_subject": lambda: forge.csr(
        KEY, subject=forge.tlv(0x30, forge.tlv(0x31, forge.tlv(0x0C, b"x" * 2000)))
    ),
    "version_2": lambda: forge.csr(KEY, version=b"\x02\x01\x01"),
    "no_attributes_field": lambda: forge.csr(KEY, attributes=b""),
    "indefinite_length": lambda: b"\x30\x80" + GOOD[3:] + b"\0\0",
    "long_length": lambda: b"\x30\x82\x00" + GOOD[2:],
    "trailing_byte": lambda: GOOD + b"\0",
    "trailing_request": lambda: GOOD + GOOD,
    "pem": lambda: x509.load_der_x509_csr(GOOD).public_bytes(serialization.Encoding.PEM),
    "certificate": lambda: forge.certificate(KEY, NAMED, KEY.public_key()).public_bytes(
        serialization.Encoding.DER
    ),
    "empty": lambda: b"",
    "zeros": lambda: bytes(CSR_BYTES_MAX),
    "zeros_2_mib": lambda: bytes(2**21),
    "nested": lambda: b"\x30\x80" * 512,
    "one_byte_too_long": lambda: GOOD + bytes(CSR_BYTES_MAX + 1 - len(GOOD)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_s8_csr_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"\Athe CSR is refused: ") as refused:
        check_csr(REFUSED[name]())
    assert refused.value.code == "csr_refused"


def test_s8_a_long_subject_is_not_looked_at() -> None:
    # Within the cap anything may stand there: nothing of it reaches a certificate.
    for subject in (NAMED, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x" * 64)] * 8)):
        assert check_csr(built(subject=subject)) == KEY.public_key()


def test_s8_csr_with_extra_san_is_refused() -> None:
    for names in ([x509.DNSName("a")], [x509.DNSName("a"), x509.DNSName("b")]):
        with pytest.raises(InvalidRequest, match="requests an extension"):
            check_csr(built(KEY, san(*names)))


def test_s8_good_ones_are_taken() -> None:
    assert check_csr(GOOD) == KEY.public_key()
    assert check_csr(new_csr(KEY)) == KEY.public_key()
    assert check_csr(built()) == KEY.public_key()


def test_s8_unused_bits_in_the_signature_are_refused() -> None:
    content = GOOD
    while content[-1] & 1:  # Signatures are random; half of them end in a bit that could go.
        content = forge.csr(KEY)
    at = 2 + content.index(forge.ECDSA_WITH_SHA256) + len(forge.ECDSA_WITH_SHA256)
    assert content[at] == 0
    x509.load_der_x509_csr(flipped(content, at))
    with pytest.raises(InvalidRequest, match="not whole bytes"):
        check_csr(flipped(content, at))


def test_s8_every_one_bit_flip_and_truncation_is_refused() -> None:
    content = new_csr(KEY)
    for bit in range(len(content) * 8):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InvalidRequest):
            check_csr(bytes(changed))
    for end in range(len(content)):
        with pytest.raises(InvalidRequest):
            check_csr(content[:end])


@settings(max_examples=2000, deadline=None)
@given(st.binary(max_size=CSR_BYTES_MAX + 10))
def test_s8_no_bytes_are_a_request(content: bytes) -> None:
    with pytest.raises(InvalidRequest):
        check_csr(content)


def test_s8_mutations_raise_nothing_else() -> None:
    random_source = random.Random(8)
    for _ in range(5000):
        content = bytearray(GOOD)
        for _ in range(random_source.randint(1, 6)):
            at = random_source.randrange(len(content))
            match random_source.randrange(3):
                case 0:
                    content[at] = random_source.randrange(256)
                case 1:
                    del content[at]
                case _:
                    content.insert(at, random_source.randrange(256))
        if bytes(content) == GOOD:
            continue
        with pytest.raises(InvalidRequest):
            check_csr(bytes(content))


async def test_s8_the_certificate_has_our_profile_whatever_the_subject_says(
    cluster: RunningCluster,
) -> None:
    csr = built(subject=NAMED)
    answer = await register(cluster, await cluster.token(), csr)
    certificate = parse(answer.certificate_der, "")
    assert certificate.subject.rfc4514_string() == "CN=worker-1000"
    worker = check_worker(answer.certificate_der, cluster.authority.certificates)
    assert (worker.node_id, worker.public_key) == (1000, KEY.public_key())


@pytest.mark.parametrize("name", ["san_uri", "rsa_2048", "bad_signature", "empty", "pem"])
async def test_s8_the_wire_refuses_them_before_anything_is_proposed(
    cluster: RunningCluster, name: str
) -> None:
    line = await cluster.token()
    with pytest.raises(Refusal) as refused:
        await register(cluster, line, REFUSED[name]())
    assert (refused.value.code, refused.value.reason) == ("INVALID_ARGUMENT", "csr_refused")
    assert cluster.state.proposed == []
    assert (await register(cluster, line)).node_id == 1000


async def test_s9_the_cas_own_key_is_refused(cluster: RunningCluster) -> None:
    line = await cluster.token()
    csr = new_csr(cluster.authority._issuer.key)
    with pytest.raises(Refusal) as refused:
        await register(cluster, line, csr)
    assert (refused.value.code, refused.value.reason) == ("INVALID_ARGUMENT", "key_in_use")
    assert cluster.state.proposed == []


async def test_s9_a_servers_keys_are_refused(cluster: RunningCluster) -> None:
    line = await cluster.token(uses=2)
    for pair in (cluster.authority.issue_server(1), cluster.authority.issue_join(1)):
        csr = new_csr(load_key(pair.key_pem.encode(), ""))
        with pytest.raises(Refusal) as refused:
            await register(cluster, line, csr)
        assert refused.value.reason == "key_in_use"
    assert cluster.state.proposed == []


async def test_s9_a_key_of_another_node_is_refused(cluster: RunningCluster) -> None:
    key = new_key()
    await register(cluster, await cluster.token(), new_csr(key))
    with pytest.raises(Refusal) as refused:
        await register(cluster, await cluster.token(), new_csr(key))
    assert (refused.value.code, refused.value.reason) == ("INVALID_ARGUMENT", "key_in_use")
    assert len(cluster.state.nodes) == 1


async def test_s9_a_removed_nodes_key_is_refused(cluster: RunningCluster) -> None:
    key, line = new_key(), await cluster.token(uses=2)
    await register(cluster, line, new_csr(key))
    await cluster.state.propose({"type": "remove_node", "node_id": 1000})
    for token in (line, await cluster.token()):
        with pytest.raises(Refusal) as refused:
            await register(cluster, token, new_csr(key))
        assert refused.value.reason == "key_in_use"
    assert cluster.state.nodes == {}


def test_key_hashes_are_of_the_public_key_info() -> None:

    spki = forge.spki(forge.point(KEY))
    assert key_hash(KEY.public_key()) == hashlib.sha256(spki).hexdigest()
