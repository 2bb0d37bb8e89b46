"""How one value is written as text: in a variable, or in a flag that takes any key.

a list of addresses    10.0.0.1:3670,10.0.0.2:3670          or JSON
labels                 zone=eu-1,gpu=a100                   or JSON
a list of blocks       [{"id": 1, "raft_addr": …}, …]       JSON only
everything else        as in YAML: 15, 15s, eu-1, null, nothing at all for null
"""

from __future__ import annotations

from zlayer_native.config.builder import SOURCE_BYTES_MAX, Builder
from zlayer_native.config.json_source import read_json
from zlayer_native.config.keys import kinds
from zlayer_native.config.origins import Origin, Path, Plain
from zlayer_native.config.problems import Problem, SyntaxProblem


def read_text(text: str, path: Path, origin: Origin) -> tuple[object, list[Problem]]:
    """The plain value that the text stands for at this path, and what is wrong within it.

    Raises:
        SyntaxProblem: it can't be read.
    """
    if len(text) > SOURCE_BYTES_MAX:
        raise SyntaxProblem("too long", expected=f"at most {SOURCE_BYTES_MAX} bytes")
    kind = kinds().get(path, "text")
    if kind == "text":
        return Plain(text), []
    if text.lstrip()[:1] in ("[", "{") or kind == "blocks":
        builder = Builder(lambda _: origin, path)
        read_json(text, builder)
        return builder.value, builder.problems
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    return (_labels(parts) if kind == "map" else [Plain(part) for part in parts]), []


def _labels(parts: list[str]) -> dict[str, Plain]:
    labels: dict[str, Plain] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals:
            raise SyntaxProblem("a label without a value", expected="key=value,key=value, or JSON")
        if key in labels:
            raise SyntaxProblem("a label is given twice", expected="each label once")
        labels[key] = Plain(value)
    return labels
