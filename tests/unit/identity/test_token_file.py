from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from zlayer_native.errors import IdentityError
from zlayer_native.identity.token_file import read_token_file


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_line_is_read_without_its_end(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"zlt1abc" + end)
    assert read_token_file(path) == "zlt1abc"
    path.write_bytes(b"a" * 4096 + end)
    assert read_token_file(path) == "a" * 4096


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"zlt1abc\n")))
    assert read_token_file(Path("-")) == "zlt1abc"


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb\n", b"a\n\n", b"\xff", b"a" * 5000])
def test_other_content_is_refused_without_being_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(IdentityError, match=r"token: (does not hold|is longer)") as refused:
        read_token_file(path)
    assert "aaaa" not in str(refused.value)


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="token: No such file"):
        read_token_file(tmp_path / "token")
    with pytest.raises(IdentityError, match="Is a directory"):
        read_token_file(tmp_path)
