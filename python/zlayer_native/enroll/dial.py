"""Reaching the Enrollment service, and being sure that it is the cluster's before a secret is said.

Two verifications, one after the other. First a TLS handshake by the `ssl` module, which insists on
TLS 1.3 (grpcio can't) and says what is wrong in words (grpcio does not). Then grpcio's own, on the
connection that carries the call. Both trust the cluster's CA alone and check the fixed name,
whatever address was dialled.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass

import grpc
import grpc.aio

from zlayer_native.config.addresses import parse_server, split
from zlayer_native.enroll.retry import WrongServer
from zlayer_native.errors import EnrollmentError
from zlayer_native.identity.names import join_name

#: An answer holds a certificate and two CA certificates: 2 KiB. Chosen.
_ANSWER_BYTES_MAX = 32 * 1024

#: OpenSSL's X509_V_ERR_… and what they mean here.
_VERIFY_TEXTS = {
    9: "its certificate is not valid yet: is this machine's clock right?",
    10: "its certificate has expired: is this machine's clock right?",
    18: "its certificate is signed by itself, not by this cluster's CA",
    19: "its certificate is not signed by this cluster's CA",
    20: "its certificate is not signed by this cluster's CA",
    21: "its certificate is not signed by this cluster's CA",
    26: "its certificate is not one for servers",
    62: "its certificate is for another name than this cluster's Enrollment service",
}


@dataclass(frozen=True)
class Trust:
    """Whom a machine trusts: the CA that came with its token or its identity."""

    cluster_id: str
    ca_pem: str


def normal_address(server: str) -> str:
    """`host:port` of a configured server.

    Raises:
        EnrollmentError: it is no address.
    """
    try:
        return parse_server(server)
    except ValueError as error:
        raise EnrollmentError(f"{server!r}: {error}", code="INVALID_ARGUMENT") from error


async def check_server(address: str, trust: Trust) -> None:
    """Verifies the server by a handshake of its own. Nothing is sent on that connection.

    Raises:
        WrongServer: what answers is not this cluster's Enrollment service.
        EnrollmentError: nothing answers, or not now.
    """
    host, port = split(address)
    # Not `create_default_context`: that one honours SSLKEYLOGFILE and the system's own CAs.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=trust.ca_pem)
    context.set_alpn_protocols(["h2"])
    name = join_name(trust.cluster_id)
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.create_connection(
            asyncio.Protocol, host, port, ssl=context, server_hostname=name
        )
    except ssl.SSLCertVerificationError as error:
        text = _VERIFY_TEXTS.get(error.verify_code, error.verify_message)
        raise WrongServer(f"{address}: {text}", code="UNAUTHENTICATED") from error
    except (ssl.SSLEOFError, ConnectionResetError, BrokenPipeError) as error:
        text = f"{address}: closed the connection; does it take joins now?"
        raise EnrollmentError(text, code="UNAVAILABLE", retryable=True) from error
    except ssl.SSLError as error:
        raise WrongServer(f"{address}: {_tls_text(error)}", code="UNAUTHENTICATED") from error
    except OSError as error:
        text = f"{address}: can't be reached: {error.strerror or error}"
        raise EnrollmentError(text, code="UNAVAILABLE", retryable=True) from error
    transport.abort()


def _tls_text(error: ssl.SSLError) -> str:
    reason = error.reason or ""
    if "PROTOCOL_VERSION" in reason or "UNSUPPORTED_PROTOCOL" in reason:
        return "does not speak TLS 1.3"
    if "WRONG_VERSION_NUMBER" in reason or "RECORD_LAYER" in reason:
        return "does not speak TLS (plaintext?)"
    if "UNRECOGNIZED_NAME" in reason:
        return "is a server of another cluster"
    return f"TLS failed ({reason.lower().replace('_', ' ') or 'no reason given'})"


def open_channel(address: str, trust: Trust) -> grpc.aio.Channel:
    """A channel that verifies the same CA and the same name as `check_server`."""
    name = join_name(trust.cluster_id)
    credentials = grpc.ssl_channel_credentials(root_certificates=trust.ca_pem.encode())
    options = [
        ("grpc.ssl_target_name_override", name),
        ("grpc.default_authority", name),
        ("grpc.max_receive_message_length", _ANSWER_BYTES_MAX),
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    return grpc.aio.secure_channel(_target(address), credentials, options=options)


def _target(address: str) -> str:
    """Spelled out, so that no host name is taken for a scheme of grpc's."""
    host, port = split(address)
    if ":" in host:
        return f"ipv6:[{host}]:{port}"
    if host.replace(".", "").isdigit():
        return f"ipv4:{host}:{port}"
    return f"dns:///{host}:{port}"
