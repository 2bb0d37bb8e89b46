"""S7: a worker stops before its token leaves it, whoever answers. Also T1, T2 and T23.

Every impostor records what it gets, in clear where TLS came about: no part of the token may be in
it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.security import forge
from tests.unit.enroll.cluster import IMPATIENT, RunningCluster, both_ways, listening
from tests.unit.identity.test_token import claims
from zlayer_native._proto.zlayer.cluster.v1 import enrollment_pb2 as pb
from zlayer_native._proto.zlayer.cluster.v1 import enrollment_pb2_grpc as rpc
from zlayer_native.enroll.client import Expectation, check_expectation, enroll, renew
from zlayer_native.enroll.dial import Trust, check_server, open_channel
from zlayer_native.enroll.retry import Patience, WrongServer
from zlayer_native.errors import EnrollmentError
from zlayer_native.identity import profiles
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.keys import key_pem, new_key
from zlayer_native.identity.names import join_name
from zlayer_native.identity.store import IdentityStore
from zlayer_native.identity.token import decode

CHUNK = 24


@dataclass
class Recording:
    """What an impostor was told."""

    address: str = ""
    heard: bytearray = field(default_factory=bytearray)
    connections: int = 0

    def has_any_of(self, line: str) -> bool:
        """Whether any stretch of the token line, or of the bytes it stands for, was heard."""
        content = base64.urlsafe_b64decode(line + "=" * (-len(line) % 4))
        return any(
            whole[at : at + CHUNK] in self.heard
            for whole in (line.encode(), content)
            for at in range(len(whole) - CHUNK)
        )


@contextlib.asynccontextmanager
async def impostor(
    tmp_path: Path,
    pair: tuple[str, str] | None,
    greeting: bytes = b"",
) -> AsyncIterator[Recording]:
    """A server that hears everything. `pair` is certificate and key, or None for plaintext."""
    recording = Recording()
    options: dict[str, object] = {}
    if pair is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        path = tmp_path / "impostor.pem"
        path.write_text(pair[1] + pair[0])
        context.load_cert_chain(path)
        context.set_alpn_protocols(["h2"])
        options["ssl"] = context

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        recording.connections += 1
        if greeting:
            writer.write(greeting)
        # An empty SETTINGS frame: a client of HTTP/2 goes on and sends its request.
        writer.write(b"\0\0\0\4\0\0\0\0\0")
        while chunk := await reader.read(4096):
            recording.heard += chunk

    async with listening(hear, **options) as recording.address:
        yield recording


def stranger(tmp_path: Path, cluster: RunningCluster) -> tuple[str, str]:
    """Another CA, the same names."""
    pair = Authority.create(tmp_path / "stranger", cluster.cluster_id).issue_join(1)
    return pair.cert_pem, pair.key_pem


def forged(
    cluster: RunningCluster,
    names: list[x509.GeneralName],
    usages: list[x509.ObjectIdentifier],
    begin: datetime | None = None,
    life: timedelta = timedelta(hours=1),
) -> tuple[str, str]:
    """A certificate of the right CA with another profile."""
    key, ca = new_key(), cluster.authority.certificates[0]
    certificate = forge.certificate(
        cluster.authority._issuer.key,
        ca.subject,
        key.public_key(),
        x509.BasicConstraints(ca=False, path_length=None),
        x509.ExtendedKeyUsage(usages),
        x509.SubjectAlternativeName(names),
        begin=begin,
        life=life,
    )
    return forge.pem(certificate), key_pem(key).decode()


def join_names(cluster: RunningCluster) -> list[x509.GeneralName]:
    return [x509.DNSName(join_name(cluster.cluster_id))]


SERVER = [ExtendedKeyUsageOID.SERVER_AUTH]


def other_ca(tmp_path: Path, cluster: RunningCluster) -> tuple[str, str]:
    return stranger(tmp_path, cluster)


def right_ca_server_name(tmp_path: Path, cluster: RunningCluster) -> tuple[str, str]:
    pair = cluster.authority.issue_server(1)
    return pair.cert_pem, pair.key_pem


def right_ca_wrong_name(tmp_path: Path, cluster: RunningCluster) -> tuple[str, str]:
    return forged(cluster, [x509.DNSName("join.other.zlayer.internal")], SERVER)


def right_ca_address_only(tmp_path: Path, cluster: RunningCluster) -> tuple[str, str]:
    return forged(cluster, [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))], SERVER)


def expired(tmp_path: Path, cluster: RunningCluster) -> tuple[str, str]:
    begin = datetime.now(UTC) - timedelta(hours=2)
    return forged(cluster, join_names(cluster), SERVER, begin=begin)


def not_yet_valid(tmp_path: Path, cluster: RunningCluster) -> tuple[str, str]:
    begin = datetime.now(UTC) + timedelta(hours=1)
    return forged(cluster, join_names(cluster), SERVER, begin=begin)


def worker_as_server(tmp_path: Path, cluster: RunningCluster) -> tuple[str, str]:
    key = new_key()
    certificate = cluster.authority.sign_worker(
        1000, key.public_key(), serial=7, not_after=cluster.authority.worker_not_after()
    )
    return profiles.pem(certificate).decode(), key_pem(key).decode()


def client_usage_with_the_name(tmp_path: Path, cluster: RunningCluster) -> tuple[str, str]:
    return forged(cluster, join_names(cluster), [ExtendedKeyUsageOID.CLIENT_AUTH])


def issued_by_a_worker(tmp_path: Path, cluster: RunningCluster) -> tuple[str, str]:
    worker_key, key = new_key(), new_key()
    worker = cluster.authority.sign_worker(
        1000, worker_key.public_key(), serial=7, not_after=cluster.authority.worker_not_after()
    )
    leaf = forge.certificate(
        worker_key,
        worker.subject,
        key.public_key(),
        x509.ExtendedKeyUsage(SERVER),
        x509.SubjectAlternativeName(join_names(cluster)),
    )
    return forge.pem(leaf) + profiles.pem(worker).decode(), key_pem(key).decode()


def self_signed(tmp_path: Path, cluster: RunningCluster) -> tuple[str, str]:
    key = new_key()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "worker-1000")])
    leaf = forge.certificate(
        key, subject, key.public_key(), x509.SubjectAlternativeName(join_names(cluster))
    )
    return forge.pem(leaf), key_pem(key).decode()


Forger = Callable[[Path, RunningCluster], tuple[str, str]]
IMPOSTORS = [
    (other_ca, "not signed by this cluster's CA"),
    (right_ca_server_name, "for another name"),
    (right_ca_wrong_name, "for another name"),
    (right_ca_address_only, "for another name"),
    (expired, "has expired"),
    (not_yet_valid, "not valid yet"),
    (worker_as_server, "not one for servers|for another name"),
    (client_usage_with_the_name, "not one for servers"),
    (issued_by_a_worker, "CA"),
    (self_signed, "signed by itself|not signed by this"),
]


@pytest.mark.parametrize(("forger", "why"), IMPOSTORS, ids=lambda v: getattr(v, "__name__", ""))
async def test_s7_no_impostor_sees_the_token(
    cluster: RunningCluster, tmp_path: Path, forger: Forger, why: str
) -> None:
    line = await cluster.token()
    async with impostor(tmp_path, forger(tmp_path, cluster)) as recording:
        store = IdentityStore(tmp_path / "identity")
        with pytest.raises(EnrollmentError, match=why) as refused:
            await enroll([recording.address], line, store, patience=IMPATIENT)
    assert not refused.value.retryable
    assert recording.address in str(refused.value)
    assert not recording.has_any_of(line)
    assert store.load() is None


@pytest.mark.parametrize("forger", [forger for forger, _ in IMPOSTORS], ids=lambda f: f.__name__)
async def test_s7_grpcio_alone_keeps_the_token_back_as_well(
    cluster: RunningCluster, tmp_path: Path, forger: Forger
) -> None:
    """An attacker may pass the first handshake on to the real server and keep the second."""
    line = await cluster.token()
    trust = Trust(cluster.cluster_id, cluster.authority.ca_pem)
    async with (
        impostor(tmp_path, forger(tmp_path, cluster)) as recording,
        open_channel(recording.address, trust) as channel,
    ):
        request = pb.RegisterRequest(bootstrap_token=line)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await rpc.EnrollmentStub(channel).Register(request, timeout=3)
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    assert not recording.has_any_of(line)


async def test_s7_a_tls_1_2_server_does_not_see_the_token(
    cluster: RunningCluster, tmp_path: Path
) -> None:
    line, pair, recording = await cluster.token(), cluster.authority.issue_join(1), Recording()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (tmp_path / "pair.pem").write_text(pair.key_pem + pair.cert_pem)
    context.load_cert_chain(tmp_path / "pair.pem")
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    async def negotiate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Unlike asyncio's own TLS, sends its alert before it goes away."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        while chunk := await reader.read(4096):
            recording.heard += chunk
            incoming.write(chunk)
            with contextlib.suppress(ssl.SSLError):
                tls.do_handshake()
            writer.write(outgoing.read())

    store = IdentityStore(tmp_path / "identity")
    async with listening(negotiate) as address:
        with pytest.raises(EnrollmentError, match=r"does not speak TLS 1\.3") as refused:
            await enroll([address], line, store, patience=IMPATIENT)
    assert not refused.value.retryable
    assert not recording.has_any_of(line)


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_s7_a_plaintext_server_does_not_see_the_token(
    cluster: RunningCluster, tmp_path: Path, greeting: bytes
) -> None:
    line = await cluster.token()
    async with impostor(tmp_path, None, greeting=greeting) as recording:
        store = IdentityStore(tmp_path / "identity")
        with pytest.raises(EnrollmentError, match="does not speak TLS") as refused:
            await enroll([f"http://{recording.address}"], line, store, patience=IMPATIENT)
    assert not refused.value.retryable
    assert recording.heard.startswith(b"\x16\x03")
    assert not recording.has_any_of(line)


async def test_s7_silence_is_no_reason_to_speak(cluster: RunningCluster, tmp_path: Path) -> None:
    line, recording = await cluster.token(), Recording()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(4096):
            recording.heard += chunk

    patience = Patience(total_secs=0.1, attempt_secs=0.2, pause_secs=0.01)
    async with listening(listen) as address:
        with pytest.raises(EnrollmentError, match=r"no answer within 0\.2 s") as failed:
            await enroll([address], line, IdentityStore(tmp_path / "i"), patience=patience)
    assert failed.value.retryable
    assert not recording.has_any_of(line)


async def test_s7_the_recording_would_notice_a_token(
    cluster: RunningCluster, tmp_path: Path
) -> None:
    """With the right certificate the same recorder hears it: its silence above means something."""
    line, pair = await cluster.token(), cluster.authority.issue_join(1)
    async with impostor(tmp_path, (pair.cert_pem, pair.key_pem)) as recording:
        patience = Patience(total_secs=0.1, attempt_secs=1.0, pause_secs=0.01)
        with pytest.raises(EnrollmentError):
            await enroll(
                [recording.address], line, IdentityStore(tmp_path / "i"), patience=patience
            )
    assert recording.has_any_of(line)


async def test_s7_a_splice_in_the_middle_sees_only_tls(
    cluster: RunningCluster, tmp_path: Path
) -> None:
    line, recording = await cluster.token(), Recording()
    host, _, port = cluster.address.partition(":")

    class Ear:
        """A reader that notes what it passes on."""

        def __init__(self, reader: asyncio.StreamReader) -> None:
            self.reader = reader

        async def read(self, count: int) -> bytes:
            chunk = await self.reader.read(count)
            recording.heard += chunk
            return chunk

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(host, port)
        await both_ways(Ear(reader), inner_writer, inner_reader, writer)  # type: ignore[arg-type]  # reads only

    async with listening(pass_on) as address:
        enrolled = await enroll([address], line, IdentityStore(tmp_path / "i"))
    assert enrolled.identity.node_id == 1000
    assert len(recording.heard) > 2000
    assert not recording.has_any_of(line)
    assert join_name(cluster.cluster_id).encode() in recording.heard


async def test_s7_a_good_server_behind_a_bad_one_is_found(
    cluster: RunningCluster, tmp_path: Path
) -> None:
    line = await cluster.token()
    async with impostor(tmp_path, stranger(tmp_path, cluster)) as recording:
        patience = Patience(total_secs=5, pause_secs=0.01, draw=lambda: 0.0)
        enrolled = await enroll(
            [recording.address, cluster.address],
            line,
            IdentityStore(tmp_path / "i"),
            patience=patience,
        )
    assert enrolled.identity.node_id == 1000
    assert recording.connections == 0  # TLS never came about.
    assert not recording.has_any_of(line)


async def test_s7_a_renewal_verifies_the_server_too(
    cluster: RunningCluster, tmp_path: Path
) -> None:
    store = IdentityStore(tmp_path / "i")
    enrolled = await enroll([cluster.address], await cluster.token(), store)
    async with impostor(tmp_path, stranger(tmp_path, cluster)) as recording:
        with pytest.raises(EnrollmentError, match="not signed by this cluster's CA"):
            await renew([recording.address], store, patience=IMPATIENT)
    assert recording.heard == b""
    assert store.load() == enrolled.identity


async def test_s7_the_environment_adds_no_trust_and_leaks_no_keys(
    cluster: RunningCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = stranger(tmp_path, cluster)
    authority = Authority.open(tmp_path / "stranger")
    bundle, keylog = tmp_path / "bundle.pem", tmp_path / "keylog"
    bundle.write_text(authority.ca_pem)
    for name in ("SSL_CERT_FILE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, str(bundle))
    monkeypatch.setenv("SSLKEYLOGFILE", str(keylog))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    trust = Trust(cluster.cluster_id, cluster.authority.ca_pem)
    async with impostor(tmp_path, (certificate, key)) as recording:
        with pytest.raises(WrongServer):
            await check_server(recording.address, trust)
    line = await cluster.token()
    enrolled = await enroll([cluster.address], line, IdentityStore(tmp_path / "i"))
    assert enrolled.identity.node_id == 1000
    assert not keylog.exists()


async def test_t2_a_token_of_another_cluster_or_ca_is_not_used(
    cluster: RunningCluster, tmp_path: Path
) -> None:
    line = await cluster.token()
    token = decode(line)
    (fingerprint,) = token.fingerprints()
    shown = ":".join(fingerprint[at : at + 2] for at in range(0, 64, 2)).upper()
    for good in (fingerprint, f"sha256:{fingerprint}", shown):
        check_expectation(token, Expectation(ca_fingerprints=[good]))
    store = IdentityStore(tmp_path / "i")
    for expect in (
        Expectation(cluster_id="another"),
        Expectation(ca_fingerprints=["00" * 32]),
        Expectation(ca_fingerprints=["", fingerprint[:-1]]),
        Expectation(cluster_id=cluster.cluster_id, ca_fingerprints=["ff" * 32]),
    ):
        with pytest.raises(EnrollmentError) as refused:
            await enroll([cluster.address], line, store, expect=expect)
        assert refused.value.code == "FAILED_PRECONDITION"
    assert cluster.service.counts == {}


def test_t2_one_pinned_ca_does_not_cover_another(tmp_path: Path) -> None:
    ours, evil = (Authority.create(tmp_path / name, "c1") for name in ("ours", "evil"))
    (tmp_path / "ours" / "ca.pem").write_text(ours.ca_pem + evil.ca_pem)
    both = Authority.open(tmp_path / "ours")
    token = decode(both.token_signer.issue(claims()))
    with pytest.raises(EnrollmentError, match="not the expected one"):
        check_expectation(token, Expectation(ca_fingerprints=token.fingerprints()[:1]))
    check_expectation(token, Expectation(ca_fingerprints=token.fingerprints()))
