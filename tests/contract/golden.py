"""The golden documents: what Rust and Python must agree on, written down once.

`commands.json` is one story, told to a new control state line by line. In it `$in MS` is a Unix
time MS milliseconds from now, and `$key N` the hash of key number N. `views.json` gives the fields
of every document that the core shows, `names.json` every stable name.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).with_name("golden")
_ROOT = Path(__file__).parents[2]


def load(name: str) -> Any:
    """A golden document."""
    return json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def filled(value: Any) -> Any:
    """A golden value with its placeholders replaced."""
    match value:
        case dict():
            return {key: filled(item) for key, item in value.items()}
        case list():
            return [filled(item) for item in value]
        case str() if value.startswith("$in "):
            return int(time.time() * 1000) + int(value.removeprefix("$in "))
        case str() if value.startswith("$key "):
            return format(int(value.removeprefix("$key ")), "064x")
    return value


def mismatch(document: Any, shape: Any, where: str = "") -> list[str]:
    """How a document differs from its golden shape; empty if it does not."""
    match shape:
        case {"*": each}:
            if not isinstance(document, dict):
                return [f"{where}: {document!r} is no map"]
            return [why for key in document for why in mismatch(document[key], each, f"{where}.*")]
        case dict():
            if not isinstance(document, dict) or document.keys() != shape.keys():
                return [f"{where}: {document!r} does not have the fields {sorted(shape)}"]
            return [
                why
                for key in shape
                for why in mismatch(document[key], shape[key], f"{where}.{key}")
            ]
        case [each]:
            if not isinstance(document, list):
                return [f"{where}: {document!r} is no list"]
            return [why for item in document for why in mismatch(item, each, f"{where}[]")]
    fits = {
        "whole": type(document) is int and document >= 0,
        "text": isinstance(document, str),
        "truth": isinstance(document, bool),
    }
    kind, _, or_null = shape.partition(" or ")
    is_right = fits[kind] or (or_null == "null" and document is None)
    return [] if is_right else [f"{where}: {document!r} is no {shape}"]


def rust_names(path: str, enum: str) -> list[str]:
    """The variants of a Rust enum in snake case, as serde writes them."""
    source = (_ROOT / "rust" / path).read_text(encoding="utf-8")
    body = source.split(f"pub enum {enum} {{", 1)[1].split("\n}", 1)[0]
    variants = [
        line.strip().rstrip(",{ ").split("(")[0]
        for line in body.splitlines()
        if line.startswith("    ") and line[4].isupper()
    ]
    return ["".join(f"_{c.lower()}" if c.isupper() else c for c in v)[1:] for v in variants]
