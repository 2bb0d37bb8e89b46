"""S21: junk makes no log entries, floods are shed, and told when to come back. Also T30."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.security.calls import Refusal, nonce, register
from tests.unit.enroll.cluster import IMPATIENT, RunningCluster, running_cluster
from zlayer_native.enroll import admission
from zlayer_native.enroll.client import enroll
from zlayer_native.enroll.service import EnrollmentPolicy
from zlayer_native.errors import CoreStopped, EnrollmentError, LimitReached, NoLeader, Overloaded
from zlayer_native.identity.csr import new_csr
from zlayer_native.identity.keys import new_key
from zlayer_native.identity.store import IdentityStore


async def test_s21_junk_makes_no_log_entry(cluster: RunningCluster) -> None:
    good = await cluster.token()
    unknown = cluster.authority.token_signer.issue(cluster.claims())
    for line, csr in (
        ("", b""),
        ("x" * 4000, b"x" * 1000),
        (good[:-1] + ("A" if good[-1] != "A" else "B"), new_csr(new_key())),
        (unknown, new_csr(new_key())),
        (good, b""),
        (good, b"x" * 1024),
    ):
        with pytest.raises(Refusal):
            await register(cluster, line, csr)
    assert cluster.state.proposed == []


async def test_s21_the_checks_come_in_their_order(
    cluster: RunningCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rates, signature, record, CSR, log: each only if the one before passed."""
    steps: list[str] = []

    def noted(name: str, real: Any) -> Any:
        def call(*args: Any) -> Any:
            steps.append(name)
            return real(*args)

        return call

    signer, state, service = cluster.authority.token_signer, cluster.state, cluster.service
    monkeypatch.setattr(service._rate, "take", noted("rate", service._rate.take))
    monkeypatch.setattr(signer, "verify", noted("signature", signer.verify))
    monkeypatch.setattr(state, "token", noted("record", state.token))
    monkeypatch.setattr(admission, "check_labels", noted("labels", admission.check_labels))
    monkeypatch.setattr(admission, "check_csr", noted("csr", admission.check_csr))
    monkeypatch.setattr(state, "_redeem", noted("log", lambda **_: None))
    monkeypatch.setattr(state, "propose", noted("log", state.propose))

    line, unknown = await cluster.token(), signer.issue(cluster.claims())
    steps.clear()
    expected = ["rate", "signature", "record", "labels", "csr", "log"]
    for token, csr, labels, count in (
        ("zlt1", b"", {}, 2),
        (unknown, b"", {}, 3),
        (line, b"", {"rack": "1"}, 4),
        (line, b"", {}, 5),
    ):
        with pytest.raises(Refusal):
            await register(cluster, token, csr, labels=labels)
        # A record is read once a second and token; the rest is done each time.
        assert [s for s in steps if s != "record"] == [s for s in expected[:count] if s != "record"]
        steps.clear()


async def test_s21_the_rate_of_all_callers_is_limited(tmp_path: Path) -> None:
    policy = EnrollmentPolicy(requests_per_second=3)
    async with running_cluster(tmp_path, policy=policy) as cluster:
        frozen = cluster.clock.monotonic()
        cluster.service._monotonic = lambda: frozen + cluster.clock.offset_s
        line = await cluster.token()
        for _ in range(3):
            with pytest.raises(Refusal) as refused:
                await register(cluster, "junk")
            assert refused.value.reason == "token_invalid"
        with pytest.raises(Refusal) as refused:
            await register(cluster, line)
        assert (refused.value.code, refused.value.reason) == ("RESOURCE_EXHAUSTED", "rate_limited")
        assert refused.value.retry_after_ms == "333"
        cluster.clock.offset_s += 0.34
        assert (await register(cluster, line)).node_id == 1000


async def test_s21_calls_in_flight_are_limited_and_the_next_is_told_to_wait(
    tmp_path: Path,
) -> None:
    async with running_cluster(tmp_path, policy=EnrollmentPolicy(in_flight_max=4)) as cluster:
        line = await cluster.token(uses=4)
        cluster.state.gate = asyncio.Event()
        waiting = [asyncio.create_task(register(cluster, line)) for _ in range(4)]
        await cluster.state.wait_proposed(4)
        with pytest.raises(Refusal) as refused:
            await nonce(cluster)
        assert (refused.value.code, refused.value.reason) == ("RESOURCE_EXHAUSTED", "rate_limited")
        assert refused.value.retry_after_ms is not None
        cluster.state.gate.set()
        answers = await asyncio.gather(*waiting)
        assert sorted(answer.node_id for answer in answers) == list(range(1000, 1004))
        assert await nonce(cluster)


async def test_s21_a_used_up_token_costs_no_log_entry(cluster: RunningCluster) -> None:
    line = await cluster.token(uses=1)
    await register(cluster, line)
    cluster.clock.offset_s += 2
    cluster.state.proposed.clear()
    for _ in range(10):
        with pytest.raises(Refusal) as refused:
            await register(cluster, line)
        assert refused.value.reason == "token_used_up"
    assert cluster.state.proposed == []


async def test_s21_a_tokens_record_is_read_once_a_second(
    cluster: RunningCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each record lists every use: reading it for each of many machines would be quadratic."""
    reads: list[str] = []
    real = cluster.state.token
    monkeypatch.setattr(cluster.state, "token", lambda jti: reads.append(jti) or real(jti))
    line = await cluster.token(uses=50)
    frozen = cluster.clock.monotonic()
    cluster.service._admission._tokens._records._monotonic = lambda: frozen
    for _ in range(20):
        await register(cluster, line)
    assert len(reads) == 1
    frozen += 1.0
    await register(cluster, line)
    assert len(reads) == 2


async def test_s21_refusals_are_logged_at_a_bounded_rate(
    cluster: RunningCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    frozen = cluster.clock.monotonic()
    cluster.service._monotonic = lambda: frozen
    for _ in range(120):
        with pytest.raises(Refusal):
            await register(cluster, "junk")
    assert cluster.service.counts["token_invalid"] == 120
    assert "".join(capfd.readouterr()).count("call was refused") == 50


@pytest.mark.parametrize(
    ("error", "code", "reason", "is_retryable"),
    [
        (NoLeader("x"), "UNAVAILABLE", "no_leader", True),
        (Overloaded("x"), "RESOURCE_EXHAUSTED", "overloaded", True),
        (CoreStopped("x"), "UNAVAILABLE", "stopping", True),
        (LimitReached("x", code="limit_reached"), "RESOURCE_EXHAUSTED", "limit_reached", False),
        (RuntimeError("secret detail"), "INTERNAL", "internal", False),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_s21_the_states_troubles_have_stable_answers(
    cluster: RunningCluster,
    tmp_path: Path,
    error: Exception,
    code: str,
    reason: str,
    is_retryable: bool,
) -> None:
    line = await cluster.token()
    cluster.state.fail_with = error
    with pytest.raises(Refusal) as refused:
        await register(cluster, line)
    assert (refused.value.code, refused.value.reason) == (code, reason)
    assert (refused.value.retry_after_ms is not None) == is_retryable
    assert "secret" not in refused.value.text
    with pytest.raises(EnrollmentError) as failed:
        await enroll([cluster.address], line, IdentityStore(tmp_path / "i"), patience=IMPATIENT)
    assert failed.value.retryable == is_retryable
    assert failed.value.code == code
