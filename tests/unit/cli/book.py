"""What a fake cluster knows: nodes, tokens and events as the core shows them."""

from __future__ import annotations

import queue
import time
from pathlib import Path
from typing import Any

from zlayer_native.errors import NodeNotFound, TokenNotFound


def node_view(node_id: int, name: str, state: str = "Ready", **fields: Any) -> dict[str, Any]:
    """A node with every field that the API gives."""
    now_ms = int(time.time() * 1000)
    return {
        "id": node_id,
        "name": name,
        "role": "worker",
        "state": state,
        "reason": "session_opened",
        "since_ms": now_ms - 12_000,
        "enrolled_ms": now_ms - 7_500_000,
        "draining": state == "Draining",
        "labels": {},
        "profile": {
            "os": "linux",
            "arch": "x86_64",
            "version": "0.1.0",
            "cpu_cores": 8,
            "memory_bytes": 16 << 30,
            "disk_bytes": 500 << 30,
        },
        "token_jti": "ab" * 16,
        "incarnation": "18446744073709551615",
        "certificate_not_after_ms": now_ms + 86_000_000,
        "connected": state in ("Ready", "Draining"),
        "address": "127.0.0.1:50000",
        "ttl_ms": 10_000,
        "next_beat_in_ms": 8_200,
        "lease_remaining_ms": 18_200,
        "last_beat_ago_ms": 1_800,
        "resources": {"cpu_millicores": 1500, "memory_bytes": 3 << 30, "disk_bytes": 60 << 30},
        **fields,
    }


def token_view(jti: str, **fields: Any) -> dict[str, Any]:
    """A token with every field that the API gives; it lives for an hour."""
    now_ms = int(time.time() * 1000)
    return {
        "jti": jti,
        "name": "",
        "created_ms": now_ms - 60_000,
        "expires_ms": now_ms + 3_540_000,
        "role": "worker",
        "uses_max": 3,
        "labels": {},
        "labels_allowed": [],
        "revoked": False,
        "uses": {},
        **fields,
    }


def server_view(
    server_id: int, silent_ms: int | None, *, voter: bool = True, **fields: Any
) -> dict[str, Any]:
    """A server as the leader sees it."""
    return {
        "id": server_id,
        "raft_addr": f"10.0.0.{server_id}:3671",
        "api_addr": f"10.0.0.{server_id}:3669",
        "voter": voter,
        "matched": 7,
        "lag": 0,
        "silent_ms": silent_ms,
        "refused": None,
        **fields,
    }


class Book:
    """The state, and the rules of the core that commands can notice."""

    def __init__(self) -> None:
        self.nodes: dict[int, dict[str, Any]] = {}
        self.tokens: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.first_kept = 1
        self.revision = 0
        self.expiry_held = False
        self.is_ready = True
        self.servers: dict[str, Any] = {
            "items": [server_view(1, None)],
            "leader": 1,
            "is_changing": False,
            "term": 3,
        }
        #: What was asked of the servers, but for who they are.
        self.asked: list[dict[str, Any]] = []
        self.refusal: Exception | None = None
        self.backup = b""
        #: The revisions that event streams came to wait behind.
        self.streams: queue.SimpleQueue[int] = queue.SimpleQueue()

    def add_node(self, node_id: int, name: str, state: str = "Ready", **fields: Any) -> None:
        self.nodes[node_id] = node_view(node_id, name, state, **fields)

    def add_token(self, jti: str, **fields: Any) -> None:
        self.tokens[jti] = token_view(jti, **fields)

    def add_event(self, kind: str = "joined", **fields: Any) -> int:
        self.revision += 1
        self.events.append(
            {
                "revision": self.revision,
                "at_ms": 1_795_578_079_000 + self.revision,
                "kind": kind,
                "node_id": 1000,
                "node_name": "w00",
                "reason": "session_opened",
                "detail": "",
                **fields,
            }
        )
        return self.revision

    def forget_below(self, revision: int) -> None:
        self.events = [event for event in self.events if event["revision"] >= revision]
        self.first_kept = revision

    def propose(self, command: dict[str, Any]) -> None:
        match command["type"]:
            case "create_token":
                fields = {key: value for key, value in command.items() if key != "type"}
                self.add_token(**fields)
            case "revoke_token":
                if command["jti"] not in self.tokens:
                    raise TokenNotFound("there is no such token", code="token_not_found")
                self.tokens[command["jti"]]["revoked"] = True
            case "remove_node":
                self._node(command["node_id"])
                del self.nodes[command["node_id"]]
            case "set_draining":
                self._node(command["node_id"])["draining"] = command["draining"]
            case unknown:
                raise AssertionError(unknown)

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        if "members" not in question:
            self.asked.append(question)
        if self.refusal is not None:
            raise self.refusal
        if "snapshot" in question:
            Path(question["snapshot"]["path"]).write_bytes(self.backup)
        if "transfer" in question:
            return {"leader": question["transfer"]["to"]}
        return self.servers if "members" in question else {"type": "done"}

    def _node(self, node_id: int) -> dict[str, Any]:
        if node_id not in self.nodes:
            raise NodeNotFound(f"there is no node {node_id}", code="node_not_found")
        return self.nodes[node_id]

    def page(self, query: dict[str, Any]) -> dict[str, Any]:
        found = [
            node
            for node_id, node in sorted(self.nodes.items())
            if node_id > query["after_id"]
            and query.get("state") in (None, node["state"])
            and query["labels"].items() <= node["labels"].items()
        ]
        return {"items": found[: query["limit"]], "revision": self.revision}

    def status(self) -> dict[str, Any]:
        states = [node["state"] for node in self.nodes.values()]
        workers = {
            name: states.count(name)
            for name in ("Ready", "Suspect", "Unreachable", "Draining", "Left")
        }
        return {
            "cluster_id": "zl-test",
            "node_id": 1,
            "version": "0.1.0",
            "role": "leader",
            "term": 3,
            "uptime_ms": 7_500_000,
            "workers": {
                **workers,
                "total": len(states),
                "connected": sum(node["connected"] for node in self.nodes.values()),
            },
            "ttl_ms": 10_000,
            "beats_per_second": 2,
            "max_heartbeats_per_second": 50,
            "revision": self.revision,
            "expiry_held": self.expiry_held,
            "log": {
                "last_index": 7,
                "bytes": 5000,
                "commit_p50_us": 400,
                "commit_p99_us": 1200,
                "fsync_p50_us": 300,
                "fsync_p99_us": 900,
            },
            "listen": "127.0.0.1:3670",
        }
