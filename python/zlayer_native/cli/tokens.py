"""Finds the token that an argument means, and reads token lines without a server."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from zlayer_native.cli.client import Api
from zlayer_native.errors import ApiError, TokenInvalid, TokenNotFound

TOKENS = "/api/v1/cluster/tokens"

#: What every token line of ours begins with.
_BEGINNING = "zlt"
_ID_DIGITS = 32
_PREFIX = re.compile(rf"[0-9a-f]{{1,{_ID_DIGITS}}}")
#: Tokens that an error message lists.
_LISTED_MAX = 10


def find_token(api: Api, prefix: str) -> str:
    """The whole id of the one token whose id begins so.

    Raises:
        TokenNotFound: there is none.
        ApiError: there is more than one; the message lists them.
    """
    if not _PREFIX.fullmatch(prefix):
        raise TokenNotFound(
            f"there is no such token: an id is {_ID_DIGITS} hex digits, or how it begins"
        )
    if len(prefix) == _ID_DIGITS:
        return prefix
    items = [item for item in api.get(TOKENS)["items"] if str(item["jti"]).startswith(prefix)]
    if not items:
        raise TokenNotFound(f"there is no token whose id begins with {prefix}")
    if len(items) > 1:
        listed = [f"{item['jti']} {item['name']}".rstrip() for item in items[:_LISTED_MAX]]
        if len(items) > _LISTED_MAX:
            listed.append(f"and {len(items) - _LISTED_MAX} more")
        raise ApiError(
            f"{len(items)} tokens have an id that begins with {prefix}: {'; '.join(listed)}",
            code="ambiguous",
            hint="give more digits",
        )
    return str(items[0]["jti"])


def read_line(what: str) -> str | None:
    """The token line that an argument is or names; None if it is an id, for the server.

    Raises:
        IdentityError: the file can't be read or holds no line.
        TokenInvalid: the argument is nothing of the kind. It is not repeated: it may be a secret.
    """
    if what.startswith(_BEGINNING):
        return what
    if _PREFIX.fullmatch(what):
        return None
    from zlayer_native.identity.token_file import read_token, read_token_file

    if what == "-":
        return read_token(sys.stdin.buffer, "standard input")
    try:
        is_there = Path(what).exists()
    except (OSError, ValueError):  # Too long for a name, or with a NUL.
        is_there = False
    if not is_there:
        raise TokenInvalid(
            f"this is neither a token (it would begin with {_BEGINNING}1), nor the id of one"
            " (hex digits), nor a file that is there",
            code="token_invalid",
        )
    return read_token_file(Path(what))


def read_offline(line: str) -> dict[str, Any]:
    """What a line says, as a document; its signature is not checked.

    Raises:
        TokenInvalid: it is not a whole token.
    """
    from zlayer_native.identity.token import decode

    read = decode(line)
    claims = read.claims
    return {
        "cluster_id": claims.cluster_id,
        "ca_fingerprints": list(read.fingerprints()),
        "jti": claims.jti,
        "created_ms": claims.created_s * 1000,
        "expires_ms": claims.expires_s * 1000,
        "uses_max": claims.uses_max,
        "labels": dict(claims.labels),
        "labels_allowed": list(claims.labels_allowed),
        "signature_checked": False,
    }
