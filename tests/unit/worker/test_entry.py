"""Becoming a member: when a token is read, when a certificate is renewed first, what is kept."""

from __future__ import annotations

import io
import logging
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.worker.fakes import FakeRegistrar, Issuer
from zlayer_native.errors import ConfigError, EnrollmentError, IdentityError, ZLayerError
from zlayer_native.identity.store import Identity, IdentityStore
from zlayer_native.worker.carried_error import NodeRemoved
from zlayer_native.worker.entry import Entry
from zlayer_native.worker.token_source import TokenSource

LATER = timedelta(days=2)


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("entry"))


@pytest.fixture
def store(tmp_path: Path) -> IdentityStore:
    return IdentityStore(tmp_path / "identity")


def entry(
    store: IdentityStore,
    *answers: Identity | ZLayerError,
    token: TokenSource | None = None,
    labels: dict[str, str] | None = None,
    **options: Any,
) -> tuple[Entry, FakeRegistrar]:
    registrar = FakeRegistrar(store, *answers)
    machine = {"name": "w1", "labels": labels or {}}
    token = token or TokenSource(line="the-token\n")
    return Entry(store, registrar, token, machine, secs=None, **options), registrar


def now() -> datetime:
    return datetime.now(UTC)


async def test_the_first_start_redeems_the_token(issuer: Issuer, store: IdentityStore):
    identity = issuer.identity()
    way, registrar = entry(store, identity, labels={"zone": "a"})
    registrar.labels = {"from": "token"}
    member = await way.enter(now())
    assert registrar.asked == [("enrol", "the-token")]
    assert member.identity == identity
    assert member.labels == {"zone": "a", "from": "token"}


async def test_later_starts_need_no_token_and_keep_the_labels(
    issuer: Issuer, store: IdentityStore, tmp_path: Path
):
    first, registrar = entry(store, issuer.identity(), labels={"zone": "a"})
    registrar.labels = {"from": "token"}
    before = await first.enter(now())

    missing = TokenSource(file=tmp_path / "no such file")
    again, registrar = entry(store, token=missing, labels={"zone": "a"})
    assert await again.enter(now()) == before
    assert registrar.asked == []


async def test_other_labels_than_those_granted_are_spoken_of(
    issuer: Issuer, store: IdentityStore, caplog: pytest.LogCaptureFixture
):
    first, _ = entry(store, issuer.identity(), labels={"zone": "a"})
    await first.enter(now())
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    again, _ = entry(store, labels={"zone": "b"})
    assert (await again.enter(now())).labels == {"zone": "a"}
    assert "take effect when it enrols anew" in caplog.text


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"asked": 1}', b"[]"])
async def test_lost_or_odd_labels_are_no_reason_to_stay_out(
    issuer: Issuer, store: IdentityStore, content: bytes | None
):
    first, _ = entry(store, issuer.identity(), labels={"zone": "a"})
    await first.enter(now())
    path = store.folder / "labels.json"
    path.unlink()
    if content is not None:
        path.touch(mode=0o600)
        path.write_bytes(content)
    again, _ = entry(store, labels={"zone": "a"})
    assert (await again.enter(now())).labels == {"zone": "a"}


async def test_no_identity_and_no_token_says_how_to_get_one(store: IdentityStore):
    way, registrar = entry(store, token=TokenSource())
    with pytest.raises(ConfigError, match="zlayerd token create"):
        await way.enter(now())
    assert registrar.asked == []


async def test_a_token_file_that_is_not_there_is_named(store: IdentityStore, tmp_path: Path):
    way, _ = entry(store, token=TokenSource(file=tmp_path / "token"))
    with pytest.raises(IdentityError, match=r"token: No such file"):
        await way.enter(now())


async def test_a_token_may_come_on_standard_input(
    issuer: Issuer, store: IdentityStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"piped\n")))
    way, registrar = entry(store, issuer.identity(), token=TokenSource(file=Path("-")))
    await way.enter(now())
    assert registrar.asked == [("enrol", "piped")]


async def test_an_expired_certificate_is_renewed_before_anything_else(
    issuer: Issuer, store: IdentityStore
):
    store.save(issuer.identity())
    fresh = issuer.identity(timedelta(days=9))
    way, registrar = entry(store, fresh)
    assert (await way.enter(now() + LATER)).identity == fresh
    assert registrar.asked == [("renew", None)]


async def test_one_beyond_its_grace_says_to_enrol_again_and_what_to_delete(
    issuer: Issuer, store: IdentityStore
):
    store.save(issuer.identity())
    too_old = EnrollmentError(
        "the certificate expired too long ago; enrol again with a token",
        code="FAILED_PRECONDITION",
    )
    way, _ = entry(store, too_old)
    with pytest.raises(EnrollmentError, match="enrol again with a token") as refused:
        await way.enter(now() + LATER)
    assert any(f"delete {store.folder}" in note for note in refused.value.__notes__)
    assert store.load() is not None


async def test_a_removed_node_is_told_what_to_delete(issuer: Issuer, store: IdentityStore):
    store.save(issuer.identity())
    way, _ = entry(store, NodeRemoved("a:1: this node was removed from the cluster"))
    with pytest.raises(NodeRemoved, match="was removed from the cluster") as removed:
        await way.enter(now() + LATER)
    assert f"delete {store.folder}" in str(removed.value)
    assert store.load() is not None


async def test_each_round_that_failed_is_told_but_logged_once(
    issuer: Issuer, store: IdentityStore, caplog: pytest.LogCaptureFixture
):
    told: list[str] = []
    way, registrar = entry(store, issuer.identity(), on_wait=lambda e: told.append(str(e)))
    registrar.failures = [EnrollmentError("a:1: can't be reached", retryable=True)] * 5
    await way.enter(now())
    assert told == ["a:1: can't be reached"] * 5
    assert caplog.text.count("can't be reached") == 1


def test_a_token_is_in_no_repr():
    assert "secret" not in repr(TokenSource(line="secret"))
