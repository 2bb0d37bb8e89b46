"""Calls of the Enrollment service that the honest client would not make."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from tests.unit.enroll.cluster import RunningCluster
from zlayer_native._proto.zlayer.cluster.v1 import enrollment_pb2 as pb
from zlayer_native.enroll.dial import Trust, open_channel
from zlayer_native.identity import profiles, proof
from zlayer_native.identity.certificate import parse_pem
from zlayer_native.identity.csr import new_csr
from zlayer_native.identity.keys import load_key, new_key
from zlayer_native.identity.store import Identity

METHODS = "/zlayer.cluster.v1.Enrollment/"


@contextlib.asynccontextmanager
async def channel_to(cluster: RunningCluster) -> AsyncIterator[grpc.aio.Channel]:
    trust = Trust(cluster.cluster_id, cluster.authority.ca_pem)
    async with open_channel(cluster.address, trust) as channel:
        yield channel


class Refusal(Exception):
    """Status, stable reason and text of a refused call."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        metadata = dict(error.trailing_metadata() or ())
        self.code = error.code().name
        self.reason = metadata.get("zlayer-reason")
        self.retry_after_ms = metadata.get("zlayer-retry-after-ms")
        self.text = error.details() or ""
        super().__init__(self.code, self.reason, self.text)


async def raw(cluster: RunningCluster, method: str, content: bytes, **options: Any) -> bytes:
    """Sends bytes as a message; returns the answer's bytes."""
    async with channel_to(cluster) as channel:
        call = channel.unary_unary(METHODS + method)
        try:
            return await call(content, timeout=20, **options)
        except grpc.aio.AioRpcError as error:
            raise Refusal(error) from None


async def register(
    cluster: RunningCluster, token: str, csr: bytes | None = None, **fields: Any
) -> pb.RegisterResponse:
    request = pb.RegisterRequest(
        bootstrap_token=token, csr_der=new_csr(new_key()) if csr is None else csr, **fields
    )
    answer = await raw(cluster, "Register", request.SerializeToString())
    return pb.RegisterResponse.FromString(answer)


async def nonce(cluster: RunningCluster) -> bytes:
    return pb.ChallengeResponse.FromString(await raw(cluster, "Challenge", b"")).nonce


def renewal(
    identity: Identity, given_nonce: bytes, csr: bytes | None = None, **changes: Any
) -> pb.RenewRequest:
    """An honest request, or one where `changes` replaces fields after the signature was made."""
    old = profiles.der(parse_pem(identity.cert_pem.encode(), "")[0])
    csr = new_csr(new_key()) if csr is None else csr
    content = proof.signed_bytes(identity.cluster_id, old, csr, given_nonce)
    signature = proof.sign(load_key(identity.key_pem.encode(), ""), content)
    fields = {
        "old_certificate_der": old,
        "csr_der": csr,
        "nonce": given_nonce,
        "signature": signature,
    }
    return pb.RenewRequest(**{**fields, **changes})


async def renew(cluster: RunningCluster, request: pb.RenewRequest) -> bytes:
    answer = await raw(cluster, "Renew", request.SerializeToString())
    return pb.RenewResponse.FromString(answer).certificate_der
