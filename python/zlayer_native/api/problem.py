"""Errors as the API tells them: `{"error": {"code", "message", "hint"}}`."""

from __future__ import annotations

from starlette.responses import JSONResponse

from zlayer_native import errors

#: Characters of a message. Chosen: it may quote the caller, who may send much.
_MESSAGE_CHARACTERS_MAX = 500


class Problem(Exception):
    """A request that is answered with an error status."""

    def __init__(self, status: int, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = shown(message, _MESSAGE_CHARACTERS_MAX)
        self.hint = hint

    def response(self, headers: dict[str, str] | None = None) -> JSONResponse:
        """The answer."""
        body = {"error": {"code": self.code, "message": self.message, "hint": self.hint}}
        return JSONResponse(body, status_code=self.status, headers=headers)


def shown(text: str, characters_max: int) -> str:
    """A stranger's text, fit for a log and a terminal: cut, and escaped where not printable.

    That also covers half surrogate pairs, which JSON can bring in and UTF-8 can't carry out.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:characters_max])


#: Most specific first: the first class that fits decides (status, code, hint).
_MAP: tuple[tuple[type[errors.ZLayerError], int, str, str], ...] = (
    (errors.NodeNotFound, 404, "node_not_found", "list the nodes with `zlayerd node ls`"),
    (errors.TokenNotFound, 404, "token_not_found", "list the tokens with `zlayerd token ls`"),
    (errors.ServerNotFound, 404, "server_not_found", "list the servers with `zlayerd raft peers`"),
    (errors.InvalidRequest, 400, "invalid_request", ""),
    (errors.LabelNotPermitted, 400, "label_not_permitted", ""),
    (errors.LimitReached, 409, "limit_reached", ""),
    (errors.Refused, 409, "refused", ""),
    (errors.ServersUnchanged, 409, "servers_unchanged", "see `zlayerd raft peers`"),
    (
        errors.OutcomeUnknown,
        503,
        "outcome_unknown",
        "it may have been done: look before you repeat it",
    ),
    (errors.Overloaded, 503, "overloaded", "try again in a second"),
    (errors.NotLeader, 503, "not_leader", "ask another server"),
    (errors.NoLeader, 503, "no_leader", "no server leads at the moment; try again"),
    (errors.CoreStopped, 503, "core_stopped", "the server is stopping; see its log"),
)


def problem_of(error: errors.ZLayerError) -> Problem:
    """What a caller is told about `error`; an unexpected one keeps its details to the log."""
    for kind, status, code, hint in _MAP:
        if isinstance(error, kind):
            if isinstance(error, errors.Refused | errors.ServersUnchanged):
                code = code if error.code in ("refused", "invalid") else error.code
            return Problem(status, code, str(error), hint)
    return Problem(500, "internal", "the server could not do this", "see the server's log")
