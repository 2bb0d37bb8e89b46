"""Errors that cross from the helper process to the worker, as JSON."""

from __future__ import annotations

from typing import Any

from zlayer_native import errors
from zlayer_native.errors import EnrollmentError, ZLayerError

#: What an error may have beside its message and notes.
_FIELDS = ("code", "retryable", "reason")
#: The service's word for a node that is not a member any more.
_REMOVED = "node_removed"


class NodeRemoved(EnrollmentError):
    """The cluster has removed this node: its certificate is of no use from then on."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="PERMISSION_DENIED")


def pack(error: ZLayerError) -> dict[str, Any]:
    """The error as plain data. A class that is not public becomes its nearest public base."""
    public = (kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
    return {
        "kind": next(public).__name__,
        "message": str(error),
        "notes": list(getattr(error, "__notes__", ())),
        "fields": {name: getattr(error, name) for name in _FIELDS if hasattr(error, name)},
    }


def unpack(data: dict[str, Any]) -> ZLayerError:
    """The error that was packed; `NodeRemoved` where that was the reason."""
    if data["fields"].get("reason") == _REMOVED:
        return NodeRemoved(data["message"])
    kind: type[ZLayerError] = getattr(errors, data["kind"])
    error = kind(data["message"])
    for name, value in data["fields"].items():
        setattr(error, name, value)
    for note in data["notes"]:
        error.add_note(note)
    return error
