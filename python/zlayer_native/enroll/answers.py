"""What a refused caller is told: one status, one stable reason and one text for each cause.

The reason travels in the trailing metadata `zlayer-reason`, a hint when to come back in
`zlayer-retry-after-ms`. Texts hold nothing that the caller did not know.
"""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from zlayer_native.errors import (
    CoreStopped,
    EnrollmentError,
    IdentityError,
    InvalidRequest,
    KeyInUse,
    KeyUnknown,
    LabelNotPermitted,
    LimitReached,
    NodeNotFound,
    NoLeader,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    ProofRefused,
    ServerIdTaken,
    ServerRemoved,
    TokenInvalid,
    TokenUsedUp,
    ZLayerError,
)

REASON_KEY = "zlayer-reason"
RETRY_AFTER_KEY = "zlayer-retry-after-ms"

#: For causes that end by themselves but nobody knows when. Chosen: an election takes about one.
_RETRY_SOON_MS = 1000


@dataclass(frozen=True)
class Answer:
    """How a call is refused. `retry_after_ms` is None where a repeat would change nothing."""

    code: grpc.StatusCode
    reason: str
    text: str
    retry_after_ms: int | None = None

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Trailing metadata."""
        pairs = [(REASON_KEY, self.reason)]
        if self.retry_after_ms is not None:
            pairs.append((RETRY_AFTER_KEY, str(self.retry_after_ms)))
        return tuple(pairs)


class Busy(ZLayerError):
    """A rate or a concurrency limit of the service; `retry_after_s` in seconds."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


_CODE = grpc.StatusCode
_TOKEN_INVALID = Answer(_CODE.UNAUTHENTICATED, "token_invalid", "the token does not admit")
_INTERNAL = Answer(_CODE.INTERNAL, "internal", "the server could not do this; its log says why")

#: Errors with one answer each. Looked up by exact type.
_FIXED: dict[type[ZLayerError], Answer] = {
    TokenUsedUp: Answer(
        _CODE.RESOURCE_EXHAUSTED, "token_used_up", "the token has no uses left; make a new one"
    ),
    KeyInUse: Answer(
        _CODE.INVALID_ARGUMENT, "key_in_use", "this key was used before; make a new one"
    ),
    KeyUnknown: Answer(
        _CODE.UNAUTHENTICATED, "proof_refused", "the certificate and its proof do not admit"
    ),
    ProofRefused: Answer(
        _CODE.UNAUTHENTICATED, "proof_refused", "the certificate and its proof do not admit"
    ),
    NodeNotFound: Answer(
        _CODE.PERMISSION_DENIED, "node_removed", "this node was removed from the cluster"
    ),
    LimitReached: Answer(
        _CODE.RESOURCE_EXHAUSTED, "limit_reached", "the cluster has reached one of its limits"
    ),
    NotLeader: Answer(_CODE.UNAVAILABLE, "not_leader", "this server does not lead", _RETRY_SOON_MS),
    NoLeader: Answer(_CODE.UNAVAILABLE, "no_leader", "no server leads now", _RETRY_SOON_MS),
    # A repeat with the same key gets what the first one may have got.
    OutcomeUnknown: Answer(
        _CODE.UNAVAILABLE, "outcome_unknown", "it is not known yet; ask again", _RETRY_SOON_MS
    ),
    Overloaded: Answer(
        _CODE.RESOURCE_EXHAUSTED, "overloaded", "the server is overloaded", _RETRY_SOON_MS
    ),
    CoreStopped: Answer(_CODE.UNAVAILABLE, "stopping", "the server stops", _RETRY_SOON_MS),
    IdentityError: Answer(
        _CODE.UNAVAILABLE, "cannot_sign", "the server can't sign now; its log says why", 10_000
    ),
}

#: Refusals that quote what the caller sent, so that it can be put right. Longer ones are cut.
_TEXT_CHARACTERS_MAX = 200


def answer_for(error: BaseException) -> Answer:
    """The answer for an error; anything that is not foreseen is `internal`, without a detail."""
    match error:
        case TokenInvalid(code="wrong_cluster"):
            text = "the token is for another cluster"
            return Answer(_CODE.FAILED_PRECONDITION, "wrong_cluster", text)
        case TokenInvalid():
            return _TOKEN_INVALID
        case LabelNotPermitted():
            return Answer(_CODE.PERMISSION_DENIED, "label_not_permitted", plain(str(error)))
        case InvalidRequest() | ServerIdTaken() | ServerRemoved():
            return Answer(_CODE.INVALID_ARGUMENT, error.code, plain(str(error)))
        case Busy():
            wait_ms = max(1, int(error.retry_after_s * 1000))
            return Answer(_CODE.RESOURCE_EXHAUSTED, "rate_limited", str(error), wait_ms)
        case EnrollmentError(code="ABORTED"):
            return Answer(_CODE.ABORTED, "nonce", "the nonce is not good any more", 1)
        case EnrollmentError(code="FAILED_PRECONDITION"):
            return Answer(_CODE.FAILED_PRECONDITION, "certificate_too_old", str(error))
    for kind, answer in _FIXED.items():
        if type(error) is kind:
            return answer
    return _INTERNAL


def plain(text: str) -> str:
    """Text of a stranger, fit for a log and a terminal: printable ASCII, not too long."""
    shown = "".join(c if " " <= c <= "~" else ascii(c)[1:-1] for c in text[:_TEXT_CHARACTERS_MAX])
    return shown[:_TEXT_CHARACTERS_MAX]
