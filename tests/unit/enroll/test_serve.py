"""The service on its socket: who may reach it, what it says of itself, how it ends."""

from __future__ import annotations

import asyncio
import socket as sockets
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.unit.enroll.cluster import IMPATIENT, RunningCluster, running_cluster, splice
from tests.unit.enroll.in_memory_state import InMemoryState
from zlayer_native.enroll.client import enroll
from zlayer_native.enroll.dial import Trust, open_channel
from zlayer_native.enroll.serve import serve
from zlayer_native.enroll.service import SERVICE_NAME, EnrollmentService, LeaseTerms
from zlayer_native.errors import EnrollmentError, IdentityError
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.keypair import KeyPair
from zlayer_native.identity.names import join_name
from zlayer_native.identity.store import IdentityStore


def channel_to(cluster: RunningCluster) -> grpc.aio.Channel:
    return open_channel(cluster.address, Trust(cluster.cluster_id, cluster.authority.ca_pem))


def service_of(authority: Authority) -> EnrollmentService:
    return EnrollmentService(authority, InMemoryState(lambda: 0), lambda: LeaseTerms(10, 10))


async def test_only_this_user_reaches_the_socket(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        assert stat.S_IMODE(cluster.socket.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(cluster.socket.stat().st_mode) == 0o600
        assert stat.S_ISSOCK(cluster.socket.stat().st_mode)


async def test_it_says_that_it_is_healthy(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster, channel_to(cluster) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", SERVICE_NAME):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_it_describes_itself(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster, channel_to(cluster) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        requests = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE_NAME),
        ]
        answers = [answer async for answer in stub.ServerReflectionInfo(iter(requests))]
    names = {service.name for service in answers[0].list_services_response.service}
    assert SERVICE_NAME in names
    assert b"RegisterRequest" in answers[1].file_descriptor_response.file_descriptor_proto[0]


async def test_the_socket_of_a_killed_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run" / "j"
    path.parent.mkdir(mode=0o700)
    left = sockets.socket(sockets.AF_UNIX)
    left.bind(str(path))
    left.close()
    authority = Authority.create(tmp_path / "cluster")
    pair = authority.issue_join(1)
    server = await serve(path, service_of(authority), lambda: pair)
    reader, writer = await asyncio.open_unix_connection(path)
    writer.close()
    assert reader
    await server.stop()
    assert not path.exists()


async def test_what_stands_in_its_place_is_not_removed(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "cluster")
    service, path = service_of(authority), tmp_path / "run" / "j"
    path.parent.mkdir(mode=0o700)
    path.write_text("precious")
    pair = authority.issue_join(1)
    with pytest.raises(EnrollmentError, match="is there and is not a socket"):
        await serve(path, service, lambda: pair)
    assert path.read_text() == "precious"
    path.parent.chmod(0o755)
    with pytest.raises(IdentityError, match="lets others in"):
        await serve(path, service, lambda: pair)
    with pytest.raises(EnrollmentError, match="too long for a Unix socket"):
        await serve(tmp_path / ("x" * 100) / "j", service, lambda: pair)


async def test_a_renewed_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "cluster")
    pairs = [authority.issue_join(1)]
    path = tmp_path / "run" / "j"
    server = await serve(path, service_of(authority), lambda: pairs[-1])
    try:
        first = await served_certificate(path, authority)
        assert await served_certificate(path, authority) == first
        pairs.append(authority.issue_join(1))
        second = await served_certificate(path, authority)
        assert second == x509.load_pem_x509_certificate(pairs[1].cert_pem.encode())
        assert second != first
    finally:
        await server.stop()


async def test_a_certificate_that_can_not_be_renewed_is_used_on(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "cluster")
    pair, broken = authority.issue_join(1), False

    def certificate() -> KeyPair:
        if broken:
            raise IdentityError("the disk is full")
        return pair

    path = tmp_path / "run" / "j"
    server = await serve(path, service_of(authority), certificate)
    try:
        broken = True
        assert await served_certificate(path, authority)
    finally:
        await server.stop()


async def served_certificate(path: Path, authority: Authority) -> x509.Certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.ca_pem)
    context.set_alpn_protocols(["h2"])
    name = join_name(authority.cluster_id)
    _, writer = await asyncio.open_unix_connection(path, ssl=context, server_hostname=name)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(der)


async def test_stopping_lets_a_call_in_flight_finish(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        line = await cluster.token()
        cluster.state.gate = asyncio.Event()
        pair = cluster.authority.issue_join(1)
        path = tmp_path / "run" / "second"
        server = await serve(path, cluster.service, lambda: pair)
        async with splice(path) as address:
            store = IdentityStore(tmp_path / "i")
            joining = asyncio.create_task(enroll([address], line, store))
            await cluster.state.wait_proposed(1)
            stopping = asyncio.create_task(server.stop(5.0))
            await asyncio.sleep(0)
            cluster.state.gate.set()
            assert (await joining).identity.node_id == 1000
            await stopping
        assert not path.exists()


async def test_a_machine_waits_for_a_server_that_is_not_up_yet(tmp_path: Path) -> None:
    """The worker port is there before the Enrollment service is: nobody gives up over that."""
    path = tmp_path / "run" / "j"
    authority = Authority.create(tmp_path / "cluster")
    state = InMemoryState(lambda: int(datetime.now(UTC).timestamp() * 1000))
    service = EnrollmentService(authority, state, lambda: LeaseTerms(10, 10))
    cluster = RunningCluster(authority, state, service, Clock(), path)
    pair = authority.issue_join(1)
    async with splice(path) as address:
        line = await cluster.token()
        with pytest.raises(EnrollmentError, match="closed the connection") as failed:
            await enroll([address], line, IdentityStore(tmp_path / "i"), patience=IMPATIENT)
        assert failed.value.retryable
        server = await serve(path, service, lambda: pair)
        enrolled = await enroll([address], line, IdentityStore(tmp_path / "i"))
        assert enrolled.identity.not_after > datetime.now(UTC) + timedelta(hours=23)
        await server.stop()


class Clock:
    def now(self) -> float:
        return datetime.now(UTC).timestamp()
