"""Letting a server in: a use of a token, an id, a certificate, and the cluster's authority, sealed.

The leader takes every recorded server into the membership by itself; nothing more is asked of a
person.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zlayer_native.config.addresses import is_loopback, parse_dial, split
from zlayer_native.config.fields import SERVER_ID_MAX
from zlayer_native.config.labels import EXPECTED, is_name
from zlayer_native.enroll.admission import certificate_record
from zlayer_native.enroll.open_tokens import OpenTokens
from zlayer_native.enroll.records import Proposer
from zlayer_native.errors import InvalidRequest
from zlayer_native.identity import profiles, sealed
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.csr import check_csr
from zlayer_native.identity.keys import key_hash
from zlayer_native.identity.names import member_uri


@dataclass(frozen=True, kw_only=True)
class JoiningServer:
    """What a new server sent. Nothing of it is trusted; the token is a secret."""

    token: str
    csr: bytes
    name: str
    node_id: int
    raft_addr: str
    api_addr: str

    def __repr__(self) -> str:
        return "JoiningServer(***)"


@dataclass(frozen=True, kw_only=True)
class JoinedServer:
    """What it gets. `sealed_authority` opens with the key of its CSR alone."""

    node_id: int
    token_jti: str
    certificate: bytes
    sealed_authority: bytes


class ServerAdmission:
    """Turns tokens for servers into servers."""

    def __init__(
        self,
        authority: Authority,
        proposer: Proposer,
        tokens: OpenTokens,
        raft_addresses: Callable[[], Sequence[str]],
    ) -> None:
        self._authority = authority
        self._proposer = proposer
        self._tokens = tokens
        self._raft_addresses = raft_addresses

    async def admit(self, joining: JoiningServer) -> JoinedServer:
        """Redeems the token for this key; a repeat with the same key gets the same id.

        Raises:
            TokenInvalid: it does not admit a server, for whatever reason.
            TokenUsedUp: it is genuine, and its uses are gone.
            InvalidRequest: the CSR, a field, or addresses that servers could not reach.
            KeyInUse: the key is the cluster's own, or another node's.
            ServerIdTaken: the wanted id is another server's.
            IdentityError: this server can't sign now.
        """
        token, record = await self._tokens.read(joining.token, "server")
        raft_addr, api_addr = self._check_fields(joining)
        public_key = check_csr(joining.csr)
        hashed = key_hash(public_key)
        self._tokens.check_key(token, record, hashed)
        serial = profiles.new_serial()
        not_after = self._authority.worker_not_after(profiles.SERVER_LIFE)
        outcome = await self._proposer.propose(
            {
                "type": "redeem_server",
                "jti": token.jti,
                "id": joining.node_id,
                "name": joining.name,
                "raft_addr": raft_addr,
                "api_addr": api_addr,
                "certificate": certificate_record(serial, hashed, not_after),
            }
        )
        node_id = int(outcome["node_id"])
        certificate = self._authority.sign_server(node_id, public_key, serial=serial)
        context = member_uri(self._authority.cluster_id, "server", node_id)
        return JoinedServer(
            node_id=node_id,
            token_jti=token.jti,
            certificate=profiles.der(certificate),
            sealed_authority=sealed.seal(public_key, self._authority.export(), context),
        )

    def _check_fields(self, joining: JoiningServer) -> tuple[str, str]:
        if joining.name and not is_name(joining.name):
            raise InvalidRequest(f"name: expected {EXPECTED}", code="invalid")
        if not 0 <= joining.node_id <= SERVER_ID_MAX:
            raise InvalidRequest(f"node_id: expected 1..{SERVER_ID_MAX}, or 0", code="invalid")
        raft_addr = _address("raft_addr", joining.raft_addr)
        self._check_reach(raft_addr)
        return raft_addr, _address("api_addr", joining.api_addr)

    def _check_reach(self, raft_addr: str) -> None:
        """Refuses what can't work: some servers reachable by themselves alone, and others not."""
        for known in self._raft_addresses():
            if is_loopback(split(known)[0]) and not is_loopback(split(raft_addr)[0]):
                raise InvalidRequest(
                    f"a server of this cluster is at {known}, which no other machine can dial:"
                    " start it again with --raft HOST:PORT (or its raft_addr) first",
                    code="invalid",
                )
            if is_loopback(split(raft_addr)[0]) and not is_loopback(split(known)[0]):
                raise InvalidRequest(
                    f"raft_addr: {raft_addr} can't be dialled by the server at {known}; name this"
                    " machine with --raft HOST:PORT",
                    code="invalid",
                )


def _address(field: str, text: str) -> str:
    try:
        return parse_dial(text)
    except ValueError as error:
        raise InvalidRequest(f"{field}: {error}", code="invalid") from None
