"""Problems of a configuration: collected, placed by their origin, and told in one report."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from zlayer_native.config.hidden import HIDDEN, looks_secret
from zlayer_native.config.origins import DEFAULT, Layer, Origin, Path, Plain, dotted
from zlayer_native.errors import ConfigError

#: Problems that one report tells. Chosen: more than a person reads.
PROBLEMS_MAX = 100
_WORD_CHARACTERS_MAX = 64  # Longer words are not compared: that costs their square.
_SHOWN_CHARACTERS_MAX = 40


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, at a path of the document.

    `sibling` is the other key of a contradiction: it gives the place when `path` itself was not
    written anywhere. `origin` overrides both, for problems found while a source was read. `unread`:
    what stands there could not be read, so that validating its absence tells nothing.
    """

    path: Path
    text: str
    expected: str = ""
    sibling: Path | None = None
    origin: Origin | None = None
    unread: bool = False


@dataclass(frozen=True, slots=True)
class Advice:
    """A configuration that works, and what will hurt later. Never an error."""

    key: str
    text: str
    origin: Origin

    def __str__(self) -> str:
        return _line(self.origin, self.key, self.text, "")


class SyntaxProblem(Exception):
    """A source that can't be read on. Caught inside this package, never seen outside."""

    def __init__(self, text: str, *, line: int = 0, expected: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.line = line
        self.expected = expected


def report(problems: Iterable[Problem], layer: Layer, *, what: str) -> ConfigError:
    """One error with a line for each problem, in the order of the file.

    Args:
        problems: at least one.
        layer: where to look up the places.
        what: whose problems these are, such as a file's path.
    """
    placed = sorted({_placed(problem, layer) for problem in problems})
    lines = [line for _, line in placed[:PROBLEMS_MAX]]
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    if len(placed) > PROBLEMS_MAX:
        lines.append("… and more")
        count = f"more than {PROBLEMS_MAX} problems"
    return ConfigError(f"{what}: {count}\n" + "\n".join(lines), problems=lines)


def place_of(problem: Problem, layer: Layer) -> Origin:
    """The origin that a problem is told with."""
    if problem.origin is not None:
        return problem.origin
    written = problem.sibling if problem.path not in layer.origins else None
    if written is not None and written in layer.origins:
        return layer.origins[written]
    return layer.origin_of(problem.path)


def _placed(problem: Problem, layer: Layer) -> tuple[tuple[int, int, str, str], str]:
    origin = place_of(problem, layer)
    key = dotted(problem.path)
    return (*origin.sort_key(), key), _line(origin, key, problem.text, problem.expected)


def _line(origin: Origin, key: str, text: str, expected: str) -> str:
    place = "" if origin.kind == DEFAULT.kind else str(origin)
    if place.endswith(f" {key}"):  # A flag that is known by its key only.
        key = ""
    told = f"{text} (expected {expected})" if expected else text
    return ": ".join(part for part in (place, key, told) if part)


def unknown_key(
    word: str, known: Sequence[str], *, owner: str, elsewhere: Mapping[str, str]
) -> tuple[str, str]:
    """Problem and expectation for a key that the block does not have.

    Args:
        word: the key.
        known: the keys of the block.
        owner: the block, as messages name it.
        elsewhere: keys of other blocks, and whose they are.
    """
    if word in elsewhere:
        return f"unknown key here, it belongs to {elsewhere[word]}", f"a key of {owner}"
    near = nearest(word, known)
    if near is not None:
        return f"unknown key, did you mean {near}?", f"a key of {owner}"
    return "unknown key", "one of " + ", ".join(known)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, whatever its case and its hyphens."""
    if len(word) > _WORD_CHARACTERS_MAX:
        return None
    by_letters = {_letters(name): name for name in known}
    found = difflib.get_close_matches(_letters(word), by_letters, n=1, cutoff=0.7)
    return by_letters[found[0]] if found else None


def _letters(word: str) -> str:
    return re.sub(r"[-_. ]", "", word).lower()


def shown(value: object) -> str:
    """The value as a message may quote it: short, on one line, nothing that a terminal obeys."""
    if isinstance(value, Plain) and is_null(value):
        return "nothing"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = str(value)
        if text.isdigit() and len(text) > _SHOWN_CHARACTERS_MAX:
            return "a huge integer"
        if looks_secret(text):
            return HIDDEN
        if len(text) > _SHOWN_CHARACTERS_MAX:
            return ascii(text[:_SHOWN_CHARACTERS_MAX] + "...")
        return ascii(text)
    if isinstance(value, int):
        digits = value.bit_length() * 0.302
        return str(value) if digits < _SHOWN_CHARACTERS_MAX else "a huge integer"
    if isinstance(value, float):
        return f"{value} (a float)"
    if isinstance(value, Mapping):
        return "a map"
    if isinstance(value, list | tuple):
        return "a list"
    return f"a {type(value).__name__}"


def is_null(value: object) -> bool:
    """Whether the value is a null: a typed one, or plain text that YAML reads so."""
    return value is None or (
        isinstance(value, Plain) and value in ("", "~", "null", "Null", "NULL")
    )
