"""What a refused call means to the machine that made it."""

from __future__ import annotations

from collections.abc import Iterable

import grpc
import grpc.aio

from zlayer_native.enroll.answers import REASON_KEY, RETRY_AFTER_KEY, plain
from zlayer_native.enroll.retry import TryLater
from zlayer_native.errors import EnrollmentError, ProofRefused

#: Statuses that pass by themselves when there is no hint. Everything else stays as it is.
_PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
}
#: Longest wait that a server can ask for, seconds. Chosen.
_RETRY_AFTER_SECS_MAX = 300.0


class CallRefused(EnrollmentError):
    """The service said no. `reason` is stable."""

    def __init__(self, message: str, *, code: str = "UNKNOWN", reason: str = "") -> None:
        super().__init__(message, code=code)
        self.reason = reason


def failure(error: grpc.aio.AioRpcError, address: str) -> EnrollmentError:
    """The error for a call that failed at `address`."""
    metadata = _texts(error.trailing_metadata() or ())
    reason, hint = metadata.get(REASON_KEY, ""), metadata.get(RETRY_AFTER_KEY)
    code = error.code()
    text = f"{address}: {plain(error.details() or code.name)}"
    if hint is not None and hint.isascii() and hint.isdigit():
        wait_s = min(int(hint) / 1000, _RETRY_AFTER_SECS_MAX)
        return TryLater(text, code=code.name, retry_after_s=wait_s)
    if not reason and code in _PASSING:
        return EnrollmentError(text, code=code.name, retryable=True)
    if reason == "proof_refused":
        return ProofRefused(text, code=code.name)
    return CallRefused(text, code=code.name, reason=reason)


def _texts(metadata: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    return {key: value for key, value in metadata if isinstance(value, str)}
