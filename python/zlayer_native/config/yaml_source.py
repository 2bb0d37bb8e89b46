"""YAML as configuration needs it: no aliases, no tags, no merge keys, nothing twice.

PyYAML's parser gives events, and those are built into plain data here: its loader would follow
aliases, keep the last of two equal keys, recurse, and read `no` as a boolean.
"""

from __future__ import annotations

from typing import Any

import yaml

from zlayer_native.config.builder import Builder
from zlayer_native.config.origins import Plain
from zlayer_native.config.problems import SyntaxProblem, shown

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(text: str, builder: Builder) -> None:
    """Reads one document into the builder. A plain scalar becomes `Plain`: the schema types it.

    Raises:
        SyntaxProblem: the text can't be read on.
    """
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            _take(event, builder)
    except yaml.MarkedYAMLError as error:
        raise _explained(error, text) from None
    except yaml.YAMLError as error:  # The reader's: a character that YAML has not.
        raise SyntaxProblem(" ".join(str(error).split())) from None


def _take(event: Any, builder: Builder) -> None:
    line = event.start_mark.line + 1
    if isinstance(event, yaml.DocumentStartEvent) and builder.value is not None:
        raise SyntaxProblem("a second document begins", line=line, expected="one document")
    if isinstance(event, yaml.AliasEvent):
        if builder.wants_key:
            raise SyntaxProblem("an alias as a key", line=line, expected="text")
        told = f"the alias {shown(event.anchor)}"
        builder.wrong(told, line, expected="its value written out", unread=True)
        builder.scalar(None, line)
    elif isinstance(event, yaml.ScalarEvent):
        _scalar(event, builder, line)
    elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
        if builder.wants_key:
            raise SyntaxProblem("a list or a block as a key", line=line, expected="text")
        _refuse_properties(event, builder, line)
        builder.open({} if isinstance(event, yaml.MappingStartEvent) else [], line)
    elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
        builder.close()


def _scalar(event: Any, builder: Builder, line: int) -> None:
    value = event.value if event.style else Plain(event.value)
    if not builder.wants_key:
        _refuse_properties(event, builder, line)
        builder.scalar(value, line)
        return
    builder.key(event.value, line)
    _refuse_properties(event, builder, line)
    if isinstance(value, Plain) and value == "<<":
        builder.wrong("a merge key", line, expected="the keys themselves", unread=True)


def _refuse_properties(event: Any, builder: Builder, line: int) -> None:
    if event.tag is not None:
        builder.wrong(f"the tag {shown(event.tag)}", line, expected="a value without a tag")
    if event.anchor is not None:
        builder.wrong(
            f"the anchor {shown(event.anchor)}", line, expected="a value without an anchor"
        )


def _explained(error: yaml.MarkedYAMLError, text: str) -> SyntaxProblem:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark is not None else 0
    said = " ".join(part for part in (error.problem, error.context) if part)
    lines = text.split("\n", line)
    if 0 < line <= len(lines) and "\t" in lines[line - 1]:
        return SyntaxProblem(f"not YAML, {said}", line=line, expected="spaces instead of tabs")
    return SyntaxProblem(f"not YAML, {said}", line=line)
