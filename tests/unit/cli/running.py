"""Runs `zlayerd` verbs in this process, and checks what holds for every run of every verb."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import unicodedata
from dataclasses import dataclass, field
from typing import Any

import pytest

from zlayer_native.cli.main import run

ZLAYERD = [sys.executable, "-m", "zlayer_native.cli"]


@dataclass
class Done:
    """A run that ended."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        """The columns of a plain table."""
        return [re.split(r" {2,}", line) for line in self.out.splitlines()]


@dataclass
class Zlayerd:
    """The command, as a person or a script runs it: not on a terminal."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    #: What no run may ever print.
    secrets: list[str] = field(default_factory=list)

    def __call__(self, *args: object, stdin: str = "", code: int = 0) -> Done:
        """Runs a verb and checks its exit code."""
        self.monkeypatch.setattr("sys.argv", ["zlayerd", *map(str, args)])
        stream = io.TextIOWrapper(io.BytesIO(stdin.encode()))
        self.monkeypatch.setattr("sys.stdin", stream)
        with pytest.raises(SystemExit) as ended:
            run()
        out, err = self.capsys.readouterr()
        done = Done(int(ended.value.code or 0), out, err)
        check_manners(done, self.secrets)
        assert done.code == code, done
        return done


def check_manners(done: Done, secrets: list[str]) -> None:
    """No secret, no traceback, nothing that a terminal would act on; an error says something."""
    for text in (done.out, done.err):
        assert "Traceback" not in text, done
        assert not [secret for secret in secrets if secret in text], "a secret was printed"
        hidden = {char for char in text if unicodedata.category(char)[0] == "C"} - {"\n"}
        assert not hidden, (hidden, done)
    if done.code not in (0, 130):
        assert done.err.strip(), done


def start(args: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
    """A verb in a process of its own, for what only a process has: signals, imports, pipes."""
    return subprocess.Popen(
        [*ZLAYERD, *args],
        env={name: value for name, value in env.items() if name != "PYTHONUNBUFFERED"},
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def lines_of(stream: Any, count: int) -> list[str]:
    """The next lines of a process's output, waited for."""
    return [stream.readline().rstrip("\n") for _ in range(count)]
