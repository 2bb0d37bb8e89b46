"""Signs bootstrap tokens for one cluster and checks those that come back."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric import ed25519

from zlayer_native.identity.claims import Claims, Token
from zlayer_native.identity.token import encode, verify


class TokenSigner:
    """Holds the Ed25519 key. One for each `Authority`."""

    def __init__(
        self, cluster_id: str, key: ed25519.Ed25519PrivateKey, ca_ders: Sequence[bytes]
    ) -> None:
        self._cluster_id = cluster_id
        self._key = key
        self._verifier = key.public_key()
        self._ca_ders = ca_ders

    def __repr__(self) -> str:
        return f"TokenSigner({self._cluster_id!r})"

    @property
    def cluster_id(self) -> str:
        """The cluster that the tokens are for."""
        return self._cluster_id

    def issue(self, claims: Claims) -> str:
        """The token line. It is a secret: it is returned once and stored nowhere.

        Raises:
            InvalidRequest: the claims are out of their ranges, or do not fit into a line.
        """
        return encode(claims, self._cluster_id, self._key, self._ca_ders)

    def verify(self, line: str, now_s: float) -> Token:
        """Checks a presented line; see `zlayer_native.identity.token.verify`."""
        return verify(line, self._verifier, self._cluster_id, now_s)
