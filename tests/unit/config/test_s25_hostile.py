"""S25 and T37: files that mean harm get a named error, within 1 s and 50 MiB, and nothing else."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.config.documents import check_manners, refused
from tests.unit.config.measure import measure
from zlayer_native.config import load_config
from zlayer_native.config.builder import DEPTH_MAX, SOURCE_BYTES_MAX, VALUES_MAX
from zlayer_native.errors import ConfigError

MIB = 1024 * 1024
_STATIC = "cluster:\n  mode: static\n  node_id: 1\n  peers:\n"
_WORKER = "cluster:\n  mode: worker-tier\n  role: worker\n"


def _full(line: str) -> str:
    """As much of a repeated line as a file may hold, with `{n}` counted."""
    made: list[str] = []
    size = 0
    for number in range(VALUES_MAX - 10):
        made.append(line.replace("{n}", str(number)))
        size += len(made[-1])
        if size > SOURCE_BYTES_MAX - 200:
            return "".join(made[:-1])
    return "".join(made)


def _bomb() -> str:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for above, here in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{here}: &{here} [{', '.join([f'*{above}'] * 9)}]")
    return "\n".join(lines)


#: File, content, and how the first line of the report begins, behind the file's name.
HOSTILE: dict[str, tuple[str | bytes, str]] = {
    # Sizes.
    "2mib.yaml": ("a: 1\n" * (2 * MIB // 5), ": too long (expected at most 1048576 bytes)"),
    "2mib.toml": ("a = 1\n" * (2 * MIB // 6), ": too long (expected at most"),
    "2mib.json": ('{"a": "' + "x" * 2 * MIB + '"}', ": too long (expected at most"),
    "1byte-more.yaml": ("#" * (SOURCE_BYTES_MAX + 1), ": too long (expected at most"),
    # Aliases, anchors, tags, merge keys.
    "bomb.yaml": (_bomb(), ":1: a: the anchor 'a' (expected a value without an anchor)"),
    "anchors.yaml": (_full("k{n}: &a{n} x\n"), ":1: k0: the anchor 'a0'"),
    "alias.yaml": ("name: &n srv\nlog: {level: *n}\n", ":1: name: the anchor 'n'"),
    "alias-key.yaml": ("name: &n srv\n*n : x\n", ":1: name: the anchor 'n'"),
    "tag.yaml": ("name: !!python/object/apply:os.system [id]\n", ":1: name: the tag 'tag:yaml.o"),
    "tag-str.yaml": ("name: !!str 5\n", ":1: name: the tag 'tag:yaml.org,2002:str' (expected a"),
    "tag-own.yaml": ("name: !own x\n", ":1: name: the tag '!own' (expected a value without a t"),
    "tag-key.yaml": ("!!str name: x\n", ":1: name: the tag 'tag:yaml.org,2002:str'"),
    "merge.yaml": ("http:\n  <<: {bind: a}\n", ':2: http."<<": a merge key (expected the keys '),
    # Twice.
    "twice.yaml": ("name: a\nlog: {}\nname: a\n", ":3: name: given twice, first in line 1 (exp"),
    "twice-deep.yaml": ("log:\n  level: info\n  level: info\n", ":3: log.level: given twice, f"),
    "twice-block.yaml": ("log: {}\nlog:\n  lvl: x\n", ":2: log: given twice, first in line 1"),
    "twice.json": ('{"name": "a",\n"name": "a"}', ":2: name: given twice, first in line 1 (exp"),
    "twice.toml": ('name = "a"\nname = "a"\n', ":2: not TOML, cannot overwrite a value"),
    "twice-table.toml": ("[log]\n[log]\n", ":2: not TOML, cannot declare ('log',) twice"),
    "all-twice.yaml": (_full("a: 1\n"), ":2: a: given twice, first in line 1"),
    "all-twice.json": ("{" + '"a": 1,\n' * 10_000 + '"a": 1}', ":2: a: given twice, first in li"),
    # Depth.
    "deep-flow.yaml": ("[" * MIB, ":1: not YAML, exceeded maximum nesting depth"),
    "deep-maps.yaml": ("{a: " * (MIB // 4), ":1: nested deeper than 32"),
    "deep-dashes.yaml": ("- " * (MIB // 2), ":1: nested deeper than 32"),
    "deep-blocks.yaml": ("".join(" " * n + "a:\n" for n in range(1400)), ":33: nested deeper than"),
    "deep-keys.yaml": ("? " * (MIB // 2), ":1: a list or a block as a key (expected text)"),
    "deep-list.json": ("[" * MIB, ":1: nested deeper than 32"),
    "deep-map.json": ('{"a":' * (MIB // 5), ":1: nested deeper than 32"),
    "deep-list.toml": ("a = " + "[" * (MIB - 4), ":1: nested deeper than 32"),
    "deep-map.toml": ("a = " + "{a=" * 340_000, ":1: nested deeper than 32"),
    "dots.toml": ("a." * 520_000 + "a = 1", ":1: a key of more than 4 parts"),
    "header-dots.toml": ("[" + "a." * 520_000 + "a]", ":1: a key of more than 4 parts"),
    # Many.
    "unknown.yaml": (_full("k{n}: 1\n"), ":1: k0: unknown key (expected one of name, data_dir"),
    "unknown.json": ("{" + _full('"k{n}": 1,\n') + '"k": 1}', ":1: k0: unknown key (expected o"),
    "unknown.toml": (_full("k{n} = 1\n"), ":1: k0: unknown key (expected one of name, data_dir"),
    "near.yaml": ("cluster:\n" + _full("  heartbeat_min_tt{n}: 1\n"), ":2: cluster.heartbeat_mi"),
    "headers.toml": (_full("[k{n}]\n"), ":1: k0: unknown key (expected one of"),
    "deep-headers.toml": (_full("[a.b.c.d{n}]\n"), ":1: a: unknown key (expected one of"),
    "dotted.toml": (_full("a.b.c.k{n} = 1\n"), ":1: a: unknown key (expected one of"),
    "tables.toml": (_full("[[a]]\n"), ":1: a: unknown key (expected one of"),
    "values.yaml": ("k:\n" + "-\n" * (MIB // 2 - 2), ":20000: more than 20000 values"),
    "values.json": ("[" + "1,\n" * 300_000 + "1]", ":20000: more than 20000 values"),
    "values.toml": ("a = [\n" + "1,\n" * 300_000 + "]", ":20001: more than 20000 values"),
    "wrong-peers.yaml": (_STATIC + "    - {a: 1, b: 2, c: 3, d: 4, e: 5, f: 6, g: 7}\n" * 1000,
                         ":5: cluster.peers[0].api_addr: missing (expected a value, a peer needs"),
    "endless-peers.yaml": (_STATIC + _full("    - x\n"), ":4: cluster.peers: 19990 peers (exp"),
    "one-peer.yaml": (_STATIC + "    - {" + _full("k{n}: 1,") + "a: 1}", ":5: cluster.peers[0].a"),
    "labels.yaml": (_WORKER + "  servers: [a:1]\n  labels:\n" + _full("    k{n}: X\n"),
                    ":5: cluster.labels: 19990 labels (expected at most 32)"),
    "servers.yaml": (_WORKER + "  servers:\n" + _full("    - h{n}\n"),
                     ":4: cluster.servers: 19990 servers (expected 1..64 of host:port)"),
    # Long.
    "long-value.yaml": ("name: " + "x" * (MIB - 10), ":1: name: text that looks like a secret"),
    "long-key.yaml": ("x" * (MIB - 10) + ": 1", ":1: not YAML, mapping values are not allowed"),
    "long-quotes.yaml": ('name: "' + "\\n" * (MIB // 2 - 10) + '"', ":1: name: '\\n\\n\\n"),
    "folded.yaml": ("name: >\n" + "  x\n" * 250_000, ":1: name: 'x x x x x x x x x x x x x x "),
    "long-string.json": ('{"name": "' + "x\\u0020" * 140_000 + '"}', ":1: name: 'x x x x x "),
    "long-string.toml": ('name = "' + "\\n" * (MIB // 2 - 10) + '"', ":1: name: '\\n\\n\\n"),
    "multi-line.toml": ('name = """' + "\\n\n" * (MIB // 3 - 10) + '"""', ":1: name: '\\n\\n"),
    "unended.toml": ('name = """' + '""\n' * (MIB // 3 - 10), ":349516: not TOML, untermin"),
    "quotes.toml": ('"' * MIB, ":1: not TOML, expected '=' after a key"),
    "long-word.toml": ("x" * MIB, ":1: not TOML, expected '=' after a key"),
    # Numbers.
    "huge.yaml": ("cluster: {mode: raft, node_id: " + "9" * 1_000_000 + "}",
                  ":1: cluster.node_id: got a huge integer (expected an integer in 1..90071992"),
    "huge.json": ('{"a": ' + "9" * 1_000_000 + "}", ":1: a number of 1000000 characters (expect"),
    "huge.toml": ("a = " + "9" * 1_000_000, ":1: a number of 1000000 characters (expected a nu"),
    "hex.toml": ("[cluster]\nmode = 'raft'\nnode_id = 0x" + "f" * 300, ":3: cluster.node_id: a hu"),
    "float.json": ('{"cluster": {"mode": "raft",\n "node_id": 1e999}}', ":2: cluster.node_id: go"),
    "nan.json": ('{"name": NaN}', ":1: NaN is not JSON (expected a value)"),
    "infinity.json": ('{"name": Infinity}', ":1: Infinity is not JSON (expected a value)"),
    "nan.toml": ("[cluster]\nmode = 'raft'\nnode_id = nan", ":3: cluster.node_id: got nan (a fl"),
    "nan.yaml": ("cluster: {mode: raft, node_id: .nan}", ":1: cluster.node_id: got '.nan' (exp"),
    "octal.yaml": ("cluster: {mode: raft, node_id: 0o7}", ":1: cluster.node_id: got '0o7' (exp"),
    "date.toml": ("name = 1979-05-27 07:32:00.5", ":1: name: got a datetime (expected 1-63 of "),
    "no-date.toml": ("name = 1979-99-27", ":1: not TOML, expected newline or end of d"),
    # Types that YAML guesses.
    "no.yaml": ("cluster: {mode: raft, node_id: no}", ":1: cluster.node_id: got 'no' (expected a"),
    "yes.yaml": ("cluster:\n  mode: static\n  heartbeat_interval: yes\n",
                 ":3: cluster.heartbeat_interval: not a duration: 'yes' (expected whole seconds"),
    # Letters.
    "utf8.yaml": (b"log: {}\nname: \xff\xfe", ":2: byte 0xff is not UTF-8"),
    "latin.toml": (b"name = '\xe4'", ":1: byte 0xe4 is not UTF-8"),
    "utf16.json": ('{"name": "a"}'.encode("utf-16"), ":1: UTF-16 (expected UTF-8)"),
    "utf16-be.json": ('{"name": "a"}'.encode("utf-16-be"), ":1: the character U+0000"),
    "bom.yaml": (b"\xef\xbb\xbfname: a", ":1: the character U+FEFF (expected text)"),
    "nul.yaml": ("log: {}\nname: a\0b", ":2: the character U+0000 (expected text)"),
    "escape.yaml": ("name: \x1b[31m", ":1: the character U+001B (expected text)"),
    "nul.json": ('{"name": "a\\u0000b"}', ":1: name: 'a\\x00b' is not a name"),
    "surrogate.json": ('{"name": "\\ud800"}', ":1: half of a surrogate pair (expected a string)"),
    "surrogate-key.json": ('{"\\ud800": 1}', ":1: half of a surrogate pair (expected a string)"),
    "tab.yaml": ("cluster:\n\tmode: raft\n", ":2: not YAML, found character that cannot start "),
    # Shapes.
    "list.yaml": ("- a\n", ":1: got a list (expected a block of keys)"),
    "scalar.yaml": ("zlayer\n", ":1: got 'zlayer' (expected a block of keys)"),
    "list.json": ("[1]", ":1: got a list (expected a block of keys)"),
    "number.json": ("5", ":1: got 5 (expected a block of keys)"),
    "documents.yaml": ("name: a\n---\nname: b\n", ":2: a second document begins (expected one d"),
    "open.yaml": ("log: {level: info\n", ":2: not YAML, did not find expected ',' or '}'"),
    "indent.yaml": ("log:\n  level: info\n format: text\n", ":3: not YAML, did not find expected"),
    "key.yaml": ("{[a]: 1}", ":1: a list or a block as a key (expected text)"),
    "empty.json": ("", ":1: the text ends early (expected a value)"),
    "open.json": ('{"name": "a"', ":1: the text ends early (expected a comma or })"),
    "comma.json": ('{"name": "a",}', ":1: not JSON, '}' stands here (expected a key in double"),
    "comma-list.json": ('{"a": [1,]}', ":1: not JSON, ']' stands here (expected a value)"),
    "no-colon.json": ('{"a" 1}', ":1: not JSON, '1' stands here (expected a colon after the ke"),
    "comment.json": ('{} // x', ":1: something behind the end (expected one value)"),
    "quotes.json": ("{'name': 1}", ":1: not JSON, \"'\" stands here (expected a key in double"),
    "newline.json": ('{"name": "a\nb"}', ":1: invalid control character at (expected a string)"),
    "string.json": ('{"name": "a', ":1: unterminated string starting at (expected a string)"),
    "zeros.json": ('{"a": 007}', ":1: not JSON, '0' stands here (expected a comma or })"),
    "value.toml": ("name = \n", ":1: not TOML, invalid value"),
    "bracket.toml": ("a = [ }\n", ":1: not TOML, invalid value"),
    "carriage.toml": ("a = 1\rb = 2\n", ":1: not TOML, expected newline or end of document"),
}  # fmt: skip


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("hostile")
    paths = [folder / name for name in HOSTILE]
    for path in paths:
        content = HOSTILE[path.name][0]
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = measure(paths)
    for each in found.values():
        told = each["problems"] or []
        each["problems"] = [line.replace(f"{folder}/", "") for line in told]
    return found


@pytest.mark.parametrize("name", HOSTILE)
def test_s25_a_hostile_file_gets_a_named_error_and_costs_little(
    costs: dict[str, dict[str, Any]], name: str
) -> None:
    cost = costs[name]
    problems = cost["problems"]
    assert problems, "it loaded"
    assert any(line.startswith(name + HOSTILE[name][1]) for line in problems), problems[:5]
    assert len(problems) <= 101
    check_manners(ConfigError("\n".join(problems), problems=problems))
    assert cost["cpu_s"] < 1.0
    assert cost["kib"] < 50 * 1024


def test_s25_harmless_files_of_the_same_size_load(tmp_path: Path) -> None:
    for name, text in {
        "comments.yaml": "#\n" * (MIB // 2),
        "comments.toml": "#\n" * (MIB // 2),
        "spaces.yaml": " " * MIB,
        "lines.toml": "\n" * MIB,
        "lines.json": "\n" * (MIB - 2) + "{}",
        "deep-enough.json": '{"cluster": {"mode": "single-node"}}',
    }.items():
        (tmp_path / name).write_text(text)
        assert load_config(tmp_path / name, env={}) == load_config(env={})


@pytest.mark.parametrize("form", ["yaml", "json", "toml"])
def test_s25_the_limit_of_depth_is_where_it_says(tmp_path: Path, form: str) -> None:
    def nested(depth: int) -> str:
        lists = "[" * (depth - 1) + "]" * (depth - 1)
        return {"yaml": f"a: {lists}", "json": f'{{"a": {lists}}}', "toml": f"a = {lists}"}[form]

    (line,) = refused(tmp_path / f"a.{form}", nested(DEPTH_MAX))
    assert "unknown key" in line
    (line,) = refused(tmp_path / f"a.{form}", nested(DEPTH_MAX + 1))
    assert "nested deeper than 32" in line


def test_s25_only_plain_files_are_read(tmp_path: Path) -> None:
    fifo, listening, folder = tmp_path / "fifo.yaml", tmp_path / "socket.yaml", tmp_path / "a.yaml"
    os.mkfifo(fifo)
    folder.mkdir()
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    secret = tmp_path / "missing.yaml"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(listening))
        for path, told in {
            fifo: "is a pipe (expected a file)",
            folder: "is a folder (expected a file)",
            Path("/dev/zero"): "is a device (expected a file)",
            listening: "can't be opened: No such device or address",
            loop: "can't be opened: Too many levels of symbolic links",
            secret: "can't be opened: No such file or directory",
            tmp_path / ("x" * 300): "can't be opened: File name too long",
        }.items():
            with pytest.raises(ConfigError) as caught:
                load_config(path, env={})
            assert [line.split(": ", 1)[1] for line in caught.value.problems] == [told]
    for name in ("a\0b", "\x1b[31m.yaml"):
        with pytest.raises(ConfigError) as caught:
            load_config(name, env={})
        check_manners(caught.value)


def test_s25_a_file_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(*args: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", deny)
    with pytest.raises(ConfigError, match=r"a\.yaml: can't be opened: Permission denied"):
        load_config(tmp_path / "a.yaml", env={})


#: Bits of all three languages, so that random text gets past their first lines.
_SHARDS = [
    "name", "cluster", "mode", "worker-tier", "peers", "servers", "labels", "a", "1", "10s", "no",
    ":", ": ", "- ", "[", "]", "{", "}", ",", "=", " = ", ".", "\"", "'", "'''", '"""', "\\", "#",
    "\n", "\n  ", "\n\n", " ", "\t", "&a", "*a", "!!str ", "<<", "|", ">", "---", "%YAML 1.1",
    "1e9", "nan", "0x1", "\\u0041", "null", "true", "ä", "\u2028", "\r\n", "[[", "]]", "? ",
]  # fmt: skip
_shards = st.lists(st.sampled_from(_SHARDS), max_size=40).map("".join)
_texts = (_shards | st.text(max_size=80)).map(lambda text: text.encode("utf-8", "surrogatepass"))


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(["yaml", "toml", "json", "conf"]), _texts | st.binary(max_size=80))
@example("yaml", b"? ? a")
@example("toml", b"[[a]]\n[a.b]\n[[a]]")
@example("toml", b"a = [{b = 1}, {b.c = 2}]\n")
@example("json", b'{"a": {"b": [}')
def test_s25_whatever_the_bytes_it_loads_or_says_why(
    tmp_path_factory: pytest.TempPathFactory, form: str, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / f"fuzzed.{form}"
    path.write_bytes(content)
    try:
        load_config(path, env={})
    except ConfigError as error:
        check_manners(error)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["ZLAYER_CLUSTER__PEERS", "ZLAYER_CLUSTER__LABELS", "ZLAYER_NAME"])
        | st.text(max_size=10).map(lambda text: f"ZLAYER_{text}"),
        _shards | st.text(max_size=40),
    )
)
def test_s25_whatever_the_environment_it_loads_or_says_why(env: dict[str, str]) -> None:
    try:
        load_config(env=env)
    except ConfigError as error:
        check_manners(error)
