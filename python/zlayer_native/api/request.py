"""Reading what a caller sent, strictly: a wrong or unknown field is named, nothing is guessed."""

from __future__ import annotations

import json
import re
from typing import Any

from starlette.requests import Request

from zlayer_native.api.problem import Problem

#: Names, label keys and label values of the whole project.
NAME = re.compile(r"[a-z0-9]([-a-z0-9_.]{0,61}[a-z0-9])?")

#: Labels of a node or a token.
LABELS_MAX = 32


def invalid(field: str, why: str) -> Problem:
    """A field that can't be used."""
    return Problem(400, "invalid_request", f"{field}: {why}")


def query(request: Request, *known: str) -> None:
    """Refuses query parameters that nobody reads, since a typo would be ignored silently."""
    for name in request.query_params:
        if name not in known:
            raise invalid(name, f"unknown parameter; there are {', '.join(known) or 'none'}")


def query_int(request: Request, name: str, default: int, low: int, high: int) -> int:
    """A whole number from the query, `low..=high`."""
    text = request.query_params.get(name)
    if text is None:
        return default
    return whole(name, text, low, high)


def whole(name: str, text: str, low: int, high: int) -> int:
    """A whole number written in decimal digits, `low..=high`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and low <= int(text) <= high):
        raise invalid(name, f"expected a whole number from {low} to {high}")
    return int(text)


async def body(request: Request, *known: str) -> dict[str, Any]:
    """The request's JSON object; only `known` keys may be in it."""
    try:
        document = json.loads(await request.body() or b"{}")
    except (ValueError, RecursionError):
        raise invalid("body", "expected a JSON object") from None
    if not isinstance(document, dict):
        raise invalid("body", "expected a JSON object")
    for key in document:
        if key not in known:
            raise invalid(str(key)[:64], f"unknown field; there are {', '.join(known)}")
    return document


def integer(document: dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    """A whole number field, `low..=high`."""
    value = document.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise invalid(name, f"expected a whole number from {low} to {high}")
    return value


def named(field: str, value: object) -> str:
    """A name, label key or label value."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise invalid(
            field, "expected 1 to 63 of a-z 0-9 - _ . that start and end with a letter or digit"
        )
    return value


def labels(field: str, value: object) -> dict[str, str]:
    """A map of labels."""
    if not isinstance(value, dict) or len(value) > LABELS_MAX:
        raise invalid(field, f"expected an object of at most {LABELS_MAX} labels")
    return {named(field, key): named(f"{field}.{key}", item) for key, item in value.items()}
