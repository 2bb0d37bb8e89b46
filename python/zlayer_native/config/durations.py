"""Durations: whole seconds as an integer, or text such as `10s`, `1h30m`. Written as integers."""

from __future__ import annotations

import re
from datetime import timedelta

_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_TEXT = re.compile(r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?")
_DIGITS = re.compile(r"0|[1-9][0-9]{0,11}")

#: What a message says was expected.
EXPECTED = "whole seconds, or text such as 10s, 5m, 1h"


def parse_duration(value: object) -> int:
    """Returns whole seconds, at least 0.

    Takes an `int` (seconds), a whole-second `timedelta`, or text: digits (seconds), or digits with
    a unit out of d, h, m, s, largest first (`1h30m`). Booleans and floats are not durations.

    Raises:
        ValueError: anything else; the message says what is wrong, without "expected".
    """
    if isinstance(value, bool):
        raise ValueError("a boolean is not a duration")
    if isinstance(value, int):
        if value < 0:
            raise ValueError("a duration can't be negative")
        return int(value)
    if isinstance(value, timedelta):
        return _from_timedelta(value)
    if isinstance(value, str):
        return _from_text(str(value))
    if isinstance(value, float):
        raise ValueError("a float is not a duration")
    raise ValueError("not a duration")


def _from_timedelta(value: timedelta) -> int:
    if value.microseconds or value < timedelta(0):
        raise ValueError("not a whole number of seconds")
    return value.days * _SECONDS["d"] + value.seconds


def _from_text(text: str) -> int:
    if _DIGITS.fullmatch(text):
        return int(text)
    match = _TEXT.fullmatch(text)
    if match is None or not text:
        raise ValueError("not a duration")
    parts = zip(match.groups(), _SECONDS.values(), strict=True)
    return sum(int(count) * seconds for count, seconds in parts if count is not None)
