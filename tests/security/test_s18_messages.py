"""S18: messages that are too long, compressed, malformed or lie. Also T23 to T25."""

from __future__ import annotations

import asyncio
import gzip
import ssl

import grpc
import grpc.aio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.security.calls import METHODS, Refusal, channel_to, nonce, raw, register
from tests.security.http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    connection,
    frame,
    request_headers,
    until_over,
)
from tests.unit.enroll.cluster import RunningCluster
from zlayer_native._proto.zlayer.cluster.v1 import enrollment_pb2 as pb
from zlayer_native.enroll.service import MESSAGE_BYTES_MAX, _parse
from zlayer_native.errors import InvalidRequest
from zlayer_native.identity.csr import new_csr
from zlayer_native.identity.keys import new_key


@pytest.mark.parametrize("length", [MESSAGE_BYTES_MAX + 1, 4 * 2**20])
@pytest.mark.parametrize("method", ["Register", "Challenge", "Renew"])
async def test_s18_a_long_message_is_refused(
    cluster: RunningCluster, method: str, length: int
) -> None:
    with pytest.raises(Refusal) as refused:
        await raw(cluster, method, bytes(length))
    assert refused.value.code == "RESOURCE_EXHAUSTED"
    assert cluster.service.counts == {}


async def test_s18_the_longest_message_still_arrives(cluster: RunningCluster) -> None:
    request = pb.RegisterRequest(bootstrap_token="A" * (MESSAGE_BYTES_MAX - 3)).SerializeToString()
    assert len(request) == MESSAGE_BYTES_MAX
    with pytest.raises(Refusal) as refused:
        await raw(cluster, "Register", request)
    assert refused.value.reason == "token_invalid"


async def test_s18_a_compressed_message_is_refused(cluster: RunningCluster) -> None:
    request = pb.RegisterRequest(bootstrap_token="A" * 4000).SerializeToString()
    async with channel_to(cluster) as channel:
        call = channel.unary_unary(METHODS + "Register")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(request, compression=grpc.Compression.Gzip, timeout=10)
    assert refused.value.code() in (
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    )
    assert cluster.service.counts == {}


@pytest.mark.parametrize(
    "prefix",
    [
        b"\x00\x7f\xff\xff\xff",
        b"\x00\xff\xff\xff\xff",
        b"\x00\x00\x00\x40\x01",
        b"\x01\x00\x00\x00\x10",
        b"\x02\x00\x00\x00\x10",
    ],
    ids=["2_gib", "4_gib", "one_byte_over", "compressed", "unknown_flag"],
)
async def test_s18_a_length_prefix_that_lies_is_refused(
    cluster: RunningCluster, prefix: bytes
) -> None:
    async with connection(cluster) as (reader, writer):
        writer.write(frame(HEADERS, END_HEADERS, 1, request_headers("Register")))
        # Those that promise more are refused at once, without waiting for it.
        promises_more = int.from_bytes(prefix[1:], "big") > 16
        flags = 0 if promises_more else END_STREAM
        writer.write(frame(DATA, flags, 1, prefix + bytes(16)))
        await asyncio.wait_for(until_over(reader), 10)
    assert cluster.service.counts["register"] == 0
    assert cluster.state.proposed == []
    assert await nonce(cluster)


async def test_s18_a_compression_bomb_is_not_unpacked(cluster: RunningCluster) -> None:
    bomb = gzip.compress(bytes(8 * 2**20))
    assert len(bomb) < MESSAGE_BYTES_MAX
    message = b"\x01" + len(bomb).to_bytes(4, "big") + bomb
    async with connection(cluster) as (reader, writer):
        headers = request_headers("Register", ("grpc-encoding", "gzip"))
        writer.write(frame(HEADERS, END_HEADERS, 1, headers))
        writer.write(frame(DATA, END_STREAM, 1, message))
        await asyncio.wait_for(until_over(reader), 10)
    assert cluster.service.counts == {}
    assert await nonce(cluster)


MALFORMED = {
    "wrong_wire_type": b"\x08\x01\x12\x00",
    "cut_short": b"\x0a\x7fabc",
    "bad_utf8": b"\x0a\x02\xff\xfe",
    "field_number_0": b"\x02\x00",
    "endless_varint": b"\x08" + b"\xff" * 20,
    "group_never_ended": b"\x0b" * 200,
    "nested_groups": b"\xa3\x06" * 4000,
    "wire_type_7": b"\x0f",
    "text": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("method", ["Register", "Renew"])
async def test_s18_malformed_messages_are_invalid_arguments(
    cluster: RunningCluster, method: str, name: str
) -> None:
    with pytest.raises(Refusal) as refused:
        await raw(cluster, method, MALFORMED[name])
    assert refused.value.code in ("INVALID_ARGUMENT", "UNAUTHENTICATED")
    assert refused.value.reason in ("malformed", "token_invalid", "proof_refused")
    assert cluster.state.proposed == []


async def test_s18_unknown_fields_change_nothing(cluster: RunningCluster) -> None:
    request = pb.RegisterRequest(
        bootstrap_token=await cluster.token(), csr_der=new_csr(new_key())
    ).SerializeToString()
    unknown = b"\xfa\x01\x04evil" + b"\xf8\x01\x07"
    answer = pb.RegisterResponse.FromString(await raw(cluster, "Register", unknown + request))
    assert answer.node_id == 1000


@settings(max_examples=2000, deadline=None)
@given(content=st.binary(max_size=300))
def test_s18_no_bytes_are_a_request(content: bytes) -> None:
    for kind in (pb.RegisterRequest, pb.RenewRequest, pb.ChallengeRequest):
        try:
            parsed: object = _parse(kind, content)
        except InvalidRequest as error:
            parsed = error
        # Nothing else is raised, and what the parser said of the bytes is not passed on.
        assert isinstance(parsed, kind) or str(parsed) == "the message can't be read"


async def test_s18_long_headers_are_refused(cluster: RunningCluster) -> None:
    async with channel_to(cluster) as channel:
        call = channel.unary_unary(METHODS + "Challenge")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(b"", metadata=(("x-long", "a" * 20_000),), timeout=10)
    assert refused.value.code() is not grpc.StatusCode.OK
    assert cluster.service.counts == {}
    assert await nonce(cluster)


async def test_s18_other_methods_are_unimplemented(cluster: RunningCluster) -> None:
    async with channel_to(cluster) as channel:
        for path in (
            METHODS + "register",
            METHODS + "Nothing",
            "/zlayer.cluster.v1.ControlPlane/ReportStatus",
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await channel.unary_unary(path)(b"", timeout=10)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_t23_a_tls_1_2_caller_is_refused_and_counted(cluster: RunningCluster) -> None:
    line = await cluster.token()
    request = pb.RegisterRequest(bootstrap_token=line, csr_der=new_csr(new_key()))
    content = request.SerializeToString()
    message = b"\0" + len(content).to_bytes(4, "big") + content
    for version, reason in (
        (ssl.TLSVersion.TLSv1_2, "tls_version"),
        (ssl.TLSVersion.TLSv1_3, "register"),
    ):
        async with connection(cluster, tls=version) as (reader, writer):
            writer.write(frame(HEADERS, END_HEADERS, 1, request_headers("Register")))
            writer.write(frame(DATA, END_STREAM, 1, message))
            await asyncio.wait_for(until_over(reader), 10)
        assert cluster.service.counts[reason] == 1
    assert cluster.service.counts["register"] == 1


async def test_t25_streams_of_one_connection_are_few(cluster: RunningCluster) -> None:
    cluster.state.gate = asyncio.Event()
    line = await _gated_token(cluster)
    async with channel_to(cluster) as channel:
        calls = [
            channel.unary_unary(METHODS + "Register")(
                pb.RegisterRequest(
                    bootstrap_token=line, csr_der=new_csr(new_key())
                ).SerializeToString()
            )
            for _ in range(6)
        ]
        await cluster.state.wait_proposed(2)
        assert await nonce(cluster)  # Another connection is served meanwhile.
        assert len(cluster.state.proposed) == 2
        cluster.state.gate.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
    # Those above the limit waited, or were told to come back.
    refused = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert {error.code() for error in refused} <= {grpc.StatusCode.UNAVAILABLE}
    assert len(cluster.state.nodes) == len(answers) - len(refused) >= 2


async def _gated_token(cluster: RunningCluster) -> str:
    gate, cluster.state.gate = cluster.state.gate, None
    line = await cluster.token(uses=10)
    cluster.state.gate = gate
    return line


async def test_the_good_request_passes_all_of_this(cluster: RunningCluster) -> None:
    labels = {f"k{n}": "v" * 63 for n in range(20)}
    line = await cluster.token(labels_allowed=list(labels))
    assert (await register(cluster, line, labels=labels)).node_id == 1000
