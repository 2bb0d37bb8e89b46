"""The Rust core, as Python sees it. Import it through `zlayer_native._bridge` only.

Every class is a frozen handle; every call that may take longer than some microseconds releases the
GIL. JSON documents cross as `bytes`. Errors are the classes of `zlayer_native.errors`.
"""

from collections.abc import Sequence
from typing import final

from typing_extensions import Buffer

__all__ = [
    "AdaptiveTtlConfig",
    "ExpiredLease",
    "LeaseTable",
    "ServerNode",
    "WorkerSession",
    "inherited_sockets",
    "inspect_backup",
    "restore_backup",
    "run_load",
    "version",
]

def version() -> str:
    """Version of the core, equal to the package's."""

@final
class AdaptiveTtlConfig:
    """How long a worker may stay silent, as a function of how many there are. In seconds."""

    def __new__(
        cls,
        min_ttl_secs: int = 10,
        max_ttl_secs: int = 600,
        grace_secs: int = 10,
        max_heartbeats_per_second: int = 50,
        failover_ttl_secs: int = 300,
    ) -> AdaptiveTtlConfig: ...
    @property
    def min_ttl_secs(self) -> int: ...
    @property
    def max_ttl_secs(self) -> int: ...
    @property
    def grace_secs(self) -> int: ...
    @property
    def max_heartbeats_per_second(self) -> int: ...
    @property
    def failover_ttl_secs(self) -> int: ...
    def compute_ttl(self, n_workers: int) -> int:
        """`clamp(ceil(n_workers / max_heartbeats_per_second), min_ttl_secs, max_ttl_secs)`."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[type[AdaptiveTtlConfig], tuple[int, int, int, int, int]]: ...

@final
class ExpiredLease:
    """A lease that ended: its handle, and how late that was noticed."""

    @property
    def handle(self) -> int: ...
    @property
    def deadline_ms(self) -> int: ...
    @property
    def overdue_ms(self) -> int: ...

@final
class LeaseTable:
    """Leases with O(1) renewal and an exact expiry order. Time is an argument, in milliseconds.

    A handle is an `int` of 64 bits; `array.array("Q", handles)` is what `renew_many` takes.
    """

    def __new__(cls, capacity_max: int = 1_000_000) -> LeaseTable: ...
    def grant(self, *, now_ms: int, window_ms: int) -> int: ...
    def grant_many(self, count: int, *, now_ms: int, window_ms: int) -> bytes: ...
    def renew(self, handle: int, *, now_ms: int, window_ms: int) -> int:
        """Moves the deadline to `now_ms + window_ms` and returns it. Raises `StaleLease`."""
    def renew_many(self, handles: Buffer, *, now_ms: int, window_ms: int) -> list[int]:
        """Renews a buffer of native 64-bit handles without the GIL; returns the stale ones."""
    def revoke(self, handle: int) -> None: ...
    def expire(self, *, now_ms: int, max: int = 1000) -> list[ExpiredLease]:
        """Ends at most `max` leases that are due, in order of (deadline, slot)."""
    def next_deadline_ms(self) -> int | None: ...
    def deadline_ms(self, handle: int) -> int | None: ...
    def shift_by(self, ms: int) -> None: ...
    def promote(self, *, now_ms: int, window_ms: int, spread_ms: int = 0) -> None: ...
    def freeze(self, *, now_ms: int) -> None: ...
    def thaw(self, *, now_ms: int) -> None: ...
    def stats(self) -> dict[str, int]: ...
    def __len__(self) -> int: ...

@final
class ServerNode:
    """The server's core: worker port, sessions, leases and control log, all on Rust threads."""

    @staticmethod
    def start(options_json: bytes) -> ServerNode: ...
    def local_addr(self) -> str: ...
    def raft_addr(self) -> str | None:
        """Where the other servers reach this one, or None where it is alone."""
    def submit(self, ticket: int, command_json: bytes) -> None: ...
    def ask(self, ticket: int, question_json: bytes) -> None:
        """A question about the servers; answered by `drain`, as a command is.

        `{"form": {"members": [M, …]}}`, `{"add": M}`, `{"promote": {"ids": [2, 3]}}`,
        `{"remove": {"id": 3}}`, `{"move": M}`, `{"transfer": {"to": 2}}`, `{"barrier": {}}`,
        `{"members": {}}` or `{"snapshot": {"path": "/new/file"}}`, with M as
        `{"id": 2, "raft_addr": "host:port", "api_addr": "host:port"}`.
        """
    def hold(self, ticket: int, ended: int, wanted_json: bytes) -> None:
        """Acquires a lock and renews it; answered under `ticket`, then under `ended` when it ends.

        `{"name", "holder": 32 hex digits, "owner", "ttl_ms", "wait_ms": null for ever}`.
        """
    def abandon(self, ticket: int) -> None:
        """Gives up waiting for a lock that was asked for under this ticket."""
    def release(self, ticket: int, name: str, fence: int) -> None: ...
    def members(self) -> bytes:
        """The servers as this one knows them, as JSON; `{"members": {}}` asks the leader.

        `items` of `id`, `raft_addr`, `api_addr`, `voter`, `role` (leader, voter or learner) and,
        of the leader, how far each is: `matched`, `lag`, `silent_ms` and `refused`; beside them
        `is_changing`, `leader` and `term`.
        """
    def wake_fd(self) -> int: ...
    def drain(self, max: int = 1024) -> Sequence[tuple[int, bytes | None, str | None]]:
        """Finished commands: (ticket, outcome as JSON, or None and an error text)."""
    def nodes(self, query_json: bytes) -> bytes: ...
    def node(self, node_id: int) -> bytes | None: ...
    def tokens(self) -> bytes: ...
    def token(self, jti: str) -> bytes | None: ...
    def value(self, key: str) -> bytes | None:
        """A key's record as JSON, its value in base64."""
    def values(self, prefix: str, after: str, limit: int) -> bytes: ...
    def locks(self) -> bytes: ...
    def events(self, after: int, limit: int) -> bytes: ...
    def revision(self) -> int:
        """Newest event revision."""
    def stopped(self) -> str | None:
        """Why the core ended for good, or None while it runs."""
    def status(self) -> bytes: ...
    def metrics(self) -> bytes: ...
    def load_commits(self, options_json: bytes) -> bytes:
        """Runs a load on the control log until it is done, with the GIL released."""
    def set_identity(self, certificate_pem: str, key_pem: str, ca_pem: str) -> None: ...
    def hand_over(self, timeout_s: float) -> bool:
        """Hands the leadership over, if it is here; whether another server leads then."""
    def shutdown(self, timeout_s: float) -> None: ...

@final
class WorkerSession:
    """The worker's session: timer, reconnects and heartbeats on a Rust thread of this process."""

    @staticmethod
    def start(options_json: bytes) -> WorkerSession: ...
    def set_resources(self, cpu_millicores: int, memory_bytes: int, disk_bytes: int) -> None: ...
    def set_identity(self, certificate_pem: str, key_pem: str, ca_pem: str) -> None: ...
    def state(self) -> bytes: ...
    def wake_fd(self) -> int: ...
    def drain(self, max: int = 256) -> Sequence[bytes]:
        """Session events as JSON, oldest first."""
    def leave(self, timeout_s: float) -> bool: ...
    def stop(self) -> None: ...

def inherited_sockets() -> list[int]:
    """Descriptors of this process's session sockets, each told once: a forked child closes them."""

def inspect_backup(path: str) -> bytes:
    """What a backup file says of itself, as JSON; it is read whole and checked."""

def restore_backup(path: str, control_dir: str, cluster_id: str, node_id: int) -> None:
    """Makes the control directory of a new cluster's first server out of a backup file."""

def run_load(options_json: bytes) -> bytes:
    """Runs the load swarm until it is done, with the GIL released; JSON in, one JSON object out."""
