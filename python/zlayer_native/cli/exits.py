"""Exit codes. They are part of the interface: scripts and systemd read them."""

from __future__ import annotations

from zlayer_native import errors

OK = 0
ERROR = 1
USAGE = 2  # Also a mode that is not built.
DEGRADED = 3
NOT_FOUND = 4
NOT_ALLOWED = 5
UNREACHABLE = 6
CORE_STOPPED = 70
INTERRUPTED = 130

#: First match counts, so a subclass stands before its base.
_BY_CLASS: tuple[tuple[type[errors.ZLayerError], int], ...] = (
    (errors.NotSupported, USAGE),
    (errors.NodeNotFound, NOT_FOUND),
    (errors.TokenNotFound, NOT_FOUND),
    (errors.ServerNotFound, NOT_FOUND),
    (errors.TokenInvalid, NOT_ALLOWED),
    (errors.TokenUsedUp, NOT_ALLOWED),
    (errors.CoreStopped, CORE_STOPPED),
    (errors.NoLeader, UNREACHABLE),
    (errors.Unreachable, UNREACHABLE),
)
_BY_HTTP_STATUS = {401: NOT_ALLOWED, 403: NOT_ALLOWED, 404: NOT_FOUND, 503: UNREACHABLE}


def code_of(error: errors.ZLayerError) -> int:
    """The exit code of an error that ended the command."""
    code = _code_of_class(type(error))
    if code is None and isinstance(error, errors.ApiError):
        refusal = errors.REFUSALS.get(error.code)  # What a server refused, we would refuse alike.
        code = None if refusal is None else _code_of_class(refusal)
        return _BY_HTTP_STATUS.get(error.status, ERROR) if code is None else code
    if code is None and isinstance(error, errors.EnrollmentError):
        return UNREACHABLE if error.retryable else NOT_ALLOWED
    return ERROR if code is None else code


def _code_of_class(kind: type[errors.ZLayerError]) -> int | None:
    return next((code for base, code in _BY_CLASS if issubclass(kind, base)), None)
