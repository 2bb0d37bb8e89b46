"""S2: a lost answer costs no second use, and a second key does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.security.calls import Refusal, register
from tests.unit.enroll.cluster import IMPATIENT, RunningCluster, both_ways, listening
from zlayer_native.enroll.client import enroll
from zlayer_native.enroll.retry import Patience
from zlayer_native.errors import EnrollmentError
from zlayer_native.identity.certificate import check_worker
from zlayer_native.identity.csr import new_csr
from zlayer_native.identity.keys import new_key
from zlayer_native.identity.store import IdentityStore


async def test_s2_the_same_key_gets_the_same_id_and_a_fresh_certificate(
    cluster: RunningCluster,
) -> None:
    line, csr = await cluster.token(uses=1), new_csr(new_key())
    answers = [await register(cluster, line, csr) for _ in range(3)]
    assert {answer.node_id for answer in answers} == {1000}
    serials = {
        check_worker(answer.certificate_der, cluster.authority.certificates).serial
        for answer in answers
    }
    assert len(serials) == 3
    assert len(cluster.state.nodes) == 1
    (token,) = cluster.state.tokens.values()
    assert len(token["uses"]) == 1


async def test_s2_a_new_key_is_a_second_use(cluster: RunningCluster) -> None:
    line = await cluster.token(uses=2)
    assert (await register(cluster, line)).node_id == 1000
    assert (await register(cluster, line)).node_id == 1001
    with pytest.raises(Refusal) as refused:
        await register(cluster, line)
    assert (refused.value.code, refused.value.reason) == ("RESOURCE_EXHAUSTED", "token_used_up")
    assert refused.value.retry_after_ms is None
    assert len(cluster.state.nodes) == 2


async def test_s2_many_at_once_get_exactly_the_uses(cluster: RunningCluster) -> None:
    line = await cluster.token(uses=7)
    answers = await asyncio.gather(
        *(register(cluster, line) for _ in range(25)), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, Refusal)]
    assert len(refused) == 18
    assert {refusal.reason for refusal in refused} == {"token_used_up"}
    assert sorted(cluster.state.nodes) == list(range(1000, 1007))


async def test_s2_a_machine_that_never_saw_the_answer_comes_back_as_itself(
    cluster: RunningCluster, tmp_path: Path
) -> None:
    line, folder = await cluster.token(uses=1), tmp_path / "identity"
    host, _, port = cluster.address.partition(":")
    committed = asyncio.Event()

    class UntilCommitted:
        """The service's side, which ends with the commit: its answer is never passed on."""

        def __init__(self, reader: asyncio.StreamReader) -> None:
            self.reader = reader

        async def read(self, count: int) -> bytes:
            chunk = await self.reader.read(count)
            return b"" if committed.is_set() else chunk

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(host, port)
        ending: Any = UntilCommitted(inner_reader)
        await both_ways(reader, inner_writer, ending, writer)

    real = cluster.state._redeem

    def redeem(**command: object) -> dict[str, object]:
        outcome = real(**command)
        committed.set()
        return outcome

    cluster.state._redeem = redeem  # type: ignore[method-assign]  # the commit is the moment
    async with listening(cut) as address:
        with pytest.raises(EnrollmentError) as failed:
            await enroll([address], line, IdentityStore(folder), patience=IMPATIENT)
    assert failed.value.retryable
    assert committed.is_set()
    assert IdentityStore(folder).load() is None

    enrolled = await enroll([cluster.address], line, IdentityStore(folder))

    assert enrolled.identity.node_id == 1000
    assert len(cluster.state.nodes) == 1


async def test_s2_a_key_that_another_token_was_spent_on_is_replaced(
    cluster: RunningCluster, tmp_path: Path
) -> None:
    first, second = await cluster.token(), await cluster.token()
    store = IdentityStore(tmp_path / "identity")
    # The answer to the first token was lost, and the operator made another token.
    await register(cluster, first, new_csr(store.pending_key()))
    enrolled = await enroll([cluster.address], second, store, patience=Patience(total_secs=5))
    assert enrolled.identity.node_id == 1001
    assert store.load() == enrolled.identity
