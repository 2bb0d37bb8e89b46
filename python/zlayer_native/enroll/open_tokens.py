"""Whether a token may still admit: its line, then its record. The redemption has the last word."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from zlayer_native.enroll.records import Proposer, TokenRecords
from zlayer_native.errors import InvalidRequest, KeyInUse, TokenInvalid, TokenUsedUp
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.claims import Token


class OpenTokens:
    """Reads what a machine shows, before anything is proposed: a bad one costs no log entry."""

    def __init__(
        self,
        authority: Authority,
        proposer: Proposer,
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._authority = authority
        self._proposer = proposer
        self._records = TokenRecords(proposer, monotonic)
        self._now = now

    async def read(self, line: str, role: str) -> tuple[Token, dict[str, Any]]:
        """The token of a line and its record.

        Raises:
            TokenInvalid: it does not admit, or not a machine of this role, for whatever reason.
            IdentityError: this server's clock is behind.
        """
        token = self._authority.token_signer.verify(line, self._now())
        record = await self._record(token)
        if record["revoked"]:
            raise _does_not_admit(f"token {token.jti} was revoked")
        created = datetime.fromtimestamp(record["created_ms"] / 1000, UTC)
        self._authority.check_clock(created)
        if self._now() * 1000 >= record["expires_ms"]:
            raise _does_not_admit(f"token {token.jti} has expired")
        if record["role"] != role:
            raise _does_not_admit(f"token {token.jti} is not for a {role}")
        return token, record

    async def _record(self, token: Token) -> dict[str, Any]:
        """The record of a genuine token. One that was made a moment ago may be on its way here."""
        record = self._records.get(token.jti)
        if record is None:
            await self._proposer.settle()
            record = self._records.get(token.jti)
        if record is None:
            raise _does_not_admit(f"there is no token {token.jti}")
        return record

    def check_key(self, token: Token, record: dict[str, Any], hashed: str) -> None:
        """Checks that the token admits one more key, or knows this one.

        Raises:
            KeyInUse: it is one of the cluster's own.
            TokenUsedUp: its uses are gone.
        """
        if hashed in record["uses"]:
            return  # The same machine again: what it gets is what it got.
        if self._authority.is_own_key(hashed):
            raise KeyInUse("a machine asked with one of the cluster's own keys", code="key_in_use")
        # Once all uses are in the record it can't change, so that a stale one is right as well.
        if len(record["uses"]) >= record["uses_max"]:
            raise TokenUsedUp(f"token {token.jti} has no uses left", code="token_used_up")


def _does_not_admit(why: str) -> TokenInvalid:
    error = TokenInvalid("the token does not admit", code="token_invalid")
    error.__cause__ = InvalidRequest(why, code="token_invalid")
    return error
