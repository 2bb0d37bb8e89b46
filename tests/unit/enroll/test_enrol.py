"""Machines that come with a token, over real TLS and gRPC."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.enroll.cluster import IMPATIENT, running_cluster
from zlayer_native.enroll.client import Machine, enroll, renew
from zlayer_native.errors import EnrollmentError
from zlayer_native.identity.store import IdentityStore


async def test_a_machine_enrols_and_renews(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        line = await cluster.token(labels={"zone": "a"}, labels_allowed=["disk"])
        store = IdentityStore(tmp_path / "worker" / "identity")
        machine = Machine(name="w1", os="linux", labels={"disk": "ssd"}, memory_bytes=2**40)

        enrolled = await enroll([cluster.address], line, store, machine)

        assert enrolled.identity.node_id == 1000
        assert enrolled.labels == {"zone": "a", "disk": "ssd"}
        assert (enrolled.heartbeat_ttl_secs, enrolled.heartbeat_grace_secs) == (10, 10)
        assert store.load(cluster.cluster_id) == enrolled.identity
        assert cluster.state.nodes[1000]["profile"]["memory_bytes"] == 2**40

        renewed = await renew([cluster.address], store)

        assert renewed.node_id == 1000
        assert renewed.key_pem != enrolled.identity.key_pem
        assert store.load() == renewed


async def test_the_21st_machine_is_told_why(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        line = await cluster.token(uses=2)
        for n in range(2):
            await enroll([cluster.address], line, IdentityStore(tmp_path / f"w{n}"))
        with pytest.raises(EnrollmentError, match="no uses left") as refused:
            await enroll(
                [cluster.address], line, IdentityStore(tmp_path / "w2"), patience=IMPATIENT
            )
        assert refused.value.code == "RESOURCE_EXHAUSTED"
        assert not refused.value.retryable
        assert len(cluster.state.nodes) == 2
