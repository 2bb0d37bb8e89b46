"""The table of `README.md`: every row is there, and every file that it names does name the row."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]

#: Rows of what is not built yet. Everything else has a test.
NOT_YET = {"S15"}


def table() -> dict[str, tuple[list[str], str]]:
    """Files and what is not here, by row."""
    found = {}
    for line in (FOLDER / "README.md").read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"\| (S\d+) \| [^|]+ \|([^|]*)\|([^|]*)\|", line)
        if match is not None:
            found[match[1]] = (re.findall(r"`([^`]+)`", match[2]), match[3].strip())
    return found


def names_row(path: Path, row: str) -> bool:
    """A test function `s8_…` or `test_s8_…`, or the row's name in a comment."""
    text = path.read_text(encoding="utf-8")
    as_function = rf"(def test_|fn ){row.lower()}_"
    return bool(re.search(rf"\b{row}\b", text) or re.search(as_function, text))


def test_every_row_is_in_the_table() -> None:
    assert list(table()) == [f"S{number}" for number in range(1, 30)]


@pytest.mark.parametrize("row", [f"S{number}" for number in range(1, 30)])
def test_a_row_has_a_test_that_names_it_or_a_reason(row: str) -> None:
    files, not_here = table()[row]
    if row in NOT_YET:
        assert not files
        assert "not built" in not_here or "there is no" in not_here
        return
    assert files
    for file in files:
        assert (ROOT / file).is_file(), file
        assert names_row(ROOT / file, row), file


def test_every_security_test_is_in_the_table() -> None:
    named = {file for files, _ in table().values() for file in files}
    there = {
        str(path.relative_to(ROOT))
        for path in (*FOLDER.glob("test_s*.py"), *ROOT.glob("tests/unit/**/test_s[0-9]*.py"))
    }
    assert there
    assert there <= named


def test_every_row_that_a_rust_test_names_is_in_the_table() -> None:
    for path in (ROOT / "rust").glob("*/tests/**/*.rs"):
        text = path.read_text(encoding="utf-8")
        for number in set(re.findall(r"fn s(\d+)_", text)):
            assert str(path.relative_to(ROOT)) in table()[f"S{number}"][0], (number, path)
