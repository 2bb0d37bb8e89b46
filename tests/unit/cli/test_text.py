"""Values for people: lengths of time, sizes, and what a terminal must never see."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlayer_native.cli import text


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        (None, "-"),
        (-5, "0ms"),
        (0, "0ms"),
        (999, "999ms"),
        (1000, "1s"),
        (59_999, "59s"),
        (60_000, "1m"),
        (200_000, "3m20s"),
        (7_500_000, "2h5m"),
        (7_200_000, "2h"),
        (349_200_000, "4d1h"),
        (1e15, "11574074d1h"),
    ],
)
def test_span(ms: float | None, said: str) -> None:
    assert text.span(ms) == said


def test_times_are_said_from_now() -> None:
    now_ms = time.time() * 1000
    assert text.since(now_ms - 12_100) == "12s ago"
    assert text.since(now_ms + 60_000) == "0ms ago"
    assert text.until(now_ms + 90_900) == "in 1m30s"
    assert text.until(now_ms - 5_100) == "5s ago"
    assert text.since(None) == text.until(None) == text.ago(None) == text.local_time(None) == "-"


@pytest.mark.parametrize("unix_ms", [1e30, -1e30, float("inf"), float("nan")])
def test_a_time_beyond_calendars_is_no_crash(unix_ms: float) -> None:
    assert text.local_time(unix_ms).endswith("ms")


@pytest.mark.parametrize(
    ("count", "said"),
    [(None, "-"), (0, "0B"), (1023, "1023B"), (1536, "1.5KiB"), (200 << 20, "200MiB"),
     (1 << 34, "16.0GiB"), (1 << 60, "1048576TiB")],
)  # fmt: skip
def test_size(count: float | None, said: str) -> None:
    assert text.size(count) == said


def test_labels_and_words() -> None:
    assert text.labels({"b": "2", "a": "1"}) == "a=1,b=2"
    assert text.labels({}) == text.labels(None) == text.word("") == text.word(None) == "-"
    assert text.word(0) == "0"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("w00", "w00"),
        ("größe 大", "größe 大"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x9b31m", "\\x9b31m"),
        ("\x7f\x00", "\\x7f\\x00"),
        ("abc\u202ecba", "abc\\u202ecba"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("line\u2028end", "line\\u2028end"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_hidden_characters_are_spelled_out(raw: str, said: str) -> None:
    assert text.plain(raw) == said


@given(st.text())
def test_whatever_comes_is_one_printable_line(raw: str) -> None:
    shown = text.plain(raw)
    assert not [char for char in shown if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp")]
    assert len(shown.splitlines()) <= 1
    shown.encode()


def test_width_counts_columns() -> None:
    assert text.width("abc") == 3
    assert text.width("大") == 2
    assert text.width("e\u0301") == 1
