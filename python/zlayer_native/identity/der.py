"""Just enough DER to see how something was encoded, which parsed objects no longer tell."""

from __future__ import annotations


class DerError(ValueError):
    """Not DER in the one form that is allowed."""


def element(content: bytes, offset: int = 0) -> tuple[int, bytes, bytes, int]:
    """Reads the element at `offset`.

    Returns:
        Its tag, its whole encoding, its contents, and the offset after it.

    Raises:
        DerError: cut short, a multi-byte tag, or a length that is not in its shortest form.
    """
    if len(content) < offset + 2:
        raise DerError("cut short")
    tag, length, start = content[offset], content[offset + 1], offset + 2
    if tag & 0x1F == 0x1F:
        raise DerError("a multi-byte tag")
    if length >= 0x80:
        count = length & 0x7F
        digits = content[start : start + count]
        start += count
        length = int.from_bytes(digits, "big")
        if not 1 <= count <= 2 or len(digits) != count or length < 0x80 or digits[0] == 0:
            raise DerError("a length that is not in its shortest form")
    end = start + length
    if end > len(content):
        raise DerError("cut short")
    return tag, content[offset:end], content[start:end], end


def elements(content: bytes) -> list[tuple[int, bytes, bytes]]:
    """Reads elements until the end: tag, whole encoding and contents of each.

    Raises:
        DerError: as `element`.
    """
    found, offset = [], 0
    while offset < len(content):
        tag, whole, inner, offset = element(content, offset)
        found.append((tag, whole, inner))
    return found
