"""Bootstrap tokens: one line that lets a machine find the right cluster and be let in.

    line    = URL-safe base64, no padding, of
    bytes   = magic and version (3) | claims | CA certificates | signature (64)
    claims  = u16 length | JSON
    CAs     = u8 count | (u16 length | DER) …
    signature = Ed25519 over "zlayer-bootstrap-token" 0x00 and every byte before it

The magic makes every line of this version begin with `zlt1`. The version fixes the algorithm: there
is no field for it that could be turned. The line is a secret; the control state, not the line,
decides whether it still admits.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519

from zlayer_native.errors import IdentityError, InvalidRequest, TokenInvalid
from zlayer_native.identity.certificate import CA_CERTIFICATES_MAX, check_cas
from zlayer_native.identity.claims import Claims, Token, claims_json, fault, parse_claims
from zlayer_native.identity.names import check_cluster_id

TOKEN_CHARACTERS_MAX = 4096
#: How far in the future a token may have been made: servers' clocks differ a little.
_SKEW_SECS = 60

_MAGIC = base64.b64decode("zlt1")
_DOMAIN = b"zlayer-bootstrap-token\0"
_SIGNATURE_BYTES = 64
_LINE = re.compile(r"[A-Za-z0-9_-]+")

_REFUSED = "the token does not admit"


@dataclass(frozen=True)
class UnverifiedToken:
    """What a machine that can't check the signature reads in a line; `cas` is whom it trusts."""

    claims: Token
    cas: tuple[x509.Certificate, ...]

    def fingerprints(self) -> tuple[str, ...]:
        """SHA-256 of each CA certificate, lower-case hex: what an operator compares."""
        return tuple(ca.fingerprint(hashes.SHA256()).hex() for ca in self.cas)


def encode(
    claims: Claims, cluster_id: str, signer: ed25519.Ed25519PrivateKey, ca_ders: Sequence[bytes]
) -> str:
    """The line. It is a secret: show it once, store it nowhere.

    Raises:
        InvalidRequest: the claims are out of their ranges, or too many labels for a line.
    """
    body = claims_json(claims, check_cluster_id(cluster_id))
    parse_claims(body)
    content = bytearray(_MAGIC + len(body).to_bytes(2, "big") + body)
    content.append(len(ca_ders))
    for ca_der in ca_ders:
        content += len(ca_der).to_bytes(2, "big") + ca_der
    content += signer.sign(_DOMAIN + content)
    line = base64.urlsafe_b64encode(content).rstrip(b"=").decode()
    if len(line) > TOKEN_CHARACTERS_MAX:
        raise InvalidRequest(
            f"the token would have {len(line)} characters, at most {TOKEN_CHARACTERS_MAX} are"
            " possible: give it fewer or shorter labels",
            code="invalid",
        )
    return line


def decode(line: str) -> UnverifiedToken:
    """Reads a line without checking its signature: for the machine that was handed it.

    Raises:
        TokenInvalid: it is not a whole token; the message says what is wrong with it.
    """
    try:
        claims, ca_ders, _ = _split(_decode_base64(line))
        return UnverifiedToken(parse_claims(claims), tuple(check_cas(ca_ders, "the token")))
    except (InvalidRequest, IdentityError) as error:
        raise TokenInvalid(f"this is no usable token: {error}", code="token_invalid") from None


def verify(line: str, verifier: ed25519.Ed25519PublicKey, cluster_id: str, now_s: float) -> Token:
    """Checks a line that somebody presents: form, signature, cluster, time.

    Args:
        line: as it came.
        verifier: public half of the cluster's token signer.
        cluster_id: of this cluster.
        now_s: Unix seconds.

    Raises:
        TokenInvalid: one text for every cause; `__cause__` has the reason, for the log only. The
            code is `wrong_cluster` where our own signer made it for another cluster.
    """
    try:
        content = _decode_base64(line)
        claims, _, signature = _split(content)
        verifier.verify(signature, _DOMAIN + content[:-_SIGNATURE_BYTES])
        token = parse_claims(claims)
        _check_time(token, now_s)
    except (InvalidRequest, InvalidSignature) as error:
        cause = error if isinstance(error, InvalidRequest) else fault("the signature is not ours")
        raise TokenInvalid(_REFUSED, code="token_invalid") from cause
    if token.cluster_id != cluster_id:
        raise TokenInvalid("the token is for another cluster", code="wrong_cluster")
    return token


def _check_time(token: Token, now_s: float) -> None:
    if token.created_s > now_s + _SKEW_SECS:
        raise fault("it was made in the future")
    if now_s >= token.expires_s:
        raise fault("it has expired")


def _decode_base64(line: str) -> bytes:
    if len(line) > TOKEN_CHARACTERS_MAX:
        raise fault(f"it is longer than {TOKEN_CHARACTERS_MAX} characters")
    if not _LINE.fullmatch(line):
        raise fault("it has characters that are not URL-safe base64 (white space, padding?)")
    try:
        content = base64.urlsafe_b64decode(line + "=" * (-len(line) % 4))
    except binascii.Error:
        raise fault("it is cut short") from None
    # The last character may carry bits that decoding ignores: one token has one line.
    if base64.urlsafe_b64encode(content).rstrip(b"=") != line.encode():
        raise fault("its last character is not the one it was made with")
    return content


def _split(content: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Claims, CA certificates and signature, whose lengths must add up exactly."""
    if not content.startswith(_MAGIC):
        raise fault("it does not begin with zlt1: not a token, or of a newer version")
    reader = _Reader(content[len(_MAGIC) : -_SIGNATURE_BYTES])
    claims = reader.take(reader.number(2))
    count = reader.number(1)
    if not 1 <= count <= CA_CERTIFICATES_MAX:
        raise fault("it carries no CA certificate, or too many")
    ca_ders = [reader.take(reader.number(2)) for _ in range(count)]
    if reader.rest():
        raise fault("it has bytes that belong to nothing")
    return claims, ca_ders, content[-_SIGNATURE_BYTES:]


class _Reader:
    """Takes bytes from the front."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def take(self, count: int) -> bytes:
        taken = self._content[self._at : self._at + count]
        if len(taken) != count:
            raise fault("it is cut short")
        self._at += count
        return taken

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def rest(self) -> bytes:
        return self._content[self._at :]
