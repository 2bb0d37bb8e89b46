"""S27: tokens and keys are in no log, no error and no repr, whatever goes wrong. Also T35."""

from __future__ import annotations

import base64
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.security.calls import nonce, raw, register, renew, renewal
from tests.unit.enroll.cluster import IMPATIENT, RunningCluster
from zlayer_native._proto.zlayer.cluster.v1 import enrollment_pb2 as pb
from zlayer_native.enroll.admission import Joining
from zlayer_native.enroll.client import Expectation, Machine, enroll
from zlayer_native.enroll.client import renew as client_renew
from zlayer_native.identity import profiles
from zlayer_native.identity.csr import new_csr
from zlayer_native.identity.keys import key_pem, load_key, new_key
from zlayer_native.identity.store import Identity, IdentityStore
from zlayer_native.identity.token import decode

#: Characters of a secret that must not be seen together.
STRETCH = 16


class Canaries:
    """Secrets, in every form in which they could get out."""

    def __init__(self) -> None:
        self._forms: list[str] = []

    def add(self, secret: bytes | str) -> None:
        content = secret.encode() if isinstance(secret, str) else secret
        self._forms += [content.hex(), repr(content)[2:-1], base64.b64encode(content).decode()]
        self._forms += [content.decode(errors="replace")]

    def add_token(self, line: str) -> None:
        self.add(line)
        self.add(line[-86:])  # The signature is what makes it worth stealing.

    def add_key(self, pem: str) -> None:
        value = load_key(pem.encode(), "").private_numbers().private_value
        self.add(value.to_bytes(32, "big"))
        self._forms += [str(value), "".join(pem.splitlines()[1:-1])]

    def seen_in(self, text: str) -> list[str]:
        joined = text.replace("\n", "").replace("\\n", "")
        return [
            form[at : at + STRETCH]
            for form in self._forms
            for at in range(0, max(1, len(form) - STRETCH), STRETCH)
            if len(form) >= STRETCH and form[at : at + STRETCH] in joined
        ]


@pytest.fixture
def every_log(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """All that is written to the terminal, with every library at its most talkative."""
    root = logging.getLogger()
    level, handler = root.level, logging.StreamHandler()
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET))
    try:
        yield lambda: "".join(capfd.readouterr())
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        structlog.reset_defaults()


def told(error: BaseException) -> str:
    """All that an error can tell: text, causes, fields, pickle."""
    trace = "".join(traceback.format_exception(error))
    chain, text = error, trace
    while chain is not None:
        text += repr(chain) + repr(vars(chain))
        chain = chain.__cause__ or chain.__context__  # type: ignore[assignment]  # ends with None
    return text + repr(pickle.dumps(error))


def public_stretches(cluster: RunningCluster, line: str) -> str:
    """The line without what anybody may know: cluster id, CA, labels."""
    return line[-90:]


async def test_s27_no_error_path_of_the_service_tells_a_secret(
    cluster: RunningCluster, tmp_path: Path, every_log: Callable[[], str]
) -> None:
    canaries, texts = Canaries(), []
    good, used, labelled = [await cluster.token() for _ in range(3)]
    store = IdentityStore(tmp_path / "i")
    identity = (await enroll([cluster.address], used, store)).identity
    for line in (good, used, labelled):
        canaries.add_token(public_stretches(cluster, line))
    canaries.add_key(identity.key_pem)
    canaries.add_key(key_pem(cluster.authority._issuer.key).decode())
    csr = new_csr(new_key())
    malformed = pb.RegisterRequest(bootstrap_token=good).SerializeToString() + b"\xff\xff\xff"
    cases: list[Callable[[], Any]] = [
        lambda: register(cluster, used),
        lambda: register(cluster, good[:-1]),
        lambda: register(cluster, good + "="),
        lambda: register(cluster, good, b"junk"),
        lambda: register(cluster, good, csr, labels={"rack": "1"}),
        lambda: register(cluster, good, csr, labels={"x": good}),
        lambda: register(cluster, good, csr, profile=pb.NodeProfile(os="\x1b")),
        lambda: raw(cluster, "Register", malformed),
        lambda: raw(cluster, "Register", malformed + bytes(20_000)),
        lambda: renew(cluster, renewal(identity, b"x")),
    ]
    for case in cases[:-1]:
        with pytest.raises(Exception) as failed:
            await case()
        texts.append(told(failed.value))
    with pytest.raises(Exception) as failed:
        await renew(cluster, renewal(identity, await nonce(cluster), signature=b"x" * 71))
    texts.append(told(failed.value))
    cluster.state.fail_with = RuntimeError("the core broke")
    with pytest.raises(Exception) as failed:
        await register(cluster, good)
    texts.append(told(failed.value))
    logged = every_log()
    assert "an enrolment call failed" in logged
    assert "the core broke" in logged
    assert canaries.seen_in(logged) == []
    # The caller knows its own label; nothing else comes back.
    assert [canaries.seen_in(text) for text in texts if "label" not in text] == [[]] * (
        len([text for text in texts if "label" not in text])
    )


async def test_s27_no_error_path_of_the_client_tells_a_secret(
    cluster: RunningCluster, tmp_path: Path, every_log: Callable[[], str]
) -> None:
    canaries, texts = Canaries(), []
    good, used = await cluster.token(), await cluster.token()
    store, fresh = IdentityStore(tmp_path / "i"), IdentityStore(tmp_path / "f")
    identity = (await enroll([cluster.address], used, store)).identity
    canaries.add_key(identity.key_pem)
    canaries.add_key(key_pem(fresh.pending_key()).decode())
    for line in (good, used):
        canaries.add_token(public_stretches(cluster, line))
    server = [cluster.address]
    evil = Machine(labels={"rack": "1"})
    cases: list[Callable[[], Any]] = [
        lambda: enroll(server, good[:-1], fresh),
        lambda: enroll(server, good + "\n", fresh),
        lambda: enroll(server, used, fresh, patience=IMPATIENT),
        lambda: enroll(server, good, fresh, evil, patience=IMPATIENT),
        lambda: enroll(server, good, fresh, expect=Expectation(cluster_id="c2")),
        lambda: enroll(["127.0.0.1:1"], good, fresh, patience=IMPATIENT),
        lambda: enroll(["nonsense"], good, fresh),
        lambda: enroll([], good, fresh),
        lambda: client_renew(["127.0.0.1:1"], store, patience=IMPATIENT),
    ]
    for case in cases:
        with pytest.raises(Exception) as failed:
            await case()
        texts.append(told(failed.value))
    (store.folder / "key.pem").write_text(identity.key_pem[:-60])
    with pytest.raises(Exception) as failed:
        store.load()
    texts.append(told(failed.value))
    assert [canaries.seen_in(text) for text in texts] == [[]] * len(texts)
    assert canaries.seen_in(every_log()) == []


async def test_s27_no_repr_tells_a_secret(cluster: RunningCluster, tmp_path: Path) -> None:
    canaries = Canaries()
    line = await cluster.token()
    canaries.add_token(public_stretches(cluster, line))
    key = new_key()
    canaries.add_key(key_pem(key).decode())
    pair = cluster.authority.issue_server(1)
    canaries.add_key(pair.key_pem)
    canaries.add_key(key_pem(cluster.authority._issuer.key).decode())
    leaf = cluster.authority.sign_worker(
        1, key.public_key(), serial=1, not_after=cluster.authority.worker_not_after()
    )
    identity = Identity.of(
        profiles.pem(leaf).decode(), key_pem(key).decode(), cluster.authority.ca_pem
    )
    joining = Joining(token=line, csr=b"", name="", labels={}, profile={})
    for thing in (
        pair,
        identity,
        joining,
        decode(line),
        cluster.authority,
        cluster.authority.token_signer,
        cluster.service,
        cluster.service._admission,
        IdentityStore(tmp_path),
    ):
        for text in (repr(thing), str(thing), f"{thing}"):
            assert canaries.seen_in(text) == [], type(thing)


def test_s27_the_canaries_would_be_seen() -> None:
    canaries, pem = Canaries(), key_pem(new_key()).decode()
    canaries.add_token("zlt1" + "abcdefgh" * 40)
    canaries.add_key(pem)
    assert canaries.seen_in("x" + "abcdefgh" * 40)
    assert canaries.seen_in(pem)
    assert canaries.seen_in(repr(pem))
    value = load_key(pem.encode(), "").private_numbers().private_value
    assert canaries.seen_in(f"key={value}")
    assert canaries.seen_in(value.to_bytes(32, "big").hex())
    assert not canaries.seen_in("nothing of the kind")
