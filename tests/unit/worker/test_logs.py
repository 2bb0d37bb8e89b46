"""A daemon's log: one line for each record, structured, and without secrets."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator

import pytest
import structlog

from zlayer_native.cli import logs


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """What was written to standard error; every logger is as before afterwards."""
    root, ours = logging.getLogger(), logging.getLogger("zlayer")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield lambda: capsys.readouterr().err
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    structlog.reset_defaults()


def test_off_a_terminal_a_line_is_an_object(told: Callable[[], str]):
    logs.configure("info", "auto")
    structlog.get_logger("zlayer.a").info("up", port=1)
    logging.getLogger("zlayer.b").warning("plain %s", "text")
    first, second = [json.loads(line) for line in told().splitlines()]
    assert list(first) == ["timestamp", "level", "logger", "event", "port"]
    assert (first["level"], first["logger"], first["event"]) == ("info", "zlayer.a", "up")
    assert (second["level"], second["event"]) == ("warning", "plain text")


@pytest.mark.parametrize(
    ("level", "ours", "others"),
    [
        ("debug", ["debug", "info", "error"], ["info", "error"]),
        ("info", ["info", "error"], ["error"]),
        ("error", ["error"], ["error"]),
    ],
)
def test_libraries_are_quieter_than_we(
    told: Callable[[], str], level: logs.Level, ours: list[str], others: list[str]
):
    logs.configure(level, "json")
    for name in ("zlayer.x", "uvicorn"):
        for method in ("debug", "info", "error"):
            getattr(logging.getLogger(name), method)(method)
    seen = [json.loads(line) for line in told().splitlines()]
    assert [line["event"] for line in seen if line["logger"] == "zlayer.x"] == ours
    assert [line["event"] for line in seen if line["logger"] == "uvicorn"] == others


KEY = "-----BEGIN PRIVATE KEY-----\nQUJDREVGR0g\n-----END PRIVATE KEY-----\n"
SECRETS = ["zlt1" + "A" * 60, "zlat_" + "b" * 43, KEY, KEY[:40]]


@pytest.mark.parametrize("secret", SECRETS, ids=["token", "api secret", "key", "half a key"])
@pytest.mark.parametrize("format_", ["json", "text"])
def test_a_secret_that_somebody_logs_is_hidden(
    told: Callable[[], str], format_: logs.Format, secret: str
):
    logs.configure("info", format_)
    log = structlog.get_logger("zlayer.a")
    log.info("a field", value=secret, after=1)
    log.info(f"in the text {secret}")
    logging.getLogger("x").error("an argument: %s", secret)
    try:
        raise ValueError(secret)
    except ValueError:
        log.exception("a traceback")
    text = told()
    for hidden in ("A" * 16, "b" * 16, "QUJD"):
        assert hidden not in text
    assert text.count("***") == 4
    if format_ == "json":
        assert json.loads(text.splitlines()[0])["after"] == 1


def test_local_variables_are_not_shown_beside_a_traceback(told: Callable[[], str]):
    logs.configure("info", "text")
    password = "hunter2hunter2"
    try:
        raise ValueError(str(len(password)))
    except ValueError:
        structlog.get_logger("zlayer.a").exception("bad")
    text = told()
    assert "ValueError: 14" in text
    assert password not in text
