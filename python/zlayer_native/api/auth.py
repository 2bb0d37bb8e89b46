"""Who may call what: bearer secrets with scopes, stored as hashes, compared in constant time."""

from __future__ import annotations

import enum
import hashlib
import hmac
import json
import re
import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog

from zlayer_native.errors import IdentityError

#: Secrets start with this, so that a leaked one is found by scanners. 256 random bits follow.
PREFIX = "zlat_"

#: Longest secret that is hashed at all. Chosen: ours have 48 characters.
_SECRET_CHARS_MAX = 256

#: Tokens in one file. Chosen: each costs one comparison a request.
_TOKENS_MAX = 256

_SHA256 = re.compile(r"[0-9a-f]{64}")

_log = structlog.get_logger("zlayer.api")


class Scope(enum.IntEnum):
    """What a token may do; each scope includes those below it."""

    READ = 1
    OPERATE = 2
    ADMIN = 3


@dataclass(frozen=True, kw_only=True)
class ApiToken:
    """A named secret, known by its hash only."""

    name: str
    scope: Scope
    #: SHA-256 of the secret, lower-case hex. The secret has 256 random bits: no stretching needed.
    sha256: str
    #: Unix seconds; None: until it is taken out of the file.
    expires_s: int | None = None

    @classmethod
    def of_secret(
        cls, secret: str, *, name: str, scope: Scope, expires_s: int | None = None
    ) -> ApiToken:
        """The record of a secret."""
        return cls(name=name, scope=scope, sha256=_hash(secret), expires_s=expires_s)


def new_secret() -> str:
    """A fresh secret of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


class ApiTokens:
    """An immutable set of tokens."""

    def __init__(self, tokens: Iterable[ApiToken]) -> None:
        self._tokens = tuple(tokens)

    def authenticate(self, secret: str, now_s: float) -> ApiToken | None:
        """The token of `secret`, or None. Looks at every token, whatever matches."""
        if not secret or len(secret) > _SECRET_CHARS_MAX:
            return None
        digest = _hash(secret)
        found: ApiToken | None = None
        for token in self._tokens:
            if hmac.compare_digest(digest, token.sha256):
                found = token
        if found is not None and found.expires_s is not None and now_s >= found.expires_s:
            return None
        return found

    def to_json(self) -> str:
        """The document of the token file."""
        items = [
            {
                "name": token.name,
                "scope": token.scope.name.lower(),
                "sha256": token.sha256,
                "expires_s": token.expires_s,
            }
            for token in self._tokens
        ]
        return json.dumps({"version": 1, "tokens": items}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> ApiTokens:
        """Reads the document of a token file.

        Raises:
            IdentityError: it is not such a document.
        """
        try:
            document = json.loads(text)
            if document["version"] != 1 or len(document["tokens"]) > _TOKENS_MAX:
                raise ValueError("unknown version or too many tokens")
            return cls([_token_of(item) for item in document["tokens"]])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise IdentityError(f"not a file of API tokens: {type(error).__name__}") from error


def _token_of(item: dict[str, object]) -> ApiToken:
    digest, expires_s = item["sha256"], item.get("expires_s")
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise ValueError("sha256")
    if expires_s is not None and not isinstance(expires_s, int):
        raise ValueError("expires_s")
    return ApiToken(
        name=str(item["name"]),
        scope=Scope[str(item["scope"]).upper()],
        sha256=digest,
        expires_s=expires_s,
    )


class TokenFile:
    """A token file that is read again when it changes, so that taking a token out revokes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._tokens = ApiTokens(())

    def authenticate(self, secret: str, now_s: float | None = None) -> ApiToken | None:
        """As `ApiTokens.authenticate`; a file that can't be read admits nobody."""
        return self._current().authenticate(secret, time.time() if now_s is None else now_s)

    def _current(self) -> ApiTokens:
        with self._lock:
            try:
                stat = self._path.stat()
                seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
                if seen != self._seen:
                    self._tokens = ApiTokens.from_json(self._path.read_bytes())
                    self._seen = seen
            except (OSError, IdentityError) as error:
                self._tokens, self._seen = ApiTokens(()), None
                _log.error("api tokens unreadable", path=str(self._path), error=str(error))
            return self._tokens
