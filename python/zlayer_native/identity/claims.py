"""What a token says: its claims, and their one JSON form.

Every field is checked, nothing extra is let in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from zlayer_native.config.labels import LABELS_MAX, RESERVED_PREFIX, is_name
from zlayer_native.errors import IdentityError, InvalidRequest
from zlayer_native.identity.names import check_cluster_id

TTL_SECS_DEFAULT, TTL_SECS_MAX = 3600, 24 * 3600
#: As many as a cluster holds nodes.
USES_MAX = 100_000

_JTI = re.compile(r"[0-9a-f]{32}")
_NAMES = {"cluster", "jti", "iat", "exp", "role", "uses", "labels", "labels_allowed"}
#: What a token makes of a machine.
ROLES = ("worker", "server")
#: Far beyond any life of ours, and safe in every language's dates: the year 9999.
_TIME_MAX = 253_402_300_799


def fault(why: str) -> InvalidRequest:
    """What is wrong with a token: for its holder who reads it alone, or for the server's log."""
    return InvalidRequest(why, code="token_invalid")


class Claims(Protocol):
    """What a token admits. Times are Unix seconds."""

    @property
    def jti(self) -> str:
        """Token id, 32 lower-case hex digits."""

    @property
    def created_s(self) -> int:
        """When it was made."""

    @property
    def expires_s(self) -> int:
        """From then on it admits nobody."""

    @property
    def role(self) -> str:
        """What it makes of a machine: `worker` or `server`."""

    @property
    def uses_max(self) -> int:
        """Distinct keys that it admits, at least 1."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Labels that every worker of this token gets."""

    @property
    def labels_allowed(self) -> Sequence[str]:
        """Keys that a worker may set by itself."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """Claims that were read from a line; see `Claims`."""

    cluster_id: str
    jti: str
    created_s: int
    expires_s: int
    role: str = "worker"
    uses_max: int
    labels: Mapping[str, str]
    labels_allowed: Sequence[str]


def claims_json(claims: Claims, cluster_id: str) -> bytes:
    """The claims as they are signed."""
    document = {
        "cluster": cluster_id,
        "jti": claims.jti,
        "iat": claims.created_s,
        "exp": claims.expires_s,
        "role": claims.role,
        "uses": claims.uses_max,
        "labels": dict(claims.labels),
        "labels_allowed": list(claims.labels_allowed),
    }
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def parse_claims(content: bytes) -> Token:
    """Reads claims.

    Raises:
        InvalidRequest: a field is missing, unknown, of a wrong type or out of its range.
    """
    try:
        # From text: given bytes, the parser would also guess at UTF-16 and marks.
        text = content.decode()
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise fault("its claims are not JSON") from None
    if not isinstance(document, dict) or document.keys() != _NAMES:
        raise fault("its claims are not those of this version")
    jti, cluster_id = document["jti"], document["cluster"]
    if not isinstance(jti, str) or not _JTI.fullmatch(jti):
        raise fault("its id is not 32 hex digits")
    try:
        check_cluster_id(cluster_id if isinstance(cluster_id, str) else "")
    except IdentityError:
        raise fault("its cluster id is none") from None
    if document["role"] not in ROLES:
        raise fault("it is for neither workers nor servers")
    created_s = _integer(document, "iat", 0, _TIME_MAX)
    expires_s = _integer(document, "exp", created_s + 1, created_s + TTL_SECS_MAX)
    return Token(
        cluster_id=cluster_id,
        jti=jti,
        created_s=created_s,
        expires_s=expires_s,
        role=document["role"],
        uses_max=_integer(document, "uses", 1, USES_MAX),
        labels=_labels(document["labels"]),
        labels_allowed=_keys(document["labels_allowed"]),
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key is given twice")
    return document


def _no_constant(text: str) -> Any:
    raise ValueError(text)


def _integer(document: dict[str, Any], key: str, least: int, most: int) -> int:
    value = document[key]
    if type(value) is not int or not least <= value <= most:
        raise fault(f"its `{key}` is not a whole number within {least}..{most}")
    return value


def _labels(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise fault("its labels are no map")
    _keys(list(value))
    if not all(isinstance(text, str) and is_name(text) for text in value.values()):
        raise fault("a label's value is not one")
    return value


def _keys(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > LABELS_MAX:
        raise fault(f"its labels are more than {LABELS_MAX}, or no list")
    for key in value:
        if not isinstance(key, str) or not is_name(key) or key.startswith(RESERVED_PREFIX):
            raise fault("a label's key is not one")
    return tuple(value)
