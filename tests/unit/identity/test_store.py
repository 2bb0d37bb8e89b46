"""A worker's identity survives restarts and a power cut at any moment."""

from __future__ import annotations

import shutil
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.unit.identity.crashes import crash_at
from zlayer_native.errors import IdentityError
from zlayer_native.identity import profiles
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.keys import key_pem, new_key
from zlayer_native.identity.store import Identity, IdentityStore


def identity_of(
    authority: Authority, node_id: int = 1000, key: ec.EllipticCurvePrivateKey | None = None
) -> Identity:
    key = key or new_key()
    certificate = authority.sign_worker(
        node_id,
        key.public_key(),
        serial=profiles.new_serial(),
        not_after=authority.worker_not_after(),
    )
    return Identity.of(profiles.pem(certificate).decode(), key_pem(key).decode(), authority.ca_pem)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "cluster")


@pytest.fixture
def store(tmp_path: Path) -> IdentityStore:
    return IdentityStore(tmp_path / "worker" / "identity")


def test_there_is_none_before_the_first_enrolment(store: IdentityStore) -> None:
    assert store.load() is None
    assert not store.folder.exists()
    assert not store.has_pending_key()


def test_it_is_read_as_it_was_saved(authority: Authority, store: IdentityStore) -> None:
    identity = identity_of(authority, 4711)
    store.save(identity)
    assert IdentityStore(store.folder).load(authority.cluster_id) == identity
    assert (identity.node_id, identity.cluster_id) == (4711, authority.cluster_id)
    found = {p.name: stat.S_IMODE(p.stat().st_mode) for p in store.folder.iterdir()}
    assert found == dict.fromkeys(("cert.pem", "key.pem", "ca.pem"), 0o600)
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700


def test_the_pending_key_is_on_disk_and_stays_the_same(store: IdentityStore) -> None:
    key = store.pending_key()
    again = IdentityStore(store.folder).pending_key()
    assert again.private_numbers() == key.private_numbers()
    assert stat.S_IMODE((store.folder / "next-key.pem").stat().st_mode) == 0o600
    store.discard_pending_key()
    assert store.pending_key().private_numbers() != key.private_numbers()


def test_saving_uses_the_pending_key_up(authority: Authority, store: IdentityStore) -> None:
    store.save(identity_of(authority, key=store.pending_key()))
    assert not store.has_pending_key()


def test_an_identity_of_another_cluster_is_refused(
    authority: Authority, store: IdentityStore, tmp_path: Path
) -> None:
    identity = identity_of(authority)
    store.save(identity)
    stranger = identity_of(Authority.create(tmp_path / "other"))
    with pytest.raises(IdentityError, match=f"of cluster {authority.cluster_id}, not"):
        store.save(stranger)
    with pytest.raises(IdentityError, match="choose another identity folder"):
        store.load(cluster_id=stranger.cluster_id)
    assert store.load() == identity


def test_parts_that_do_not_belong_together_are_refused(
    authority: Authority, store: IdentityStore, tmp_path: Path
) -> None:
    one, two = identity_of(authority), identity_of(authority)
    stranger = Authority.create(tmp_path / "other")
    with pytest.raises(IdentityError, match="key and certificate"):
        Identity.of(one.cert_pem, two.key_pem, one.ca_pem)
    with pytest.raises(IdentityError, match="not issued by this cluster's CA"):
        Identity.of(one.cert_pem, one.key_pem, stranger.ca_pem)
    with pytest.raises(IdentityError, match="2 certificates, expected one"):
        Identity.of(one.cert_pem + two.cert_pem, one.key_pem, one.ca_pem)
    with pytest.raises(IdentityError, match="not a CA certificate"):
        Identity.of(one.cert_pem, one.key_pem, one.cert_pem)
    server = authority.issue_server(1)
    with pytest.raises(IdentityError, match="worker's profile"):
        Identity.of(server.cert_pem, server.key_pem, authority.ca_pem)


@pytest.mark.parametrize("name", ["cert.pem", "key.pem", "ca.pem"])
@pytest.mark.parametrize("damage", ["gone", "empty", "half", "open", "link", "binary"])
def test_damaged_files_are_named(
    authority: Authority, store: IdentityStore, name: str, damage: str
) -> None:
    store.save(identity_of(authority))
    path = store.folder / name
    content = path.read_bytes()
    match damage:
        case "gone":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "half":
            path.write_bytes(content[: len(content) // 2])
        case "open":
            path.chmod(0o666)
        case "link":
            path.rename(store.folder / "elsewhere")
            path.symlink_to(store.folder / "elsewhere")
        case "binary":
            path.write_bytes(b"\xff" + content)
    with pytest.raises(IdentityError, match=str(store.folder)) as refused:
        store.load()
    assert "PRIVATE" not in str(refused.value)


def test_a_folder_that_others_may_enter_is_refused(
    authority: Authority, store: IdentityStore
) -> None:
    store.save(identity_of(authority))
    store.folder.chmod(0o755)
    with pytest.raises(IdentityError, match="mode 0755"):
        store.load()


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("rotated", [False, True])
def test_a_power_cut_while_renewing_leaves_the_old_or_the_new_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: bool, rotated: bool
) -> None:
    authority = Authority.create(tmp_path / "cluster", "c1")
    next_authority = Authority.create(tmp_path / "next", "c1") if rotated else authority
    template = IdentityStore(tmp_path / "template")
    old = identity_of(authority)
    template.save(old)
    new = identity_of(next_authority, key=template.pending_key())
    seen, crashes = [], 0
    while True:
        store = IdentityStore(tmp_path / f"{crashes}")
        shutil.copytree(template.folder, store.folder)
        if not crash_at(monkeypatch, crashes, done=done, work=lambda s=store: s.save(new)):
            break
        crashes += 1
        found = IdentityStore(store.folder).load("c1")
        assert found in (old, new)
        seen.append(found == new)
        if found == old:
            # The request can be repeated with the key that the cluster knows by now.
            assert store.pending_key().public_key() == template.pending_key().public_key()
        store.save(new)
        assert store.load() == new
        assert {path.name for path in store.folder.iterdir()} == {"cert.pem", "key.pem", "ca.pem"}
    assert crashes >= 9
    # From one moment on it is the new one.
    assert seen == sorted(seen)
    assert seen[0] is False
    assert seen[-1] is True


@pytest.mark.parametrize("done", [False, True])
def test_a_power_cut_while_recovering_is_recovered_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    authority = Authority.create(tmp_path / "cluster")
    old, new = identity_of(authority), identity_of(authority)
    for first in range(7, 10):  # The three renames, once everything is written.
        for second in range(3):
            store = IdentityStore(tmp_path / f"{first}-{second}")
            store.save(old)
            assert crash_at(monkeypatch, first, done=False, work=lambda s=store: s.save(new))
            crash_at(monkeypatch, second, done=done, work=store.load)
            assert IdentityStore(store.folder).load() == new


@pytest.mark.parametrize("done", [False, True])
def test_a_power_cut_while_enrolling_keeps_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    authority = Authority.create(tmp_path / "cluster")
    crashes = 0
    while True:
        store = IdentityStore(tmp_path / f"{crashes}" / "identity")
        key = store.pending_key()
        identity = identity_of(authority, key=key)
        if not crash_at(
            monkeypatch, crashes, done=done, work=lambda s=store, i=identity: s.save(i)
        ):
            break
        crashes += 1
        if store.load() is None:
            assert store.pending_key().public_key() == key.public_key()
        else:
            assert store.load() == identity
    assert crashes >= 9


def test_renewal_is_due_at_half_life_give_or_take_a_tenth(authority: Authority) -> None:
    identity = identity_of(authority)
    life = identity.not_after - identity.not_before
    assert identity.renew_at(0) == identity.not_before + life / 2
    assert abs(identity.renew_at(-1) - (identity.not_before + life * 0.4)) < timedelta(seconds=1)
    assert abs(identity.renew_at(9) - (identity.not_before + life * 0.6)) < timedelta(seconds=1)


def test_the_repr_has_no_key(authority: Authority) -> None:
    text = repr(identity_of(authority))
    assert "BEGIN" not in text
    assert "node_id=1000" in text
