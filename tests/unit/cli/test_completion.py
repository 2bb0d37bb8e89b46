"""The completion scripts; bash's is run in bash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.running import Zlayerd
from tests.unit.cli.terminal import terminal
from zlayer_native.cli.main import _VERBS

BASH = shutil.which("bash")
needs_bash = pytest.mark.skipif(BASH is None, reason="there is no bash")


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH on which `zlayerd` is this very package."""
    program = tmp_path / "bin" / "zlayerd"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m zlayer_native.cli "$@"\n')
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def complete(path: str, *words: str) -> list[str]:
    """What bash would offer for the last word."""
    script = (
        'eval "$(zlayerd completion bash)"\n'
        'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))\n'
        'handler=$(complete -p zlayerd | sed -E "s/.*-F ([^ ]+) .*/\\1/")\n'
        "$handler zlayerd\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        [str(BASH), "--norc", "-c", script, "bash", *words],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@needs_bash
def test_bash_completes_every_verb(path: str) -> None:
    assert complete(path, "zlayerd", "") == [name for name, _, _ in _VERBS]


@needs_bash
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["zlayerd", "sta"], ["status"]),
        (["zlayerd", "no"], ["node"]),
        (["zlayerd", "node", ""], ["ls", "inspect", "remove", "drain", "undrain"]),
        (["zlayerd", "token", "re"], ["revoke"]),
        (["zlayerd", "completion", ""], ["bash", "zsh", "fish"]),
        (["zlayerd", "node", "ls", "--st"], ["--status"]),
        (["zlayerd", "node", "ls", "-o", "j"], ["json"]),
        (["zlayerd", "node", "ls", "--status", "S"], ["Suspect"]),
        (["zlayerd", "events", "--type", "drain_s"], ["drain_started", "drain_stopped"]),
        (["zlayerd", "nothing", ""], [name for name, _, _ in _VERBS]),
    ],
)
def test_bash_completes(path: str, words: list[str], offered: list[str]) -> None:
    assert complete(path, *words) == offered


@needs_bash
def test_a_person_presses_tab(path: str) -> None:
    env = {"PATH": path, "PS1": "ready> ", "HISTFILE": "/dev/null"}
    with terminal([str(BASH), "--norc", "--noprofile", "-i"], env) as running:
        running.read(until="ready> ")
        running.type('eval "$(zlayerd completion bash)"; echo set-$((40 + 2))\n')
        running.read(until="set-42")
        running.type("zlayerd stat\t")
        running.read(until="zlayerd status ")


@pytest.mark.parametrize(
    ("shell", "says"),
    [
        ("bash", "complete -o default -F _zlayerd_completion zlayerd"),
        ("zsh", "compdef _zlayerd_completion zlayerd"),
        ("fish", "complete --command zlayerd"),
    ],
)
def test_each_script_asks_by_the_variable_that_the_command_knows(
    alone: Zlayerd, shell: str, says: str
) -> None:
    out = alone("completion", shell).out
    assert says in out
    assert f"_ZLAYERD_COMPLETE=complete_{shell}" in out


@pytest.mark.parametrize(
    ("shell", "variable"), [("zsh", "_TYPER_COMPLETE_ARGS"), ("fish", "_TYPER_COMPLETE_ARGS")]
)
def test_the_others_get_their_words_too(path: str, shell: str, variable: str) -> None:
    """Without these shells at hand: the answer to the question that their scripts ask."""
    env = {
        "PATH": path, "_ZLAYERD_COMPLETE": f"complete_{shell}", variable: "zlayerd node u",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }  # fmt: skip
    done = subprocess.run(
        ["zlayerd"], env={**os.environ, **env}, capture_output=True, text=True, check=True
    )
    assert "undrain" in done.stdout
    assert "inspect" not in done.stdout


def test_another_shell_is_wrong_usage(alone: Zlayerd) -> None:
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in alone("completion", "tcsh", code=2).err
