"""Every error that zlayer-native raises, as one tree.

    ZLayerError
    ├── ConfigError (ValueError)          .problems
    ├── NotSupported                      a mode or a verb that is not built
    ├── IdentityError                     CA, keys, certificates and their files
    ├── EnrollmentError                   .code .retryable
    │   └── ProofRefused                  a renewal whose proof does not hold
    ├── Refused                           .code: the control state said no, nothing was changed
    │   ├── TokenInvalid
    │   ├── TokenUsedUp
    │   ├── TokenExists
    │   ├── TokenNotFound
    │   ├── LabelNotPermitted
    │   ├── KeyInUse
    │   ├── KeyUnknown
    │   ├── NodeNotFound
    │   ├── ServerIdTaken
    │   ├── ServerNotFound
    │   ├── ServerRemoved
    │   ├── RevisionMismatch              .revision: the one that the key has
    │   ├── LockHeld                      .owner .fence: who holds it
    │   ├── LimitReached
    │   └── InvalidRequest
    ├── NotLeader                         .leader_id
    ├── NoLeader
    ├── OutcomeUnknown                    sent, and not known to be committed or not
    ├── ServersUnchanged                  .code: who is in the cluster was not changed
    ├── Overloaded                        a bounded queue is full; try again later
    ├── LeaseError
    │   ├── LeaseTableFull
    │   └── StaleLease                    .handle
    ├── CoreError                         the Rust core could not start or do what was asked
    │   └── CoreStopped                   the core ended for good (fail-stop)
    ├── ForkedProcess                     a handle was used in a forked child
    ├── LoadError                         the load swarm could not run
    └── ApiError                          .status .code .hint: an HTTP API said no
        └── Unreachable                   nothing answered at that address

Messages are for people: they name the thing, the place and the way out. Errors can be pickled.
"""

from __future__ import annotations

from collections.abc import Sequence


class ZLayerError(Exception):
    """Base of every error that zlayer-native raises on purpose."""


class ConfigError(ZLayerError, ValueError):
    """A configuration that can't be used. `problems` holds a line for each thing that is wrong."""

    def __init__(self, message: str, *, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class NotSupported(ZLayerError):
    """A mode or a verb that this version does not have."""


class IdentityError(ZLayerError):
    """A CA, key, certificate or identity directory that can't be used."""


class EnrollmentError(ZLayerError):
    """Enrolment or renewal failed.

    `code` is the gRPC status name; `retryable` says whether to try again.
    """

    def __init__(self, message: str, *, code: str = "UNKNOWN", retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable


class ProofRefused(EnrollmentError):
    """A renewal whose proof of the old key does not hold."""


class Refused(ZLayerError):
    """The control state refused a command; nothing was changed. `code` is stable."""

    def __init__(self, message: str, *, code: str = "refused") -> None:
        super().__init__(message)
        self.code = code


class TokenInvalid(Refused):
    """The token does not admit: unknown, expired, revoked or forged."""


class TokenUsedUp(Refused):
    """The token is genuine and has no uses left."""


class TokenExists(Refused):
    """A token with this id exists."""


class TokenNotFound(Refused):
    """There is no such token."""


class LabelNotPermitted(Refused):
    """A label outside the token's bounds."""


class KeyInUse(Refused):
    """The key is bound to another node."""


class KeyUnknown(Refused):
    """The key is not one of the node's."""


class NodeNotFound(Refused):
    """There is no such node, or it was removed."""


class LimitReached(Refused):
    """A limit of the control state was reached."""


class ServerIdTaken(Refused):
    """The id was given to another server once; ids are never used again."""


class ServerNotFound(Refused):
    """There is no such server."""


class ServerRemoved(Refused):
    """The server was removed; its id is never used again."""


class RevisionMismatch(Refused):
    """The key has another revision than the write was meant for: `revision`, 0 if there is none."""

    def __init__(
        self, message: str, *, code: str = "revision_mismatch", revision: int | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.revision = revision


class LockHeld(Refused):
    """Somebody else holds the lock: `owner` says who, `fence` is the number it was granted with."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "lock_held",
        owner: str = "",
        fence: int | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.owner = owner
        self.fence = fence


class InvalidRequest(Refused):
    """A field is out of its range."""


class NotLeader(ZLayerError):
    """This server does not lead. `leader_id` names the one that does, if known."""

    def __init__(self, message: str, *, leader_id: int | None = None) -> None:
        super().__init__(message)
        self.leader_id = leader_id


class NoLeader(ZLayerError):
    """No server leads at the moment."""


class OutcomeUnknown(ZLayerError):
    """The command was sent, and nobody said what became of it. Look before you repeat it."""


class ServersUnchanged(ZLayerError):
    """A change of the servers was refused; nothing was changed. `code` is stable."""

    def __init__(self, message: str, *, code: str = "servers_unchanged") -> None:
        super().__init__(message)
        self.code = code


class Overloaded(ZLayerError):
    """A bounded queue is full; try again later."""


class LeaseError(ZLayerError):
    """A lease operation that can't be done."""


class LeaseTableFull(LeaseError):
    """The table holds as many leases as its capacity."""


class StaleLease(LeaseError):
    """The handle's lease ended: it expired or was revoked."""

    def __init__(self, message: str, *, handle: int | None = None) -> None:
        super().__init__(message)
        self.handle = handle


class CoreError(ZLayerError):
    """The Rust core could not start, or could not do what was asked."""


class CoreStopped(CoreError):
    """The Rust core ended for good. It never limps on: the process should exit."""


class ForkedProcess(ZLayerError):
    """A handle was used in a forked child, where its threads do not exist. Create it there."""


class LoadError(ZLayerError):
    """The load swarm could not run."""


class ApiError(ZLayerError):
    """An HTTP API said no.

    `status` is the HTTP status, `code` a stable name, `hint` the way out.
    """

    def __init__(self, message: str, *, status: int = 0, code: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.hint = hint


class Unreachable(ApiError):
    """Nothing answered at the API's address."""


#: Refusal codes of the core (`zlayer_core::command::Refusal`) and the error of each.
REFUSALS: dict[str, type[Refused]] = {
    "token_invalid": TokenInvalid,
    "token_used_up": TokenUsedUp,
    "token_exists": TokenExists,
    "token_not_found": TokenNotFound,
    "label_not_permitted": LabelNotPermitted,
    "invalid": InvalidRequest,
    "key_in_use": KeyInUse,
    "node_not_found": NodeNotFound,
    "key_unknown": KeyUnknown,
    "server_id_taken": ServerIdTaken,
    "server_not_found": ServerNotFound,
    "server_removed": ServerRemoved,
    "revision_mismatch": RevisionMismatch,
    "lock_held": LockHeld,
    "limit_reached": LimitReached,
}

#: Why a change of the servers is refused (`zlayer_raft::MembershipError`).
MEMBERSHIP_CODES = frozenset(
    {
        "alone",
        "already_formed",
        "already_member",
        "change_in_progress",
        "last_voter",
        "no_learner",
        "no_server_id",
        "no_voter",
        "not_member",
        "server_behind",
        "server_elsewhere",
        "server_refuses",
        "server_retired",
        "server_unreachable",
    }
)
