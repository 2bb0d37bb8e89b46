"""grpcio takes our leaves for what they are, and for nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from zlayer_native.identity import profiles
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.keypair import KeyPair
from zlayer_native.identity.keys import new_key
from zlayer_native.identity.names import join_name, server_name


@contextlib.asynccontextmanager
async def mutual(authority: Authority, pair: KeyPair) -> AsyncIterator[tuple[str, list[Any]]]:
    """A grpcio server that demands client certificates and notes who called."""
    callers: list[Any] = []

    async def who(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        callers.append(context.peer_identities())
        return b"ok"

    handler = grpc.method_handlers_generic_handler(
        "t.T", {"Who": grpc.unary_unary_rpc_method_handler(who)}
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    credentials = grpc.ssl_server_credentials(
        [(pair.key_pem.encode(), pair.cert_pem.encode())],
        root_certificates=authority.ca_pem.encode(),
        require_client_auth=True,
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield f"127.0.0.1:{port}", callers
    finally:
        await server.stop(None)


async def call(address: str, authority: Authority, name: str, pair: KeyPair | None) -> bytes:
    credentials = grpc.ssl_channel_credentials(
        authority.ca_pem.encode(),
        pair.key_pem.encode() if pair else None,
        pair.cert_pem.encode() if pair else None,
    )
    options = [("grpc.ssl_target_name_override", name)]
    async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
        answer: bytes = await channel.unary_unary("/t.T/Who")(b"", timeout=5)
    return answer


def worker_pair(authority: Authority) -> KeyPair:
    key = new_key()
    leaf = authority.sign_worker(
        1000,
        key.public_key(),
        serial=profiles.new_serial(),
        not_after=authority.worker_not_after(),
    )
    return KeyPair.of(key, leaf)


async def test_a_worker_is_known_by_its_uri(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "c", "c1")
    async with mutual(authority, authority.issue_server(1)) as (address, callers):
        worker = worker_pair(authority)
        assert await call(address, authority, server_name("c1"), worker) == b"ok"
        assert callers == [[b"spiffe://c1/worker/1000"]]
        peer = authority.issue_server(2)
        assert await call(address, authority, server_name("c1"), peer) == b"ok"
        assert b"spiffe://c1/server/2" in callers[1]


async def test_leaves_do_not_pass_for_each_other(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "c", "c1")
    stranger = Authority.create(tmp_path / "s", "c1")
    async with mutual(authority, authority.issue_server(1)) as (address, callers):
        for pair in (None, authority.issue_join(1), worker_pair(stranger)):
            with pytest.raises(grpc.aio.AioRpcError):
                await call(address, authority, server_name("c1"), pair)
        with pytest.raises(grpc.aio.AioRpcError):
            await call(address, authority, join_name("c1"), worker_pair(authority))
    for impostor in (worker_pair(authority), authority.issue_join(1)):
        async with mutual(authority, impostor) as (address, more):
            with pytest.raises(grpc.aio.AioRpcError):
                await call(address, authority, server_name("c1"), worker_pair(authority))
            callers += more
    assert callers == []
