"""A plain grpcio server for the same heartbeats: asyncio, mTLS, no lease logic at all.

Usage: grpcio_server.py CERT KEY CA
Prints the port once it listens; ends when its standard input closes.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from zlayer_native._proto.zlayer.cluster.v1 import control_plane_pb2 as pb


async def report_status(
    requests: AsyncIterator[pb.StatusReport], _context: object
) -> AsyncIterator[pb.StatusAck]:
    """Answers each report, which is the least that a server could do with it."""
    async for report in requests:
        yield pb.StatusAck(seq=report.seq, ttl_ms=10_000, grace_ms=10_000)


async def main(cert: bytes, key: bytes, ca: bytes) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "zlayer.cluster.v1.ControlPlane",
                {
                    "ReportStatus": grpc.stream_stream_rpc_method_handler(
                        report_status,
                        request_deserializer=pb.StatusReport.FromString,
                        response_serializer=pb.StatusAck.SerializeToString,
                    )
                },
            ),
        )
    )
    credentials = grpc.ssl_server_credentials(
        [(key, cert)], root_certificates=ca, require_client_auth=True
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(*(Path(path).read_bytes() for path in sys.argv[1:4])))
