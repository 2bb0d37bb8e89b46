"""Replacing a certificate on proof of its key.

The join name asks for no client certificate, so the proof is in the message: the old certificate,
and a signature by its key over everything that matters. Works for a certificate that expired while
the machine was off, within a grace window; never for a node that was removed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from zlayer_native.enroll.admission import certificate_record
from zlayer_native.enroll.answers import Busy
from zlayer_native.enroll.limits import Buckets
from zlayer_native.enroll.records import Proposer
from zlayer_native.errors import (
    EnrollmentError,
    IdentityError,
    KeyInUse,
    NodeNotFound,
    ProofRefused,
)
from zlayer_native.identity import profiles, proof
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.certificate import WorkerCertificate, check_worker
from zlayer_native.identity.csr import CSR_BYTES_MAX, check_csr
from zlayer_native.identity.keys import key_hash

#: Renewals of one node: a burst for retries, then one in ten seconds. Chosen.
_NODE_BURST, _NODE_PER_SECOND = 5, 0.1
#: Nodes whose rate is remembered. Chosen; all of a full cluster renew over 12 hours.
_NODES_KEPT = 10_000


@dataclass(frozen=True, kw_only=True)
class Renewing:
    """What a machine sent. Certificate and CSR are DER."""

    old_certificate: bytes
    csr: bytes
    nonce: bytes
    signature: bytes


class Renewal:
    """Turns proofs of old keys into new certificates."""

    def __init__(
        self,
        authority: Authority,
        proposer: Proposer,
        *,
        life: timedelta,
        grace: timedelta,
        now: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._authority = authority
        self._proposer = proposer
        self._life = life
        self._grace = grace
        self._now = now
        self._monotonic = monotonic
        self._rates = Buckets(_NODE_PER_SECOND, _NODE_BURST, _NODES_KEPT)
        self.nonces = proof.Nonces(monotonic)

    async def renew(self, renewing: Renewing) -> bytes:
        """Returns the new certificate (DER). A repeat with the same keys changes nothing.

        Raises:
            ProofRefused: the certificate is not ours, or the proof does not hold.
            EnrollmentError: code ABORTED for a stale nonce, FAILED_PRECONDITION for a certificate
                that expired too long ago.
            Busy: this node renews too often.
            NodeNotFound: the node was removed.
            InvalidRequest: the CSR.
            KeyInUse: the new key is the old one, the cluster's own, or another node's.
            KeyUnknown: the old key is not one of the node's any more.
            IdentityError: this server can't sign now.
        """
        old = self._proved(renewing)
        wait_s = self._rates.take(old.node_id, self._monotonic())
        if wait_s:
            raise Busy("this node renews too often", retry_after_s=wait_s)
        self._check_age(old)
        public_key = check_csr(renewing.csr)
        hashed = key_hash(public_key)
        if hashed == old.key_hash or self._authority.is_own_key(hashed):
            raise KeyInUse("a renewal needs a new key", code="key_in_use")
        self._check_node(old.node_id)
        serial = profiles.new_serial()
        not_after = self._authority.worker_not_after(self._life)
        await self._proposer.propose(
            {
                "type": "renew_certificate",
                "node_id": old.node_id,
                "old_key_hash": old.key_hash,
                "certificate": certificate_record(serial, hashed, not_after),
            }
        )
        certificate = self._authority.sign_worker(
            old.node_id, public_key, serial=serial, not_after=not_after
        )
        return profiles.der(certificate)

    def _proved(self, renewing: Renewing) -> WorkerCertificate:
        """The old certificate, once its key has signed this very request."""
        if len(renewing.csr) > CSR_BYTES_MAX:
            raise ProofRefused("the CSR is too long to be signed over", code="UNAUTHENTICATED")
        cluster_id = self._authority.cluster_id
        try:
            old = check_worker(renewing.old_certificate, self._authority.certificates, cluster_id)
        except IdentityError as error:
            raise ProofRefused(str(error), code="UNAUTHENTICATED") from error
        if not self.nonces.is_good(renewing.nonce):
            raise EnrollmentError("the nonce is not good", code="ABORTED", retryable=True)
        content = proof.signed_bytes(
            cluster_id, renewing.old_certificate, renewing.csr, renewing.nonce
        )
        proof.verify(old.public_key, renewing.signature, content)
        return old

    def _check_age(self, old: WorkerCertificate) -> None:
        now = datetime.fromtimestamp(self._now(), UTC)
        if now > old.not_after + self._grace:
            raise EnrollmentError(
                "the certificate expired too long ago; enrol again with a token",
                code="FAILED_PRECONDITION",
            )

    def _check_node(self, node_id: int) -> None:
        record = self._proposer.node(node_id)
        if record is None:
            raise NodeNotFound(f"there is no node {node_id}", code="node_not_found")
        self._authority.check_clock(datetime.fromtimestamp(record["since_ms"] / 1000, UTC))
