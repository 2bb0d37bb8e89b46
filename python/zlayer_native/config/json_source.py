"""JSON with the line of each value and each key once: the standard library's reader has neither."""

from __future__ import annotations

import re
from json import JSONDecodeError
from json import decoder as _json
from typing import Any

from zlayer_native.config.builder import NUMBER_CHARACTERS_MAX, Builder
from zlayer_native.config.problems import SyntaxProblem

_SPACE = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*))((?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)")
_WORD = re.compile(r"[A-Za-z]{1,9}\b")  # Longer ones are not repeated: who knows what they are.
_HALF = re.compile("[\ud800-\udfff]")
#: The standard library's reader of strings, in C; typeshed does not know it.
_scanstring: Any = _json.scanstring  # type: ignore[attr-defined]
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


def read_json(text: str, builder: Builder) -> None:
    """Reads one JSON value into the builder.

    Raises:
        SyntaxProblem: the text can't be read on.
    """
    _Reader(text, builder).read()


class _Reader:
    def __init__(self, text: str, builder: Builder) -> None:
        self._text = text
        self._builder = builder
        self._at = 0
        self._line = 1
        self._counted = 0  # The position up to which the lines are counted.

    def read(self) -> None:
        self._value()
        if self._next() != "":
            raise self._wrong("something behind the end", "one value")

    def _next(self) -> str:
        """Skips space; the character that comes then, "" at the end."""
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at
        return self._text[self._at : self._at + 1]

    def _value(self) -> None:
        # As deep as the builder lets it go.
        first = self._next()
        if first == "{":
            self._block()
        elif first == "[":
            self._list()
        elif first == '"':
            line = self._here()
            self._builder.scalar(self._string(), line)
        else:
            self._builder.scalar(self._word_or_number(), self._here())

    def _block(self) -> None:
        self._builder.open({}, self._here())
        self._at += 1
        if self._next() == "}":
            self._at += 1
            return self._builder.close()
        while True:
            if self._next() != '"':
                raise self._wrong(self._said(), "a key in double quotes")
            line = self._here()
            self._builder.key(self._string(), line)
            if self._next() != ":":
                raise self._wrong(self._said(), "a colon after the key")
            self._at += 1
            self._value()
            if self._ends("}"):
                return self._builder.close()

    def _list(self) -> None:
        self._builder.open([], self._here())
        self._at += 1
        if self._next() == "]":
            self._at += 1
            return self._builder.close()
        while True:
            self._value()
            if self._ends("]"):
                return self._builder.close()

    def _ends(self, end: str) -> bool:
        character = self._next()
        if character not in (",", end) or not character:
            raise self._wrong(self._said(), f"a comma or {end}")
        self._at += 1
        return character == end

    def _string(self) -> str:
        try:
            value, self._at = _scanstring(self._text, self._at + 1, True)
        except JSONDecodeError as error:
            self._at = error.pos
            raise self._wrong(error.msg[:1].lower() + error.msg[1:], "a string") from None
        if _HALF.search(value):
            raise self._wrong("half of a surrogate pair", "a string")
        return str(value)

    def _word_or_number(self) -> object:
        word = _WORD.match(self._text, self._at)
        if word and word[0] in _WORDS:
            self._at = word.end()
            return _WORDS[word[0]]
        number = _NUMBER.match(self._text, self._at)
        if number is None:
            raise self._wrong(f"{word[0]} is not JSON" if word else self._said(), "a value")
        if len(number[0]) > NUMBER_CHARACTERS_MAX:
            raise self._wrong(f"a number of {len(number[0])} characters", "a number")
        self._at = number.end()
        return float(number[0]) if number[2] else int(number[1])

    def _said(self) -> str:
        character = self._text[self._at : self._at + 1]
        return f"not JSON, {character!a} stands here" if character else "the text ends early"

    def _here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = max(self._counted, self._at)
        return self._line

    def _wrong(self, text: str, expected: str) -> SyntaxProblem:
        return SyntaxProblem(text, line=self._here(), expected=expected)
