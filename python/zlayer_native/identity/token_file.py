"""Where a machine finds its token: a file, or any stream such as standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

from zlayer_native.errors import IdentityError
from zlayer_native.identity.token import TOKEN_CHARACTERS_MAX

#: A line and how editors and shells end one.
_BYTES_MAX = TOKEN_CHARACTERS_MAX + 2


def read_token_file(path: Path) -> str:
    """The token line in a file; `-` is standard input. The line itself is not checked.

    Raises:
        IdentityError: the file can't be read, or holds more than one line of a token's length.
    """
    if str(path) == "-":
        return read_token(sys.stdin.buffer, "standard input")
    try:
        with path.open("rb") as file:
            return read_token(file, str(path))
    except OSError as error:
        raise IdentityError(f"{path}: {error.strerror}") from error


def read_token(stream: BinaryIO, what: str) -> str:
    """As `read_token_file`, from a stream; `what` names it in messages."""
    content = stream.read(_BYTES_MAX + 1)
    if len(content) > _BYTES_MAX:
        raise IdentityError(f"{what}: is longer than a token")
    line = content.removesuffix(b"\n").removesuffix(b"\r")
    if not line or not line.isascii() or b"\n" in line:
        raise IdentityError(f"{what}: does not hold one line of text")
    return line.decode("ascii")
