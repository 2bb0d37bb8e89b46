"""https: the server's certificate is verified before the secret is sent."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.unit.cli.running import Zlayerd
from tests.unit.cli.scripted import said, scripted

SECRET = "zlat_a-secret-of-this-test"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, signed by itself; its key stands behind it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "api")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "api.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@pytest.fixture
def context(certificate: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate)
    return made


@pytest.fixture
def zlayerd(alone: Zlayerd) -> Zlayerd:
    alone.monkeypatch.setenv("ZLAYER_TOKEN", SECRET)
    alone.secrets = [SECRET]
    return alone


EMPTY = said({"items": [], "revision": 1})


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_a_private_ca_is_named(
    zlayerd: Zlayerd, context: ssl.SSLContext, certificate: Path, how: str
) -> None:
    with scripted([EMPTY], context) as server:
        args: list[object] = ["token", "ls", "--addr", f"https://127.0.0.1:{server.port}"]
        if how == "flag":
            args += ["--ca", certificate]
        else:
            zlayerd.monkeypatch.setenv("ZLAYER_CACERT", str(certificate))
        zlayerd(*args)
    assert f"authorization: bearer {SECRET}" in server.heads[0].lower()


@pytest.mark.parametrize("wrong", ["ca", "name"])
def test_another_server_does_not_see_the_secret(
    zlayerd: Zlayerd, context: ssl.SSLContext, certificate: Path, wrong: str
) -> None:
    with scripted([EMPTY], context) as server:
        host = "localhost" if wrong == "name" else "127.0.0.1"
        args: list[object] = ["token", "ls", "--addr", f"https://{host}:{server.port}"]
        if wrong == "name":
            args += ["--ca", certificate]
        done = zlayerd(*args, code=6)
        assert server.heads == []
        assert "can't connect" in done.err
        assert "hint: name the CA" in done.err
        zlayerd("token", "ls", "--addr", f"https://127.0.0.1:{server.port}", "--ca", certificate)


def test_a_ca_file_that_can_not_be_used(zlayerd: Zlayerd, tmp_path: Path) -> None:
    garbage = tmp_path / "ca.pem"
    garbage.write_text("no certificate")
    for path in (garbage, tmp_path / "gone"):
        done = zlayerd("token", "ls", "--addr", "https://127.0.0.1:1", "--ca", path, code=1)
        assert f"--ca {path}: " in done.err


def test_https_to_a_server_that_speaks_http(zlayerd: Zlayerd) -> None:
    with scripted([]) as server:
        pass
    import socket

    with socket.create_server(("127.0.0.1", server.port)) as listener:
        import threading

        def plain() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=plain)
        thread.start()
        done = zlayerd("token", "ls", "--addr", f"https://127.0.0.1:{server.port}", code=6)
        thread.join()
    assert "hint: does the server speak https" in done.err
