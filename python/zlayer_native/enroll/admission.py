"""Letting a machine in: what is checked, in which order, and what is signed in the end.

Order: rates, token (form, signature, time), the token's record, labels and names, the CSR. Only
then is anything proposed, so a bad request never costs a log entry. The certificate is signed after
the commit: its serial and end are chosen before, so that the log knows every certificate that may
exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from zlayer_native.config.labels import EXPECTED, LABELS_MAX, RESERVED_PREFIX, is_name
from zlayer_native.enroll.open_tokens import OpenTokens
from zlayer_native.enroll.records import Proposer
from zlayer_native.errors import (
    InvalidRequest,
    LabelNotPermitted,
)
from zlayer_native.identity import profiles
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.csr import check_csr
from zlayer_native.identity.keys import key_hash

#: Characters of each self-description, printable ASCII. Chosen.
_DESCRIPTION_CHARACTERS_MAX = 64


@dataclass(frozen=True, kw_only=True)
class Joining:
    """What a machine sent. Nothing of it is trusted; the token is a secret."""

    token: str
    csr: bytes
    name: str
    labels: Mapping[str, str]
    profile: Mapping[str, Any]

    def __repr__(self) -> str:
        return "Joining(***)"


@dataclass(frozen=True, kw_only=True)
class Joined:
    """What the machine gets."""

    node_id: int
    token_jti: str
    certificate: bytes
    labels: Mapping[str, str]


class Admission:
    """Turns tokens into identities."""

    def __init__(
        self,
        authority: Authority,
        proposer: Proposer,
        tokens: OpenTokens,
        *,
        life: timedelta,
    ) -> None:
        self._authority = authority
        self._proposer = proposer
        self._tokens = tokens
        self._life = life

    async def admit(self, joining: Joining) -> Joined:
        """Redeems the token for this key; a repeat with the same key gets the same node id.

        Raises:
            TokenInvalid: it does not admit, for whatever reason.
            TokenUsedUp: it is genuine, and its uses are gone.
            LabelNotPermitted: a label outside the token's bounds.
            InvalidRequest: the CSR or a field.
            KeyInUse: the key is the cluster's own, or another node's.
            IdentityError: this server can't sign now.
        """
        token, record = await self._tokens.read(joining.token, "worker")
        check_labels(joining.labels, record)
        check_description(joining.name, joining.profile)
        public_key = check_csr(joining.csr)
        hashed = key_hash(public_key)
        self._tokens.check_key(token, record, hashed)
        serial = profiles.new_serial()
        not_after = self._authority.worker_not_after(self._life)
        outcome = await self._proposer.propose(
            {
                "type": "redeem",
                "jti": token.jti,
                "name": joining.name,
                "labels": dict(joining.labels),
                "profile": dict(joining.profile),
                "certificate": certificate_record(serial, hashed, not_after),
            }
        )
        node_id = int(outcome["node_id"])
        certificate = self._authority.sign_worker(
            node_id, public_key, serial=serial, not_after=not_after
        )
        return Joined(
            node_id=node_id,
            token_jti=token.jti,
            certificate=profiles.der(certificate),
            labels=outcome["labels"],
        )


def certificate_record(serial: int, hashed: str, not_after: datetime) -> dict[str, Any]:
    """`zlayer_core::record::CertificateRecord` in its JSON form."""
    return {
        "serial": format(serial, "x"),
        "key_hash": hashed,
        "not_after_ms": int(not_after.timestamp()) * 1000,
    }


def check_labels(labels: Mapping[str, str], record: Mapping[str, Any]) -> None:
    """Checks the labels that a machine asks for against its token's bounds.

    Raises:
        InvalidRequest: too many, or no label at all.
        LabelNotPermitted: reserved, or outside the bounds.
    """
    if len(labels) > LABELS_MAX:
        raise InvalidRequest(
            f"labels: {len(labels)} are too many, at most {LABELS_MAX}", code="invalid"
        )
    for key, value in labels.items():
        if key.startswith(RESERVED_PREFIX):
            raise _not_permitted(key, f"the prefix {RESERVED_PREFIX} is reserved")
        if not is_name(key) or not is_name(value):
            raise InvalidRequest(f"label {key!r}: expected {EXPECTED}", code="invalid")
        forced = record["labels"].get(key)
        if forced is not None and forced != value:
            raise _not_permitted(key, "the token sets another value")
        if forced is None and key not in record["labels_allowed"]:
            raise _not_permitted(
                key,
                "the token does not allow it; make one with `zlayerd token create --allow-label"
                f" {key}` or `--label {key}={value}`",
            )


def check_description(name: str, profile: Mapping[str, Any]) -> None:
    """Checks what a machine says of itself.

    Raises:
        InvalidRequest: a text that is too long, or not printable.
    """
    if name and not is_name(name):
        raise InvalidRequest(f"name: expected {EXPECTED}", code="invalid")
    for key in ("os", "arch", "version"):
        text = profile[key]
        if len(text) > _DESCRIPTION_CHARACTERS_MAX or not (text.isascii() and text.isprintable()):
            raise InvalidRequest(
                f"{key}: expected at most {_DESCRIPTION_CHARACTERS_MAX} printable ASCII characters",
                code="invalid",
            )


def _not_permitted(key: str, why: str) -> LabelNotPermitted:
    return LabelNotPermitted(f"label {key}: {why}", code="label_not_permitted")
