"""The machine's side: redeem a token, renew a certificate. The private key never leaves it.

The key is on disk before the request is sent, so that a machine that crashed after the cluster had
counted its token comes back with the same key, and gets the same node id for no further use.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol, TypeAlias, TypeVar

import grpc
import grpc.aio
from cryptography.hazmat.primitives.asymmetric import ec

from zlayer_native._proto.zlayer.cluster.v1 import enrollment_pb2 as pb
from zlayer_native._proto.zlayer.cluster.v1 import enrollment_pb2_grpc as rpc
from zlayer_native.enroll.dial import Trust, check_server, normal_address, open_channel
from zlayer_native.enroll.failures import failure
from zlayer_native.enroll.retry import Patience, over_servers
from zlayer_native.errors import EnrollmentError, IdentityError
from zlayer_native.identity import profiles, proof
from zlayer_native.identity.certificate import check_cas, check_worker, parse_pem
from zlayer_native.identity.csr import new_csr
from zlayer_native.identity.keys import key_pem, load_key
from zlayer_native.identity.store import Identity, IdentityStore
from zlayer_native.identity.token import UnverifiedToken, decode

_Result = TypeVar("_Result")
Stub: TypeAlias = "rpc.EnrollmentAsyncStub"  # Exists for the type checker only.


class KeyHolder(Protocol):
    """Keeps the key of a request on disk until it is answered; see `IdentityStore`."""

    def has_pending_key(self) -> bool:
        """Whether an earlier request left its key."""

    def pending_key(self) -> ec.EllipticCurvePrivateKey:
        """The key: on disk before anybody sees its public half."""

    def discard_pending_key(self) -> None:
        """Makes the next one a new one."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What this machine says of itself, and the labels that it asks for. 0 and "" mean unknown."""

    name: str = ""
    os: str = ""
    arch: str = ""
    version: str = ""
    cpu_cores: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What the operator knows of the cluster from elsewhere; a token that differs is not used.

    Attributes:
        cluster_id: the cluster's id.
        ca_fingerprints: SHA-256 of CA certificates in hex; colons and a prefix `sha256:` are fine.
            Each CA of the token must be among them.
    """

    cluster_id: str | None = None
    ca_fingerprints: Sequence[str] = ()


@dataclass(frozen=True)
class Enrolled:
    """A new member: its identity is saved already. Times in seconds."""

    identity: Identity
    labels: Mapping[str, str]
    heartbeat_ttl_secs: int
    heartbeat_grace_secs: int


async def enroll(
    servers: Sequence[str],
    token_line: str,
    store: IdentityStore,
    machine: Machine | None = None,
    *,
    expect: Expectation | None = None,
    patience: Patience | None = None,
) -> Enrolled:
    """Redeems a token and saves the identity.

    Args:
        servers: `host:port` each; tried in turn.
        token_line: as `zlayerd token create` printed it.
        store: where the identity is kept.
        machine: what this machine says of itself.
        expect: what is known of the cluster.
        patience: how long to try.

    Raises:
        TokenInvalid: the line is no whole token; nothing was sent.
        IdentityError: the identity folder can't be used, or is another cluster's.
        EnrollmentError: no server let this machine in; `retryable` says whether to try again.
    """
    token = decode(token_line)
    check_expectation(token, expect or Expectation())
    trust = Trust(token.claims.cluster_id, "".join(profiles.pem(ca).decode() for ca in token.cas))
    store.load(cluster_id=trust.cluster_id)
    machine = machine or Machine()

    async def register(stub: Stub, key: ec.EllipticCurvePrivateKey) -> Enrolled:
        request = _register_request(token_line, key, machine)
        response = await stub.Register(request)
        identity = _identity(response.certificate_der, response.ca_der, key, trust)
        if (response.node_id, response.cluster_id) != (identity.node_id, identity.cluster_id):
            raise EnrollmentError("the answer and its certificate name different nodes")
        return Enrolled(
            identity,
            dict(response.labels),
            response.heartbeat_ttl_secs,
            response.heartbeat_grace_secs,
        )

    try:
        enrolled = await call_with_key(servers, trust, store, patience or Patience(), register)
    except EnrollmentError as error:
        if error.code == "UNAUTHENTICATED" and token.claims.expires_s <= time.time():
            ended = datetime.fromtimestamp(token.claims.expires_s, UTC)
            error.add_note(f"By this machine's clock the token expired at {ended:%F %T} UTC.")
        raise
    store.save(enrolled.identity)
    return enrolled


async def renew(
    servers: Sequence[str], store: IdentityStore, *, patience: Patience | None = None
) -> Identity:
    """Replaces the certificate in the store by a new one with a new key.

    Raises:
        IdentityError: there is no identity, or its folder can't be used.
        ProofRefused: the cluster does not take this certificate any more.
        EnrollmentError: no server renewed it; `retryable` says whether to try again. The old
            identity is still in the store.
    """
    old = store.load()
    if old is None:
        raise IdentityError(f"{store.folder}: there is no identity to renew")
    trust = Trust(old.cluster_id, old.ca_pem)

    async def replace(stub: Stub, key: ec.EllipticCurvePrivateKey) -> Identity:
        challenge = await stub.Challenge(pb.ChallengeRequest())
        response = await stub.Renew(_renew_request(old, key, challenge.nonce))
        identity = _identity(response.certificate_der, response.ca_der, key, trust)
        if identity.node_id != old.node_id:
            raise EnrollmentError("the new certificate is another node's")
        return identity

    identity = await call_with_key(servers, trust, store, patience or Patience(), replace)
    store.save(identity)
    return identity


async def call_with_key(
    servers: Sequence[str],
    trust: Trust,
    keys: KeyHolder,
    patience: Patience,
    work: Callable[[Stub, ec.EllipticCurvePrivateKey], Awaitable[_Result]],
) -> _Result:
    """Runs `work` with the pending key on one server after another.

    A key that is left of an earlier try may belong to another node by now; then a new one is made,
    once.
    """
    if not servers:
        raise EnrollmentError("there is no server to ask", code="INVALID_ARGUMENT")
    addresses = [normal_address(server) for server in servers]
    is_left_over = keys.has_pending_key()

    async def attempt(address: str) -> _Result:
        await check_server(address, trust)
        key = keys.pending_key()
        try:
            async with open_channel(address, trust) as channel:
                return await work(rpc.EnrollmentStub(channel), key)
        except grpc.aio.AioRpcError as error:
            raise failure(error, address) from None

    try:
        return await over_servers(addresses, patience, attempt)
    except EnrollmentError as error:
        if not is_left_over or getattr(error, "reason", "") != "key_in_use":
            raise
    keys.discard_pending_key()
    return await over_servers(addresses, patience, attempt)


def check_expectation(token: UnverifiedToken, expect: Expectation) -> None:
    """Compares a token with what is known of its cluster.

    Raises:
        EnrollmentError: it is for another cluster, or carries another CA.
    """
    claims = token.claims
    if expect.cluster_id is not None and expect.cluster_id != claims.cluster_id:
        raise EnrollmentError(
            f"the token is for cluster {claims.cluster_id}, not {expect.cluster_id}",
            code="FAILED_PRECONDITION",
        )
    if not expect.ca_fingerprints:
        return
    wanted = [_bare_fingerprint(text) for text in expect.ca_fingerprints]
    for found in token.fingerprints():
        if not any(hmac.compare_digest(found, one) for one in wanted):
            raise EnrollmentError(
                f"the token's CA has the fingerprint sha256:{found}, which is not the expected one",
                code="FAILED_PRECONDITION",
            )


def _bare_fingerprint(text: str) -> str:
    return text.strip().lower().removeprefix("sha256:").replace(":", "")


def _register_request(
    token_line: str, key: ec.EllipticCurvePrivateKey, machine: Machine
) -> pb.RegisterRequest:
    return pb.RegisterRequest(
        bootstrap_token=token_line,
        csr_der=new_csr(key),
        profile=pb.NodeProfile(
            name=machine.name,
            os=machine.os,
            arch=machine.arch,
            version=machine.version,
            cpu_cores=machine.cpu_cores,
            memory_bytes=machine.memory_bytes,
            disk_bytes=machine.disk_bytes,
        ),
        labels=dict(machine.labels),
    )


def _renew_request(old: Identity, key: ec.EllipticCurvePrivateKey, nonce: bytes) -> pb.RenewRequest:
    old_certificate = profiles.der(parse_pem(old.cert_pem.encode(), "cert.pem")[0])
    old_key = load_key(old.key_pem.encode(), "key.pem")
    csr = new_csr(key)
    content = proof.signed_bytes(old.cluster_id, old_certificate, csr, nonce)
    return pb.RenewRequest(
        old_certificate_der=old_certificate,
        csr_der=csr,
        nonce=nonce,
        signature=proof.sign(old_key, content),
    )


def _identity(
    certificate: bytes, ca_ders: Sequence[bytes], key: ec.EllipticCurvePrivateKey, trust: Trust
) -> Identity:
    """The identity in an answer, checked as if nobody had verified the server.

    Raises:
        EnrollmentError: it is not what was asked for, or this machine's clock is wrong.
    """
    try:
        cas = check_cas(list(ca_ders), "the answer")
        worker = check_worker(certificate, cas, trust.cluster_id)
        leaf = profiles.pem_of_der(certificate)
        bundle = "".join(profiles.pem(ca).decode() for ca in cas)
        identity = Identity.of(leaf, key_pem(key).decode(), bundle, "the answer")
    except IdentityError as error:
        raise EnrollmentError(f"the server's answer can't be used: {error}") from error
    now = datetime.now(UTC)
    if not worker.not_before <= now < worker.not_after:
        raise EnrollmentError(
            f"the new certificate is valid from {worker.not_before:%F %T} to"
            f" {worker.not_after:%F %T} UTC, and this machine's clock says {now:%F %T}",
            code="FAILED_PRECONDITION",
        )
    return identity
