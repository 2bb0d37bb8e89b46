"""What a person on a terminal gets: tables, colours, questions; and what NO_COLOR takes away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli.fake_cluster import FakeCluster
from tests.unit.cli.running import ZLAYERD
from tests.unit.cli.terminal import Terminal, terminal

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
GREEN, RED = "\x1b[32m", "\x1b[31m"


@pytest.fixture(autouse=True)
def nodes(cluster: FakeCluster) -> None:
    cluster.book.add_node(1000, "w00", labels={"gpu": "a100"})
    cluster.book.add_node(1001, "w01", "Unreachable", labels={"note": "[red]x[/red] :smile:"})


def shown(settings: dict[str, str], *args: str, columns: int = 120, **env: str) -> str:
    with terminal([*ZLAYERD, *args], {**settings, **env}, columns) as running:
        assert running.end() == 0, running.text
        return running.read()


def test_states_have_colours(settings: dict[str, str]) -> None:
    text = shown(settings, "node", "ls")
    assert f"{GREEN}Ready" in text
    assert f"{RED}Unreachable" in text
    assert COLOUR.sub("", text).splitlines()[0].split() == [
        "ID", "NAME", "STATE", "REASON", "SINCE", "LAST", "BEAT", "TTL", "LABELS",
    ]  # fmt: skip


def test_values_are_no_markup(settings: dict[str, str]) -> None:
    assert "note=[red]x[/red] :smile:" in COLOUR.sub("", shown(settings, "node", "ls"))


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_color_is_obeyed(settings: dict[str, str], env: dict[str, str]) -> None:
    text = shown(settings, "node", "ls", **env)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text)
    assert "Unreachable" in text
    assert "w00" in shown(settings, "node", "inspect", "1000", **env)


def test_an_empty_no_color_is_none(settings: dict[str, str]) -> None:
    assert f"{GREEN}Ready" in shown(settings, "node", "ls", NO_COLOR="")


def test_a_narrow_terminal_folds_and_cuts_nothing(
    settings: dict[str, str], cluster: FakeCluster
) -> None:
    cluster.book.add_node(1002, "abcdefghij" * 6)
    text = COLOUR.sub("", shown(settings, "node", "ls", columns=60))
    assert max(map(len, text.splitlines())) <= 60
    assert "…" not in text
    assert text.count("j") == 6


def test_facts_and_events_have_colours_too(settings: dict[str, str], cluster: FakeCluster) -> None:
    assert f"{RED}Unreachable" in shown(settings, "node", "inspect", "1001")
    assert "\x1b[33m1 Unreachable" in shown(settings, "status")
    cluster.book.add_event("unreachable")
    assert f"{RED}unreachable" in shown(settings, "events")


def test_documents_are_the_same_on_a_terminal(settings: dict[str, str]) -> None:
    for form in ("json", "yaml", "name"):
        assert "\x1b" not in shown(settings, "node", "ls", "-o", form)


def test_hostile_text_is_spelled_out(settings: dict[str, str], cluster: FakeCluster) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\b"
    cluster.book.add_node(1000, evil, labels={"a": evil}, address=evil, reason=evil)
    cluster.book.add_event("joined", node_name=evil, detail=evil)
    for args in (("node", "ls"), ("node", "ls", "-o", "wide"), ("node", "inspect", "1000"),
                 ("events",)):  # fmt: skip
        text = shown(settings, *args, columns=400)
        assert "\\x1b]0;owned\\x07" in text
        assert not re.search(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]", text)
        assert "\x1b" not in COLOUR.sub("", text)


@pytest.fixture
def asked(settings: dict[str, str]) -> Iterator[Terminal]:
    with terminal([*ZLAYERD, "node", "remove", "1000"], settings) as running:
        running.read(until="[y/N]: ")
        yield running


def test_remove_asks_and_a_yes_removes(asked: Terminal, cluster: FakeCluster) -> None:
    assert "Remove node 1000 (w00, Ready) for good? [y/N]: " in asked.text
    assert 1000 in cluster.book.nodes
    asked.type("y\n")
    assert asked.end() == 0
    assert "removed 1000 (w00)" in asked.text
    assert list(cluster.book.nodes) == [1001]


@pytest.mark.parametrize(("keys", "code"), [("n\n", 1), ("\n", 1), ("\x04", 1), ("\x03", 130)])
def test_anything_else_removes_nothing(
    asked: Terminal, cluster: FakeCluster, keys: str, code: int
) -> None:
    asked.type(keys)
    assert asked.end() == code
    assert "Traceback" not in asked.text
    assert 1000 in cluster.book.nodes


def test_following_draws_lines(settings: dict[str, str], cluster: FakeCluster) -> None:
    with terminal([*ZLAYERD, "events", "-f", "--after", "0"], settings) as running:
        running.read(until="REVISION")
        cluster.happen("unreachable")
        assert f"{RED}unreachable" in running.read(until="w00")
        running.type("\x03")
        assert running.end() == 130
        assert "Traceback" not in running.text


def test_an_error_is_spelled_out_as_well(settings: dict[str, str], tmp_path: Path) -> None:
    name = tmp_path / "a\x1b[2Jb"
    with terminal([*ZLAYERD, "status", "--token-file", name], settings) as running:
        assert running.end() == 5
    assert "a\\x1b[2Jb: No such file" in running.text
    assert "\x1b" not in running.text
