"""A new server's side: redeem a token for servers, open what is sealed for it, write it down.

As with a worker the key is on disk before anything is sent, so that a machine that crashed on the
way comes back with the same key and gets the same id. `server.json` is written last: where it is,
all of it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from zlayer_native._proto.zlayer.cluster.v1 import enrollment_pb2 as pb
from zlayer_native.enroll.client import Expectation, Stub, call_with_key, check_expectation
from zlayer_native.enroll.dial import Trust
from zlayer_native.enroll.retry import Patience
from zlayer_native.errors import EnrollmentError, IdentityError, TokenInvalid
from zlayer_native.identity import files, profiles, sealed
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.certificate import is_issued_by, parse
from zlayer_native.identity.csr import new_csr
from zlayer_native.identity.keypair import KeyPair
from zlayer_native.identity.keys import key_pem, load_key, new_key
from zlayer_native.identity.names import member_uri
from zlayer_native.identity.token import decode

_JOINED, _KEY = "server.json", "join.key"


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Which server of its cluster this is, once it has joined one.

    Attributes:
        node_id: the id that the cluster recorded.
        raft_addr: `host:port` where the other servers dial it.
        api_addr: `host:port` of its HTTP API.
    """

    node_id: int
    raft_addr: str
    api_addr: str

    @classmethod
    def read(cls, folder: Path) -> Joined | None:
        """From a server's CA folder; None where it has not joined: it forms a cluster itself.

        Raises:
            IdentityError: the file is open to others, or is not as it was written.
        """
        path = folder / _JOINED
        if not files.exists(path):
            return None
        try:
            return cls(**json.loads(files.read_private(path)))
        except (ValueError, TypeError) as error:
            raise IdentityError(f"{path}: is not as it was written (cut short?)") from error


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a new server says of itself; `node_id` 0 lets the cluster choose."""

    name: str
    node_id: int
    raft_addr: str
    api_addr: str


async def join_server(
    servers: Sequence[str],
    token_line: str,
    folder: Path,
    place: Place,
    *,
    expect: Expectation | None = None,
    patience: Patience | None = None,
) -> Joined:
    """Joins a cluster, and writes its authority and this server's certificate into `folder`.

    Args:
        servers: `host:port` of worker ports of servers; tried in turn.
        token_line: as `zlayerd token create --role server` printed it.
        folder: the server's CA folder; made if it is missing.
        place: what this server says of itself.
        expect: what is known of the cluster.
        patience: how long to try.

    Raises:
        TokenInvalid: the line is no whole token for servers; nothing was sent.
        IdentityError: the folder can't be used, or holds another cluster's authority.
        EnrollmentError: no server let this one in; `retryable` says whether to try again.
    """
    token = decode(token_line)
    if token.claims.role != "server":
        raise TokenInvalid(
            "this token is for workers; `zlayerd token create --role server` makes one for servers",
            code="token_invalid",
        )
    check_expectation(token, expect or Expectation())
    trust = Trust(token.claims.cluster_id, "".join(profiles.pem(ca).decode() for ca in token.cas))
    _check_folder(folder, trust.cluster_id)

    async def join(stub: Stub, key: ec.EllipticCurvePrivateKey) -> Joined:
        response = await stub.JoinServer(_request(token_line, key, place))
        _install(folder, response, key, token.cas, trust)
        return Joined(node_id=response.node_id, raft_addr=place.raft_addr, api_addr=place.api_addr)

    pending = _PendingKey(folder)
    joined = await call_with_key(servers, trust, pending, patience or Patience(), join)
    files.write_private(folder / _JOINED, json.dumps(asdict(joined)).encode() + b"\n")
    pending.discard_pending_key()
    return joined


def _request(
    token_line: str, key: ec.EllipticCurvePrivateKey, place: Place
) -> pb.JoinServerRequest:
    return pb.JoinServerRequest(
        bootstrap_token=token_line,
        csr_der=new_csr(key),
        name=place.name,
        node_id=place.node_id,
        raft_addr=place.raft_addr,
        api_addr=place.api_addr,
    )


def _check_folder(folder: Path, cluster_id: str) -> None:
    if Joined.read(folder) is not None:
        raise IdentityError(f"{folder}: this server has joined already; start it without --join")
    if Authority.is_there(folder):
        there = Authority.open(folder).cluster_id
        if there != cluster_id:
            raise IdentityError(f"{folder}: is of cluster {there}, and the token is for another")


def _install(
    folder: Path,
    response: pb.JoinServerResponse,
    key: ec.EllipticCurvePrivateKey,
    cas: Sequence[object],
    trust: Trust,
) -> None:
    """Checks the answer as if nobody had verified the server, and writes it."""
    certificate = parse(response.certificate_der, "the answer")
    context = member_uri(trust.cluster_id, "server", response.node_id)
    exported = sealed.open_sealed(key, response.sealed_authority, context)
    authority = (
        Authority.open(folder)
        if Authority.is_there(folder)
        else Authority.install(folder, exported)
    )
    if authority.cluster_id != trust.cluster_id or not set(authority.certificates) & set(cas):
        raise EnrollmentError("the authority that the server handed over is not the token's")
    if certificate.public_key() != key.public_key() or not is_issued_by(
        certificate, authority.certificates[0]
    ):
        raise EnrollmentError("the certificate in the answer is not this server's")
    KeyPair.of(key, certificate).save(folder / f"server-{response.node_id}.pem")


class _PendingKey:
    """The key of a join that has not ended yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / _KEY

    def has_pending_key(self) -> bool:
        return files.exists(self._path)

    def pending_key(self) -> ec.EllipticCurvePrivateKey:
        files.make_private_dir(self._folder)
        if files.exists(self._path):
            return load_key(files.read_private(self._path), str(self._path))
        key = new_key()
        files.write_private(self._path, key_pem(key))
        return key

    def discard_pending_key(self) -> None:
        files.remove(self._path)
