"""S14: a certificate is renewed on proof of its key, on nothing else. Also T13, T14 and T14b."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.security.calls import Refusal, nonce, register, renew, renewal
from tests.unit.enroll.cluster import IMPATIENT, RunningCluster, running_cluster
from zlayer_native.enroll import client
from zlayer_native.enroll.service import EnrollmentPolicy
from zlayer_native.errors import EnrollmentError, IdentityError, NotLeader, ProofRefused
from zlayer_native.identity import profiles, proof
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.certificate import check_worker, parse_pem
from zlayer_native.identity.csr import new_csr
from zlayer_native.identity.keys import key_pem, load_key, new_key
from zlayer_native.identity.store import Identity, IdentityStore


@pytest.fixture
async def store(cluster: RunningCluster, tmp_path: Path) -> IdentityStore:
    """The identity of node 1000."""
    made = IdentityStore(tmp_path / "identity")
    await client.enroll([cluster.address], await cluster.token(), made)
    cluster.state.proposed.clear()
    return made


@pytest.fixture
def identity(store: IdentityStore) -> Identity:
    found = store.load()
    assert found is not None
    return found


def old_der(identity: Identity) -> bytes:
    return profiles.der(parse_pem(identity.cert_pem.encode(), "")[0])


async def refusal(cluster: RunningCluster, request: Any) -> tuple[str, str | None]:
    with pytest.raises(Refusal) as refused:
        await renew(cluster, request)
    return refused.value.code, refused.value.reason


PROOF_REFUSED = ("UNAUTHENTICATED", "proof_refused")


async def test_s14_a_proof_gives_a_new_certificate_for_the_same_node(
    cluster: RunningCluster, identity: Identity
) -> None:
    key = new_key()
    content = await renew(cluster, renewal(identity, await nonce(cluster), new_csr(key)))
    new = check_worker(content, cluster.authority.certificates, cluster.cluster_id)
    assert (new.node_id, new.public_key) == (1000, key.public_key())
    (command,) = cluster.state.proposed
    old = check_worker(old_der(identity), cluster.authority.certificates)
    assert command == {
        "type": "renew_certificate",
        "node_id": 1000,
        "old_key_hash": old.key_hash,
        "certificate": {
            "serial": new.serial,
            "key_hash": new.key_hash,
            "not_after_ms": int(new.not_after.timestamp() * 1000),
        },
    }


async def test_s14_twice_at_once_gives_two_certificates_for_one_key_and_the_old_one_still_renews(
    cluster: RunningCluster, identity: Identity
) -> None:
    csr = new_csr(new_key())
    requests = [renewal(identity, await nonce(cluster), csr) for _ in range(2)]
    one, two = await asyncio.gather(*(renew(cluster, request) for request in requests))
    cas = cluster.authority.certificates
    assert check_worker(one, cas).key_hash == check_worker(two, cas).key_hash
    assert check_worker(one, cas).serial != check_worker(two, cas).serial
    assert len(cluster.state.nodes[1000]["certificates"]) == 2
    await renew(cluster, renewal(identity, await nonce(cluster)))


async def test_s14_a_replay_gives_a_certificate_for_the_same_key_only(
    cluster: RunningCluster, identity: Identity
) -> None:
    key = new_key()
    request = renewal(identity, await nonce(cluster), new_csr(key))
    await renew(cluster, request)
    replayed = check_worker(await renew(cluster, request), cluster.authority.certificates)
    assert (replayed.public_key, replayed.node_id) == (key.public_key(), 1000)
    cluster.clock.offset_s += proof.NONCE_SECS + 1
    assert await refusal(cluster, request) == ("ABORTED", "nonce")


async def test_s14_a_proof_by_another_key_is_refused(
    cluster: RunningCluster, identity: Identity
) -> None:
    given = await nonce(cluster)
    csr = new_csr(new_key())
    content = proof.signed_bytes(cluster.cluster_id, old_der(identity), csr, given)
    for key in (new_key(), cluster.authority._issuer.key):
        request = renewal(identity, given, csr, signature=proof.sign(key, content))
        assert await refusal(cluster, request) == PROOF_REFUSED
    assert cluster.state.proposed == []


async def test_s14_a_proof_about_other_things_is_refused(
    cluster: RunningCluster, identity: Identity
) -> None:
    given, other_nonce = await nonce(cluster), await nonce(cluster)
    cas, key = cluster.authority, load_key(identity.key_pem.encode(), "")
    sibling = cas.sign_worker(1001, key.public_key(), serial=9, not_after=cas.worker_not_after())
    for changes in (
        {"csr_der": new_csr(new_key())},
        {"nonce": other_nonce},
        {"old_certificate_der": profiles.der(sibling)},
        {"signature": b""},
        {"signature": b"\0" * 4000},
    ):
        assert await refusal(cluster, renewal(identity, given, **changes)) == PROOF_REFUSED
    with_other_cluster = proof.sign(
        key, proof.signed_bytes("another", old_der(identity), csr := new_csr(new_key()), given)
    )
    request = renewal(identity, given, csr, signature=with_other_cluster)
    assert await refusal(cluster, request) == PROOF_REFUSED
    assert cluster.state.proposed == []


async def test_s14_a_nonce_that_is_not_ours_is_refused(
    cluster: RunningCluster, identity: Identity
) -> None:
    stranger = proof.Nonces(cluster.clock.monotonic).new()
    for given in (b"", b"x" * 56, b"x" * 4000, stranger):
        assert await refusal(cluster, renewal(identity, given)) == ("ABORTED", "nonce")
    assert cluster.state.proposed == []


async def test_s14_a_certificate_that_is_not_a_workers_of_ours_is_refused(
    cluster: RunningCluster, identity: Identity, tmp_path: Path
) -> None:
    stranger = Authority.create(tmp_path / "stranger", cluster.cluster_id)
    key = new_key()
    foreign = stranger.sign_worker(
        1000, key.public_key(), serial=1, not_after=stranger.worker_not_after()
    )
    pairs = [
        (profiles.pem(foreign).decode(), key_pem(key).decode()),
        *(
            (pair.cert_pem, pair.key_pem)
            for pair in (cluster.authority.issue_server(1), cluster.authority.issue_join(1))
        ),
        (cluster.authority.ca_pem, key_pem(cluster.authority._issuer.key).decode()),
    ]
    for cert, private in pairs:
        forged = Identity(
            1000,
            cluster.cluster_id,
            cert,
            private,
            identity.ca_pem,
            identity.not_before,
            identity.not_after,
        )
        assert await refusal(cluster, renewal(forged, await nonce(cluster))) == PROOF_REFUSED
    for junk in (b"", b"\0" * 100, b"\x30\x80" * 1000, old_der(identity) + b"\0"):
        request = renewal(identity, await nonce(cluster), old_certificate_der=junk)
        assert await refusal(cluster, request) == PROOF_REFUSED
    assert cluster.state.proposed == []


async def test_s14_after_removal_nothing_is_renewed(
    cluster: RunningCluster, store: IdentityStore, identity: Identity
) -> None:
    await cluster.state.propose({"type": "remove_node", "node_id": 1000})
    cluster.state.proposed.clear()
    request = renewal(identity, await nonce(cluster))
    assert await refusal(cluster, request) == ("PERMISSION_DENIED", "node_removed")
    assert cluster.state.proposed == []
    with pytest.raises(EnrollmentError, match="was removed") as refused:
        await client.renew([cluster.address], store, patience=IMPATIENT)
    assert not refused.value.retryable
    assert store.load() == identity


async def test_s14_a_removal_that_the_local_record_does_not_show_yet_still_counts(
    cluster: RunningCluster, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = cluster.state.node(1000)
    await cluster.state.propose({"type": "remove_node", "node_id": 1000})
    monkeypatch.setattr(cluster.state, "node", lambda _: record)
    request = renewal(identity, await nonce(cluster))
    assert await refusal(cluster, request) == ("PERMISSION_DENIED", "node_removed")


@pytest.mark.parametrize("key", ["old", "ca", "another_node"])
async def test_s14_only_a_new_key_is_certified(
    cluster: RunningCluster, identity: Identity, key: str
) -> None:
    other = new_key()
    await register(cluster, await cluster.token(), new_csr(other))
    cluster.state.proposed.clear()
    csr = new_csr(
        {
            "old": load_key(identity.key_pem.encode(), ""),
            "ca": cluster.authority._issuer.key,
            "another_node": other,
        }[key]
    )
    request = renewal(identity, await nonce(cluster), csr)
    assert await refusal(cluster, request) == ("INVALID_ARGUMENT", "key_in_use")
    assert len(cluster.state.nodes[1000]["certificates"]) == 1


async def test_s14_a_bad_csr_with_a_good_proof_is_refused(
    cluster: RunningCluster, identity: Identity
) -> None:
    request = renewal(identity, await nonce(cluster), b"junk")
    assert await refusal(cluster, request) == ("INVALID_ARGUMENT", "csr_refused")
    request = renewal(identity, await nonce(cluster), b"x" * 2000)
    assert await refusal(cluster, request) == PROOF_REFUSED


async def test_s14_a_key_that_was_superseded_long_ago_is_refused(
    cluster: RunningCluster, identity: Identity
) -> None:
    cluster.state.nodes[1000]["certificates"].clear()
    assert await refusal(cluster, renewal(identity, await nonce(cluster))) == PROOF_REFUSED


async def test_s14_no_leader_means_later_and_the_key_is_kept(
    cluster: RunningCluster, store: IdentityStore, identity: Identity
) -> None:
    cluster.state.fail_with = NotLeader("server 2 leads", leader_id=2)
    with pytest.raises(EnrollmentError, match="does not lead") as failed:
        await client.renew([cluster.address], store, patience=IMPATIENT)
    assert failed.value.retryable
    key = store.pending_key()
    cluster.state.fail_with = None
    assert store.load() == identity
    renewed = await client.renew([cluster.address], store)
    assert renewed.key_pem == key_pem(key).decode()


async def test_s14_a_crash_between_answer_and_disk_repeats_with_the_same_key(
    cluster: RunningCluster, store: IdentityStore, identity: Identity
) -> None:
    key = store.pending_key()
    await renew(cluster, renewal(identity, await nonce(cluster), new_csr(key)))
    assert store.load() == identity
    renewed = await client.renew([cluster.address], store)
    assert renewed.key_pem == key_pem(key).decode()
    assert len(cluster.state.nodes[1000]["certificates"]) == 2


async def test_s14_a_node_that_renews_without_end_is_slowed_down(
    cluster: RunningCluster, identity: Identity
) -> None:
    for _ in range(5):
        await renew(cluster, renewal(identity, await nonce(cluster)))
        cluster.state.nodes[1000]["certificates"] = cluster.state.nodes[1000]["certificates"][:1]
    request = renewal(identity, await nonce(cluster))
    with pytest.raises(Refusal) as refused:
        await renew(cluster, request)
    assert (refused.value.code, refused.value.reason) == ("RESOURCE_EXHAUSTED", "rate_limited")
    assert refused.value.retry_after_ms is not None
    assert 0 < int(refused.value.retry_after_ms) <= 10_000
    cluster.clock.offset_s += 11
    await renew(cluster, renewal(identity, await nonce(cluster)))


async def test_s14_strangers_can_not_use_a_nodes_rate_up(
    cluster: RunningCluster, identity: Identity
) -> None:
    for _ in range(20):
        request = renewal(identity, await nonce(cluster), signature=b"x" * 70)
        assert await refusal(cluster, request) == PROOF_REFUSED
    await renew(cluster, renewal(identity, await nonce(cluster)))


def life_of(identity: Identity) -> timedelta:
    return identity.not_after - identity.not_before


@pytest.mark.parametrize("expired_for", [timedelta(seconds=5), timedelta(days=6, hours=23)])
async def test_t14_an_expired_certificate_is_renewed_within_the_grace(
    cluster: RunningCluster, identity: Identity, expired_for: timedelta
) -> None:
    cluster.clock.offset_s += (life_of(identity) + expired_for).total_seconds()
    content = await renew(cluster, renewal(identity, await nonce(cluster)))
    new = check_worker(content, cluster.authority.certificates)
    assert new.node_id == 1000
    assert new.not_before < cluster.clock.utc() < new.not_after


async def test_t14_beyond_the_grace_only_a_token_helps(
    cluster: RunningCluster, identity: Identity
) -> None:
    cluster.clock.offset_s += (life_of(identity) + timedelta(days=7)).total_seconds()
    request = renewal(identity, await nonce(cluster))
    assert await refusal(cluster, request) == ("FAILED_PRECONDITION", "certificate_too_old")
    assert cluster.state.proposed == []


async def test_t14_the_grace_can_be_turned_off(tmp_path: Path) -> None:
    policy = EnrollmentPolicy(renewal_grace=timedelta(0))
    async with running_cluster(tmp_path, policy=policy) as cluster:
        store = IdentityStore(tmp_path / "identity")
        enrolled = await client.enroll([cluster.address], await cluster.token(), store)
        cluster.clock.offset_s += life_of(enrolled.identity).total_seconds()
        request = renewal(enrolled.identity, await nonce(cluster))
        assert await refusal(cluster, request) == ("FAILED_PRECONDITION", "certificate_too_old")


async def test_t21_a_server_whose_clock_went_back_signs_nothing(
    cluster: RunningCluster, identity: Identity
) -> None:
    cluster.clock.offset_s -= 120
    line = cluster.authority.token_signer.issue(cluster.claims())
    for call in (
        register(cluster, await cluster.token()),
        renew(cluster, renewal(identity, await nonce(cluster))),
    ):
        with pytest.raises(Refusal) as refused:
            await call
        assert (refused.value.code, refused.value.reason) == ("UNAVAILABLE", "cannot_sign")
        assert refused.value.retry_after_ms is not None
    assert line
    assert len(cluster.state.nodes) == 1


@pytest.mark.parametrize("hours", [-30, 30])
async def test_t21_a_worker_whose_clock_is_wrong_is_told_so(
    cluster: RunningCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    class Wrong(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(hours=hours)

    line, store = await cluster.token(), IdentityStore(tmp_path / "i")
    with monkeypatch.context() as patched:
        patched.setattr(client, "datetime", Wrong)
        with pytest.raises(EnrollmentError, match="this machine's clock says") as refused:
            await client.enroll([cluster.address], line, store)
    assert not refused.value.retryable
    assert store.load() is None
    enrolled = await client.enroll([cluster.address], line, store)
    assert enrolled.identity.node_id == 1000


async def test_nothing_to_renew_is_said(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="no identity to renew"):
        await client.renew(["127.0.0.1:1"], IdentityStore(tmp_path / "none"))


async def test_the_client_names_a_refused_proof(
    cluster: RunningCluster, store: IdentityStore
) -> None:
    cluster.state.nodes[1000]["certificates"].clear()
    with pytest.raises(ProofRefused) as refused:
        await client.renew([cluster.address], store, patience=IMPATIENT)
    assert not refused.value.retryable
