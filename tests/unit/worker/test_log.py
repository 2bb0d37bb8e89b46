"""The worker's lines: readable in any program, structured in the daemon, never a flood."""

from __future__ import annotations

import io
import logging
from datetime import timedelta

import pytest
import structlog

from tests.unit.worker.fakes import Clock
from zlayer_native.worker.log import Log, Repeats


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def logging_to(stream: io.StringIO, formatter: logging.Formatter | None = None) -> logging.Logger:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.getLogger("zlayer.test_log")
    logger.handlers[:], logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    return logger


def test_a_program_s_own_handler_gets_one_plain_line(stream: io.StringIO):
    logging_to(stream)
    Log("zlayer.test_log").info("connected", server="a:1", tries=2)
    assert stream.getvalue() == "connected server=a:1 tries=2\n"


def test_levels_are_the_program_s_own(stream: io.StringIO):
    logging_to(stream).setLevel(logging.WARNING)
    log = Log("zlayer.test_log")
    log.info("not this")
    log.warning("this")
    assert stream.getvalue() == "this\n"


def test_structlog_gets_the_fields(stream: io.StringIO):
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(sort_keys=True),
        ]
    )
    logging_to(stream, formatter)
    Log("zlayer.test_log").warning("connected", server="a:1")
    assert stream.getvalue() == '{"event": "connected", "server": "a:1"}\n'


def test_how_the_program_has_set_up_structlog_does_not_matter(
    stream: io.StringIO, capsys: pytest.CaptureFixture[str]
):
    logging_to(stream)
    structlog.configure(processors=[lambda *_: pytest.fail("not through here")])
    try:
        Log("zlayer.test_log").info("connected")
    finally:
        structlog.reset_defaults()
    assert stream.getvalue() == "connected\n"
    assert capsys.readouterr().out == ""


def test_a_record_names_where_it_was_written(stream: io.StringIO):
    logging_to(stream, logging.Formatter("%(filename)s %(funcName)s"))
    Log("zlayer.test_log").error("here")
    assert stream.getvalue() == "test_log.py test_a_record_names_where_it_was_written\n"


def test_the_same_cause_is_due_once_a_minute_and_another_one_at_once():
    clock = Clock()
    repeats = Repeats(clock.monotonic)
    due = [repeats.due(text) for text in ["a", "a", "a", "b", "b", "a"]]
    assert due == [0, None, None, 0, None, 0]
    clock.at += timedelta(seconds=59)
    assert repeats.due("a") is None
    clock.at += timedelta(seconds=1)
    assert repeats.due("a") == 1
