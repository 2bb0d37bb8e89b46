"""The names of a cluster: its id, its two TLS server names, and the URI that is an identity."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Literal

from zlayer_native.errors import IdentityError

Role = Literal["server", "worker"]

#: A DNS label, because the id is part of the TLS server names.
_CLUSTER_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_BASE32 = _LETTERS + "234567"
#: One letter and fifteen base32 digits: 79 bits, so that no two clusters meet.
_RANDOM_CHARACTERS = 16

#: One decimal form: no sign, no leading zero.
_URI = re.compile(r"spiffe://([a-z0-9-]{1,63})/(server|worker)/([1-9][0-9]{0,18})")
#: The widest id that every language of the project holds.
NODE_ID_MAX = 2**63 - 1


@dataclass(frozen=True)
class Member:
    """What an identity URI says."""

    cluster_id: str
    role: Role
    node_id: int


def new_cluster_id() -> str:
    """A random cluster id: 16 lower-case base32 characters, a letter first."""
    rest = (secrets.choice(_BASE32) for _ in range(_RANDOM_CHARACTERS - 1))
    return secrets.choice(_LETTERS) + "".join(rest)


def check_cluster_id(text: str) -> str:
    """Returns the id.

    Raises:
        IdentityError: it is no DNS label of `[a-z0-9-]`.
    """
    if not _CLUSTER_ID.fullmatch(text):
        raise IdentityError(f"cluster id {text[:80]!r}: expected 1-63 of a-z 0-9 -")
    return text


def join_name(cluster_id: str) -> str:
    """TLS server name of the Enrollment service."""
    return f"join.{cluster_id}.zlayer.internal"


def server_name(cluster_id: str) -> str:
    """TLS server name of the worker port's sessions."""
    return f"server.{cluster_id}.zlayer.internal"


def member_uri(cluster_id: str, role: Role, node_id: int) -> str:
    """The URI of a member.

    Raises:
        IdentityError: `node_id` is not within 1..=`NODE_ID_MAX`.
    """
    if not 1 <= node_id <= NODE_ID_MAX:
        raise IdentityError(f"node id {node_id}: expected 1..{NODE_ID_MAX}")
    return f"spiffe://{cluster_id}/{role}/{node_id}"


def parse_uri(uri: str) -> Member:
    """Reads an identity URI.

    Raises:
        IdentityError: it is not in the one form that `member_uri` writes.
    """
    match = _URI.fullmatch(uri)
    if match is None or int(match[3]) > NODE_ID_MAX:
        raise IdentityError(f"not an identity URI: {uri[:120]!r}")
    role: Role = "server" if match[2] == "server" else "worker"
    return Member(check_cluster_id(match[1]), role, int(match[3]))
