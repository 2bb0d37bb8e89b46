"""The Enrollment service: bytes in, an answer out, and nothing else escapes.

Every call goes through one guard: TLS version, concurrency, rate, parsing, then the work; whatever
is raised becomes one of the fixed answers. Nothing of a request is logged but what `plain` made
harmless.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from zlayer_native._proto.zlayer.cluster.v1 import enrollment_pb2 as pb
from zlayer_native.enroll.admission import Admission, Joining
from zlayer_native.enroll.answers import Answer, Busy, answer_for, plain
from zlayer_native.enroll.limits import Bucket
from zlayer_native.enroll.open_tokens import OpenTokens
from zlayer_native.enroll.records import Proposer
from zlayer_native.enroll.renewal import Renewal, Renewing
from zlayer_native.enroll.server_admission import JoiningServer, ServerAdmission
from zlayer_native.errors import InvalidRequest
from zlayer_native.identity import profiles, proof
from zlayer_native.identity.authority import Authority

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["Enrollment"].full_name

#: A Register with the longest token and 32 long labels fits. From the threat list.
MESSAGE_BYTES_MAX = 16 * 1024

#: Refusals logged each second; the counters have them all.
_LOG_PER_SECOND, _LOG_BURST = 10, 50

_log = structlog.get_logger("zlayer.enroll")
_Request = TypeVar("_Request", bound=Message)
_Response = TypeVar("_Response", bound=Message)


@dataclass(frozen=True, kw_only=True)
class EnrollmentPolicy:
    """What the service grants and how much it takes on.

    Attributes:
        certificate_life: of a worker's certificate.
        renewal_grace: how long after its end a certificate can still be renewed.
        requests_per_second: of all callers together, also the burst.
        in_flight_max: calls at once; the worker port passes no more connections than that.
    """

    certificate_life: timedelta = profiles.WORKER_LIFE
    renewal_grace: timedelta = timedelta(days=7)
    requests_per_second: int = 500
    in_flight_max: int = 64


@dataclass(frozen=True)
class LeaseTerms:
    """The lease that a new worker starts with, in seconds."""

    ttl_secs: int
    grace_secs: int


class Context(Protocol):
    """What is used of grpc.aio's context."""

    def auth_context(self) -> Any:
        """Properties of the transport."""

    async def abort(self, code: grpc.StatusCode, details: str, metadata: Any) -> Any:
        """Ends the call; always raises."""


class EnrollmentService:
    """Register, JoinServer, Challenge and Renew."""

    def __init__(
        self,
        authority: Authority,
        proposer: Proposer,
        lease_terms: Callable[[], LeaseTerms],
        policy: EnrollmentPolicy | None = None,
        *,
        raft_addresses: Callable[[], Sequence[str]] = tuple,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        policy = policy or EnrollmentPolicy()
        self._authority = authority
        self._lease_terms = lease_terms
        self._monotonic = monotonic
        self._in_flight = 0
        self._in_flight_max = policy.in_flight_max
        self._rate = Bucket(policy.requests_per_second, policy.requests_per_second)
        self._log_rate = Bucket(_LOG_PER_SECOND, _LOG_BURST)
        life = policy.certificate_life
        tokens = OpenTokens(authority, proposer, now=now, monotonic=monotonic)
        self._admission = Admission(authority, proposer, tokens, life=life)
        self._servers = ServerAdmission(authority, proposer, tokens, raft_addresses)
        self._renewal = Renewal(
            authority,
            proposer,
            life=life,
            grace=policy.renewal_grace,
            now=now,
            monotonic=monotonic,
        )
        #: Calls by how they ended: their name in lower case, or the reason of the refusal.
        self.counts: Counter[str] = Counter()

    def handlers(self) -> grpc.GenericRpcHandler:
        """The methods for a grpc.aio server. They take raw bytes: parsing is part of the guard."""
        methods = {
            "Register": self._handler(pb.RegisterRequest, self._register),
            "JoinServer": self._handler(pb.JoinServerRequest, self._join_server),
            "Challenge": self._handler(pb.ChallengeRequest, self._challenge),
            "Renew": self._handler(pb.RenewRequest, self._renew),
        }
        return grpc.method_handlers_generic_handler(SERVICE_NAME, methods)

    def _handler(
        self, kind: type[_Request], work: Callable[[_Request], Awaitable[_Response]]
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        async def handle(content: bytes, context: Context) -> bytes:
            try:
                response = await self._guarded(kind, work, content, context)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                answer = answer_for(error)
                self._note(answer, error)
                await context.abort(answer.code, answer.text, answer.metadata())
                raise  # Not reached: abort raises.
            self.counts[kind.DESCRIPTOR.name.removesuffix("Request").lower()] += 1
            return response.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(handle)

    async def _guarded(
        self,
        kind: type[_Request],
        work: Callable[[_Request], Awaitable[_Response]],
        content: bytes,
        context: Context,
    ) -> _Response:
        _check_tls(context)
        if self._in_flight >= self._in_flight_max:
            raise Busy("too many machines are joining at once")
        wait_s = self._rate.take(self._monotonic())
        if wait_s:
            raise Busy("too many machines are joining", retry_after_s=wait_s)
        self._in_flight += 1
        try:
            return await work(_parse(kind, content))
        finally:
            self._in_flight -= 1

    async def _register(self, request: pb.RegisterRequest) -> pb.RegisterResponse:
        profile = request.profile
        joined = await self._admission.admit(
            Joining(
                token=request.bootstrap_token,
                csr=request.csr_der,
                name=profile.name,
                labels=dict(request.labels),
                profile={
                    "os": profile.os,
                    "arch": profile.arch,
                    "version": profile.version,
                    "cpu_cores": profile.cpu_cores,
                    "memory_bytes": profile.memory_bytes,
                    "disk_bytes": profile.disk_bytes,
                },
            )
        )
        _log.info("a machine enrolled", node_id=joined.node_id, token=joined.token_jti)
        terms = self._lease_terms()
        return pb.RegisterResponse(
            node_id=joined.node_id,
            certificate_der=joined.certificate,
            ca_der=self._authority.ca_der_list,
            cluster_id=self._authority.cluster_id,
            labels=dict(joined.labels),
            heartbeat_ttl_secs=terms.ttl_secs,
            heartbeat_grace_secs=terms.grace_secs,
        )

    async def _join_server(self, request: pb.JoinServerRequest) -> pb.JoinServerResponse:
        joined = await self._servers.admit(
            JoiningServer(
                token=request.bootstrap_token,
                csr=request.csr_der,
                name=request.name,
                node_id=request.node_id,
                raft_addr=request.raft_addr,
                api_addr=request.api_addr,
            )
        )
        _log.info("a server enrolled", node_id=joined.node_id, token=joined.token_jti)
        return pb.JoinServerResponse(
            node_id=joined.node_id,
            certificate_der=joined.certificate,
            ca_der=self._authority.ca_der_list,
            cluster_id=self._authority.cluster_id,
            sealed_authority=joined.sealed_authority,
        )

    async def _challenge(self, _: pb.ChallengeRequest) -> pb.ChallengeResponse:
        nonce = self._renewal.nonces.new()
        return pb.ChallengeResponse(nonce=nonce, valid_secs=proof.NONCE_SECS)

    async def _renew(self, request: pb.RenewRequest) -> pb.RenewResponse:
        certificate = await self._renewal.renew(
            Renewing(
                old_certificate=request.old_certificate_der,
                csr=request.csr_der,
                nonce=request.nonce,
                signature=request.signature,
            )
        )
        return pb.RenewResponse(certificate_der=certificate, ca_der=self._authority.ca_der_list)

    def _note(self, answer: Answer, error: Exception) -> None:
        self.counts[answer.reason] += 1
        if answer.reason == "internal":
            _log.error("an enrolment call failed", exc_info=error)
        elif answer.reason == "cannot_sign":
            _log.error("nothing can be signed", why=str(error))
        elif not self._log_rate.take(self._monotonic()):
            why = plain(str(error.__cause__ or error))
            _log.info("an enrolment call was refused", reason=answer.reason, why=why)


def _check_tls(context: Context) -> None:
    """A grpcio server can't be told to refuse TLS 1.2, so every call is asked."""
    versions = context.auth_context().get("ssl_tls_version")
    if not versions or versions[0] != b"TLSv1.3":
        raise InvalidRequest("TLS 1.3 is required", code="tls_version")


def _parse(kind: type[_Request], content: bytes) -> _Request:
    try:
        return kind.FromString(content)
    except (DecodeError, RecursionError):
        # The parser's text may quote the message, and with it a token.
        raise InvalidRequest("the message can't be read", code="malformed") from None
