"""The least HTTP/2 that a hostile client needs: frames with any content over TLS of any version."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

from tests.unit.enroll.cluster import RunningCluster
from zlayer_native.identity.names import join_name

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


def header_block(*fields: tuple[str, str]) -> bytes:
    """HPACK literals without indexing or Huffman."""
    block = b""
    for name, value in fields:
        block += b"\0" + _text(name) + _text(value)
    return block


def _text(text: str) -> bytes:
    content = text.encode()
    if len(content) < 127:
        return bytes([len(content)]) + content
    rest, digits = len(content) - 127, b""
    while rest >= 128:
        digits += bytes([rest % 128 + 128])
        rest //= 128
    return b"\x7f" + digits + bytes([rest]) + content


def request_headers(method: str, *more: tuple[str, str]) -> bytes:
    return header_block(
        (":method", "POST"),
        (":scheme", "https"),
        (":path", f"/zlayer.cluster.v1.Enrollment/{method}"),
        (":authority", "x"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *more,
    )


@contextlib.asynccontextmanager
async def connection(
    cluster: RunningCluster, *, tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """TLS of exactly this version, with the preface and settings sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = tls
    context.load_verify_locations(cadata=cluster.authority.ca_pem)
    context.set_alpn_protocols(["h2"])
    host, _, port = cluster.address.partition(":")
    reader, writer = await asyncio.open_connection(
        host, int(port), ssl=context, server_hostname=join_name(cluster.cluster_id)
    )
    try:
        writer.write(PREFACE + frame(SETTINGS, 0, 0, b""))
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def frames(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, int, int, bytes]]:
    """Kind, flags, stream and payload of each frame until the end."""
    with contextlib.suppress(asyncio.IncompleteReadError, OSError):
        while True:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            yield head[3], head[4], int.from_bytes(head[5:], "big"), payload


async def until_over(reader: asyncio.StreamReader, stream: int = 1) -> bool:
    """Reads until the stream or the connection ends; whether the connection is still there."""
    async for kind, flags, of, _ in frames(reader):
        if kind == GOAWAY:
            continue
        is_end = kind == RST_STREAM or (flags & END_STREAM and kind in (DATA, HEADERS))
        if of == stream and is_end:
            return True
    return False
