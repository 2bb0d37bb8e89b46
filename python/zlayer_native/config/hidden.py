"""What is never repeated: text that may be a secret which somebody pasted into the wrong place.

No key of the configuration holds a secret, so whatever looks like one is there by mistake.
"""

from __future__ import annotations

import re

#: How bootstrap tokens and API tokens begin, and how many characters make one of it.
_TOKEN = re.compile(r"(?:zlt1|zlat_)[A-Za-z0-9_-]{16,}")
#: Longer than names, host labels and SHA-256 digests: base64 of something.
_RUN = re.compile(r"[A-Za-z0-9_=-]{80,}")
_PEM = re.compile(r"PRIVATE KEY")
#: A token carries a CA certificate, so it is never shorter; one part of a path hardly is so long.
_LINE = re.compile(r"[A-Za-z0-9_=-]{200,}")

#: More than a message ever quotes, so that a secret further on can't be in it.
_CHARACTERS_READ = 512

HIDDEN = "text that looks like a secret (not repeated)"


def looks_secret(text: str) -> bool:
    """Whether a message should not quote the text."""
    start = text[:_CHARACTERS_READ]
    return any(pattern.search(start) for pattern in (_TOKEN, _RUN, _PEM))


def holds_secret(path: str) -> bool:
    """Whether a part of the path is a token rather than the name of a file."""
    return bool(_PEM.search(path)) or any(
        _TOKEN.match(part) or _LINE.fullmatch(part) for part in path.split("/")
    )


def shown_path(path: str) -> str:
    """The path of a file as messages tell it: without secrets and without control characters."""
    if holds_secret(path):
        return HIDDEN
    return path if path.isprintable() else ascii(path)
