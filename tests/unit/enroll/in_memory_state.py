"""An in-memory control state for tests: applies the commands of enrolment with the core's rules.

It follows `zlayer_core::command`; the real one is exercised by the tests with processes.
"""

from __future__ import annotations

import asyncio
import copy
import json
from typing import Any

from zlayer_native.errors import (
    InvalidRequest,
    KeyInUse,
    KeyUnknown,
    LabelNotPermitted,
    NodeNotFound,
    ServerIdTaken,
    TokenInvalid,
    TokenNotFound,
    TokenUsedUp,
)

FIRST_WORKER_ID = 1000
CERTIFICATES_KEPT = 4


class InMemoryState:
    """A `Proposer` without a log. Every command crosses JSON, as it does on its way to the core."""

    def __init__(self, now_ms: Any) -> None:
        self.now_ms = now_ms
        self.tokens: dict[str, dict[str, Any]] = {}
        self.nodes: dict[int, dict[str, Any]] = {}
        self.servers: dict[int, dict[str, Any]] = {}
        self.removed: set[int] = set()
        self.proposed: list[dict[str, Any]] = []
        self.fail_with: Exception | None = None
        self.gate: asyncio.Event | None = None
        self._next_id = FIRST_WORKER_ID
        self._changed = asyncio.Condition()

    async def wait_proposed(self, count: int) -> None:
        """Returns once so many commands have come."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.proposed) >= count)

    async def propose(self, command: dict[str, Any]) -> dict[str, Any]:
        command = json.loads(json.dumps(command))
        self.proposed.append(command)
        async with self._changed:
            self._changed.notify_all()
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(0)
        if self.fail_with is not None:
            raise self.fail_with
        arguments = dict(command)
        kind = arguments.pop("type")
        outcome: dict[str, Any] = getattr(self, f"_{kind}")(**arguments)
        return outcome

    async def settle(self) -> None:
        """There is nobody who could be ahead."""

    def token(self, jti: str) -> dict[str, Any] | None:
        return copy.deepcopy(self.tokens.get(jti))

    def node(self, node_id: int) -> dict[str, Any] | None:
        return copy.deepcopy(self.nodes.get(node_id))

    def _create_token(
        self,
        jti: str,
        expires_ms: int,
        uses_max: int,
        name: str = "",
        role: str = "worker",
        labels: dict[str, str] | None = None,
        labels_allowed: list[str] | None = None,
    ) -> dict[str, Any]:
        self.tokens[jti] = {
            "jti": jti,
            "name": name,
            "created_ms": self.now_ms(),
            "expires_ms": expires_ms,
            "role": role,
            "uses_max": uses_max,
            "labels": labels or {},
            "labels_allowed": labels_allowed or [],
            "revoked": False,
            "uses": {},
        }
        return {"type": "done"}

    def _revoke_token(self, jti: str) -> dict[str, Any]:
        if jti not in self.tokens:
            raise TokenNotFound(f"there is no token {jti}", code="token_not_found")
        self.tokens[jti]["revoked"] = True
        return {"type": "done"}

    def _redeem(
        self,
        jti: str,
        name: str,
        labels: dict[str, str],
        profile: dict[str, Any],
        certificate: dict[str, Any],
    ) -> dict[str, Any]:
        token = self._open_token(jti, "worker")
        key = certificate["key_hash"]
        node_id = token["uses"].get(key)
        if node_id is not None:
            node = self.nodes.get(node_id)
            if node is None:
                raise KeyInUse("this key is bound to another node", code="key_in_use")
            self._remember(node, certificate)
            return self._redeemed(node, first=False)
        if len(token["uses"]) >= token["uses_max"]:
            raise TokenUsedUp("no uses left", code="token_used_up")
        if self._owner(key) is not None:
            raise KeyInUse("this key is bound to another node", code="key_in_use")
        for label, value in labels.items():
            forced = token["labels"].get(label)
            if forced not in (None, value) or (
                forced is None and label not in token["labels_allowed"]
            ):
                raise LabelNotPermitted(f"label {label}: outside", code="label_not_permitted")
        node_id, self._next_id = self._next_id, self._next_id + 1
        token["uses"][key] = node_id
        node = {
            "id": node_id,
            "name": name or f"worker-{node_id}",
            "labels": {**token["labels"], **labels},
            "profile": profile,
            "token_jti": jti,
            "since_ms": self.now_ms(),
            "enrolled_ms": self.now_ms(),
            "certificates": [certificate],
            "keys": {key},
        }
        self.nodes[node_id] = node
        return self._redeemed(node, first=True)

    def _open_token(self, jti: str, role: str) -> dict[str, Any]:
        token = self.tokens.get(jti)
        if token is None or token["revoked"] or self.now_ms() >= token["expires_ms"]:
            raise TokenInvalid("the token does not admit", code="token_invalid")
        if token["role"] != role:
            raise TokenInvalid("the token does not admit", code="token_invalid")
        return token

    def _redeem_server(
        self,
        jti: str,
        id: int,
        name: str,
        raft_addr: str,
        api_addr: str,
        certificate: dict[str, Any],
    ) -> dict[str, Any]:
        token = self._open_token(jti, "server")
        key = certificate["key_hash"]
        known = token["uses"].get(key)
        if known is None:
            if len(token["uses"]) >= token["uses_max"]:
                raise TokenUsedUp("no uses left", code="token_used_up")
            known = id or max(self.servers, default=0) + 1
            if known in self.servers:
                raise ServerIdTaken(f"server id {known} was given", code="server_id_taken")
            token["uses"][key] = known
        self.servers[known] = {"id": known, "raft_addr": raft_addr, "api_addr": api_addr}
        name = name or f"server-{known}"
        return {"type": "redeemed", "node_id": known, "name": name, "labels": {}, "first": True}

    @staticmethod
    def _redeemed(node: dict[str, Any], *, first: bool) -> dict[str, Any]:
        return {
            "type": "redeemed",
            "node_id": node["id"],
            "name": node["name"],
            "labels": node["labels"],
            "first": first,
        }

    def _renew_certificate(
        self, node_id: int, old_key_hash: str, certificate: dict[str, Any]
    ) -> dict[str, Any]:
        node = self.nodes.get(node_id)
        if node is None:
            raise NodeNotFound(f"there is no node {node_id}", code="node_not_found")
        if old_key_hash not in {kept["key_hash"] for kept in node["certificates"]}:
            raise KeyUnknown(f"node {node_id} has no such key", code="key_unknown")
        if self._owner(certificate["key_hash"]) not in (None, node_id):
            raise KeyInUse("this key is bound to another node", code="key_in_use")
        self._remember(node, certificate)
        return {"type": "done"}

    def _remove_node(self, node_id: int) -> dict[str, Any]:
        if node_id not in self.nodes:
            raise NodeNotFound(f"there is no node {node_id}", code="node_not_found")
        self._burnt = self._burnt_keys() | self.nodes.pop(node_id)["keys"]
        self.removed.add(node_id)
        return {"type": "done"}

    def _burnt_keys(self) -> set[str]:
        return getattr(self, "_burnt", set())

    def _owner(self, key: str) -> int | None:
        for node in self.nodes.values():
            if key in node["keys"]:
                return node["id"]
        return 0 if key in self._burnt_keys() else None

    def _remember(self, node: dict[str, Any], certificate: dict[str, Any]) -> None:
        if not set(certificate) == {"serial", "key_hash", "not_after_ms"}:
            raise InvalidRequest("certificate: other fields", code="invalid")
        kept = [c for c in node["certificates"] if c["key_hash"] != certificate["key_hash"]]
        node["certificates"] = [*kept, certificate][-CERTIFICATES_KEPT:]
        node["keys"].add(certificate["key_hash"])
