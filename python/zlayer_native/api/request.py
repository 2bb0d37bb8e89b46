"""Reading what a caller sent, strictly: a wrong or unknown field is named, nothing is guessed."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request

from zlayer_native.api.problem import Problem
from zlayer_native.config.labels import EXPECTED, LABELS_MAX, is_name


def invalid(field: str, why: str) -> Problem:
    """A field that can't be used."""
    return Problem(400, "invalid_request", f"{field}: {why}")


def query(request: Request, *known: str, repeatable: str = "") -> None:
    """Refuses query parameters that nobody reads, since a typo would be ignored silently.

    Args:
        request: whose query.
        known: parameters that may be given once.
        repeatable: the one that may be given more than once.
    """
    seen = set()
    for name, _ in request.query_params.multi_items():
        if name == repeatable:
            continue
        if name not in known:
            there_are = ", ".join(filter(None, (*known, repeatable))) or "none"
            raise invalid(name[:64], f"unknown parameter; there are {there_are}")
        if name in seen:
            raise invalid(name, "given twice")
        seen.add(name)


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
    content = await request.body()
    try:
        # From text: given bytes, the parser would also guess at UTF-16 and marks.
        text = content.decode() or "{}"
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise invalid("body", "expected a JSON object, each key once") from None
    if not isinstance(document, dict):
        raise invalid("body", "expected a JSON object")
    for key in document:
        if key not in known:
            raise invalid(str(key)[:64], f"unknown field; there are {', '.join(known)}")
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key is given twice")
    return document


def _no_constant(text: str) -> Any:
    raise ValueError(text)


def integer(document: dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    """A whole number field, `low..=high`."""
    value = document.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise invalid(name, f"expected a whole number from {low} to {high}")
    return value


def named(field: str, value: object) -> str:
    """A name, label key or label value."""
    if not isinstance(value, str) or not is_name(value):
        raise invalid(field, f"expected {EXPECTED}")
    return value


def labels(field: str, value: object) -> dict[str, str]:
    """A map of labels."""
    if not isinstance(value, dict) or len(value) > LABELS_MAX:
        raise invalid(field, f"expected an object of at most {LABELS_MAX} labels")
    return {named(field, key): named(f"{field}.{key}", item) for key, item in value.items()}


def names(field: str, value: object) -> list[str]:
    """A list of label keys, each once."""
    if not isinstance(value, list) or len(value) > LABELS_MAX:
        raise invalid(field, f"expected a list of at most {LABELS_MAX} label keys")
    found = [named(field, key) for key in value]
    if len(set(found)) != len(found):
        raise invalid(field, "a key is given twice")
    return found
