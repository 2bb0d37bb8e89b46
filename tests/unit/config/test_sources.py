"""What is read as which language, and that our readers agree with the standard ones."""

from __future__ import annotations

import datetime
import json
import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.config.documents import load, refused
from zlayer_native.config.builder import Builder
from zlayer_native.config.json_source import read_json
from zlayer_native.config.origins import Origin
from zlayer_native.config.origins import Path as Keys
from zlayer_native.config.problems import SyntaxProblem
from zlayer_native.config.toml_source import read_toml
from zlayer_native.config.yaml_source import read_yaml


def _builder() -> Builder:
    return Builder(lambda line: Origin("file", "f", line))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "name: srv-1"),
        ("a.yml", "name: srv-1"),
        ("a.YAML", "{name: srv-1}"),
        ("a.toml", "name = 'srv-1'"),
        ("a.json", '{"name": "srv-1"}'),
        ("a", "name: srv-1"),
        ("a.conf", "# c\n\n  name = 'srv-1'"),
        ("a.conf", "[log]\n[http]\n"),
        ("a.conf", '\n{"name": "srv-1"}'),
        ("a.conf", "{}"),
        ("a.conf", "{name: srv-1}"),
        ("a.conf", "---\nname: srv-1\n...\n"),
        ("a.conf", "# only comments\n"),
        ("a.conf", "'name': srv-1"),
        ("a.yaml", "\nname: srv-1\r\nlog: {}\r\n"),
        ("a.toml", "name = 'srv-1'\r\n[log]\r\n"),
        ("a.json", '{"name":\t"srv-1"}\r\n'),
    ],
)
def test_the_languages_are_known_by_name_or_by_content(
    tmp_path: Path, name: str, text: str
) -> None:
    config = load(tmp_path / name, text, flags={"name": "srv-1"} if "srv-1" not in text else None)
    assert config.name == "srv-1"


def test_a_name_that_lies_is_told(tmp_path: Path) -> None:
    assert refused(tmp_path / "a.json", "name: x")[0].startswith("a.json:1: name is not JSON")
    assert refused(tmp_path / "a.toml", "name: x")[0].startswith("a.toml:1: not TOML, expected '='")
    assert refused(tmp_path / "a.yaml", "name = 'x'")[0].startswith("a.yaml:1: got \"name = 'x'\"")


_numbers = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
_scalars = st.none() | st.booleans() | _numbers | st.text(st.characters(codec="utf-8"), max_size=9)
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(_values, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_json_is_read_as_the_standard_library_reads_it(
    value: Any, indent: Any, ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    builder = _builder()
    read_json(text, builder)
    assert builder.value == json.loads(text)
    assert json.dumps(builder.value) == json.dumps(value)
    assert not builder.problems


@settings(max_examples=200, deadline=None)
@given(st.text('{}[]",:0123456789.eE+-truefalsn\\u \n', max_size=30))
def test_what_is_no_json_is_refused_by_both(text: str) -> None:
    def constant(name: str) -> Any:
        raise ValueError(name)

    try:
        wanted = json.loads(text, parse_constant=constant)
        encoded = json.dumps(wanted, ensure_ascii=False).encode()
    except ValueError:  # Also half a surrogate pair, which `json` lets pass.
        encoded = b""
    builder = _builder()
    try:
        read_json(text, builder)
    except SyntaxProblem:
        assert encoded == b""
        return
    assert encoded
    if not builder.problems:  # Equal keys, of which `json` keeps the last.
        assert json.dumps(builder.value, ensure_ascii=False).encode() == encoded


TOML = '''\
"quoted.key" = 1
'lit' = """
two
lines \\
   joined"""
dates = [1979-05-27T07:32:00Z, 1979-05-27 07:32:00, 07:32:00.5, 1979-05-27]
numbers = [
  1_000, 0xff, -1.5e3, # [ not a list ]
  inf, 5,
] # behind
raw = \'\'\'it's "quoted" = [\'\'\'
empty = [ ]
inline = {a = 1, b.c = [{d = 2}, {}], "e f" = ''}
dotted . key = true
"\\u0041\\t" = "a"

[table]
x = """"quotes" at the ends""""
[table.sub."deep er"]
y = 1
[[list]]
n = 1
[[list]]
n = 2
[[list.inner]]
m = 1
[list.inner.more]
k = 1
[[list.inner]]
m = 2
'''

#: The line of every key and item of the text above.
TOML_LINES: dict[Keys, int] = {
    ("quoted.key",): 1,
    ("lit",): 2,
    ("dates",): 6,
    ("dates", 0): 6,
    ("dates", 1): 6,
    ("dates", 2): 6,
    ("dates", 3): 6,
    ("numbers",): 7,
    ("numbers", 0): 8,
    ("numbers", 1): 8,
    ("numbers", 2): 8,
    ("numbers", 3): 9,
    ("numbers", 4): 9,
    ("raw",): 11,
    ("empty",): 12,
    ("inline",): 13,
    ("inline", "a"): 13,
    ("inline", "b"): 13,
    ("inline", "b", "c"): 13,
    ("inline", "b", "c", 0): 13,
    ("inline", "b", "c", 0, "d"): 13,
    ("inline", "b", "c", 1): 13,
    ("inline", "e f"): 13,
    ("dotted",): 14,
    ("dotted", "key"): 14,
    ("A\t",): 15,
    ("table",): 17,
    ("table", "x"): 18,
    ("table", "sub"): 19,
    ("table", "sub", "deep er"): 19,
    ("table", "sub", "deep er", "y"): 20,
    ("list",): 21,
    ("list", 0): 21,
    ("list", 0, "n"): 22,
    ("list", 1): 23,
    ("list", 1, "n"): 24,
    ("list", 1, "inner"): 25,
    ("list", 1, "inner", 0): 25,
    ("list", 1, "inner", 0, "m"): 26,
    ("list", 1, "inner", 0, "more"): 27,
    ("list", 1, "inner", 0, "more", "k"): 28,
    ("list", 1, "inner", 1): 29,
    ("list", 1, "inner", 1, "m"): 30,
}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_lines_of_toml_are_found(newline: str) -> None:
    builder = _builder()
    read_toml(TOML.replace("\n", newline), builder)
    assert builder.value == tomllib.loads(TOML)
    lines = {path: origin.line for path, origin in builder.origins.items() if path}
    assert lines == TOML_LINES


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[\n" + "".join(f"{_toml(item)}, # x\n" for item in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, float) and not math.isfinite(value):
        return "nan"
    return str(value).lower() if isinstance(value, bool | float) else str(value)


_toml_scalars = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=9)
    | st.dates()
    | st.datetimes(min_value=datetime.datetime(1000, 1, 1)).map(str)
)
_toml_keys = st.text(st.characters(codec="ascii", exclude_characters="\x7f"), max_size=4)
_toml_values = st.recursive(
    _toml_scalars.filter(lambda value: value != "nan"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_toml_keys, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(_toml_keys, _toml_values, max_size=4))
def test_every_value_of_toml_has_its_line(document: dict[str, Any]) -> None:
    text = "".join(f"{json.dumps(key)} = {_toml(value)}\n" for key, value in document.items())
    builder = _builder()
    read_toml(text, builder)
    assert repr(builder.value) == repr(tomllib.loads(text))
    line = 1
    for key, value in document.items():
        assert builder.origins[key,].line == line
        line += _toml(value).count("\n") + 1


_yaml_keys = st.text("abc:- #'", min_size=1, max_size=4)
_yaml_values = st.recursive(
    st.text(st.characters(codec="utf-8").filter(str.isprintable), max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_yaml_keys, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(_yaml_values, st.booleans())
def test_yaml_text_is_read_as_pyyaml_reads_it(value: Any, flow: bool) -> None:
    class NoAliases(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    text = yaml.dump(value, Dumper=NoAliases, default_flow_style=flow, allow_unicode=True)
    builder = _builder()
    read_yaml(text, builder)
    assert builder.value == value
    assert not builder.problems
