"""The built core with a real authority, on loopback and below one folder."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zlayer_native._bridge import Server
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.claims import Token
from zlayer_native.identity.keys import key_hash, key_pem, new_key
from zlayer_native.identity.profiles import new_serial, pem

TTL = {
    "min_ttl_secs": 10,
    "max_ttl_secs": 600,
    "grace_secs": 10,
    "max_heartbeats_per_second": 50,
    "failover_ttl_secs": 300,
}


def server_options(authority: Authority, root: Path, **changes: Any) -> dict[str, Any]:
    """What a server of `authority` is started with; its control log is below `root`."""
    pair = authority.issue_server(1)
    return {
        "cluster_id": authority.cluster_id,
        "node_id": 1,
        "listen": "127.0.0.1:0",
        "join_socket": str(root / "run" / "join.sock"),
        "control_dir": str(root / "control"),
        "certificate_pem": pair.cert_pem,
        "key_pem": pair.key_pem,
        "ca_pem": authority.ca_pem,
        "ttl": TTL,
        **changes,
    }


@dataclass
class RealCore:
    """A running server, its authority, and what it is asked."""

    authority: Authority
    server: Server
    _keys: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def cluster_id(self) -> str:
        return self.authority.cluster_id

    async def token(self, *, uses: int = 1, **fields: Any) -> str:
        """Makes a token's record; returns its id."""
        command = create_token(uses_max=uses, **fields)
        await self.server.propose(command)
        return str(command["jti"])

    async def token_line(self, *, uses: int = 1, ttl_s: int = 3600, **fields: Any) -> str:
        """Makes a token; returns its line."""
        command = create_token(uses_max=uses, ttl_s=ttl_s, **fields)
        await self.server.propose(command)
        created_s = int(time.time())
        claims = Token(
            cluster_id=self.cluster_id,
            jti=command["jti"],
            created_s=created_s,
            expires_s=created_s + ttl_s,
            uses_max=uses,
            labels=fields.get("labels", {}),
            labels_allowed=tuple(fields.get("labels_allowed", ())),
        )
        return self.authority.token_signer.issue(claims)

    async def node(self, jti: str | None = None, **fields: Any) -> int:
        """Redeems a token for a new key; returns the node's id."""
        jti = jti or await self.token()
        outcome = await self.server.propose(redeem(jti, next(self._keys), **fields))
        return int(outcome["node_id"])

    async def session_options(self, **changes: Any) -> dict[str, Any]:
        """What a session of a new worker is started with."""
        key = new_key()
        serial, not_after = new_serial(), self.authority.worker_not_after()
        certificate = {
            "serial": format(serial, "x"),
            "key_hash": key_hash(key.public_key()),
            "not_after_ms": int(not_after.timestamp()) * 1000,
        }
        jti = await self.token()
        outcome = await self.server.propose(
            {"type": "redeem", "jti": jti, "certificate": certificate}
        )
        signed = self.authority.sign_worker(
            outcome["node_id"], key.public_key(), serial=serial, not_after=not_after
        )
        return {
            "cluster_id": self.cluster_id,
            "servers": [self.server.address],
            "node_id": outcome["node_id"],
            "certificate_pem": pem(signed).decode(),
            "key_pem": key_pem(key).decode(),
            "ca_pem": self.authority.ca_pem,
            "incarnation": secrets.randbits(63) or 1,
            "version": "0.1.0",
            **changes,
        }


@contextlib.asynccontextmanager
async def real_core(root: Path, **options: Any) -> AsyncIterator[RealCore]:
    """A server that is stopped with the block."""
    authority = Authority.open_or_create(root / "cluster")
    server = await Server.start(server_options(authority, root, **options))
    try:
        yield RealCore(authority, server)
    finally:
        await server.stop()


def create_token(*, uses_max: int = 1, ttl_s: int = 3600, **fields: Any) -> dict[str, Any]:
    """A command that makes a token."""
    return {
        "type": "create_token",
        "jti": secrets.token_hex(16),
        "expires_ms": int((time.time() + ttl_s) * 1000),
        "uses_max": uses_max,
        **fields,
    }


def redeem(jti: str, key: int, **fields: Any) -> dict[str, Any]:
    """A command that redeems a token for key number `key`."""
    return {"type": "redeem", "jti": jti, "certificate": certificate(key), **fields}


def certificate(key: int) -> dict[str, Any]:
    """The record of a certificate of key number `key`, valid for a day."""
    return {
        "serial": format(key, "x"),
        "key_hash": format(key, "064x"),
        "not_after_ms": int((time.time() + 86_400) * 1000),
    }
