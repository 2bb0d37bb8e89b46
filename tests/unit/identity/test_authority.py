"""A cluster's authority is made whole or not at all, and opened only as it was made."""

from __future__ import annotations

import fcntl
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.unit.identity.crashes import crash_at
from zlayer_native.errors import IdentityError
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.keypair import KeyPair
from zlayer_native.identity.keys import new_key
from zlayer_native.identity.server_certificates import ServerCertificates


def test_it_is_the_same_when_it_is_opened_again(tmp_path: Path) -> None:
    made = Authority.create(tmp_path / "cluster")
    opened = Authority.open(tmp_path / "cluster")
    assert opened.cluster_id == made.cluster_id
    assert opened.ca_pem == made.ca_pem
    assert Authority.open_or_create(tmp_path / "cluster").ca_pem == made.ca_pem


def test_its_files_are_private(tmp_path: Path) -> None:
    Authority.create(tmp_path / "cluster")
    found = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "cluster").iterdir()}
    assert found == dict.fromkeys(("ca.key", "ca.pem", "token.key", "cluster.json"), 0o600)
    assert stat.S_IMODE((tmp_path / "cluster").stat().st_mode) == 0o700


def test_two_clusters_share_nothing(tmp_path: Path) -> None:
    one, two = (Authority.create(tmp_path / name) for name in ("one", "two"))
    assert one.cluster_id != two.cluster_id
    assert one.ca_pem != two.ca_pem


def test_a_cluster_is_never_overwritten(tmp_path: Path) -> None:
    before = Authority.create(tmp_path / "cluster").ca_pem
    with pytest.raises(IdentityError, match=r"holds a cluster's ca\.key, ca\.pem"):
        Authority.create(tmp_path / "cluster")
    assert Authority.open(tmp_path / "cluster").ca_pem == before


@pytest.mark.parametrize("name", ["ca.key", "ca.pem", "token.key", "cluster.json"])
def test_a_lost_file_is_named_and_nothing_is_made_anew(tmp_path: Path, name: str) -> None:
    Authority.create(tmp_path / "cluster")
    (tmp_path / "cluster" / name).unlink()
    with pytest.raises(IdentityError, match=f"{name}: No such file"):
        Authority.open_or_create(tmp_path / "cluster")
    assert not (tmp_path / "cluster" / name).exists()


def test_the_wrong_cluster_is_refused(tmp_path: Path) -> None:
    Authority.create(tmp_path / "cluster", "c1")
    with pytest.raises(IdentityError, match="is of cluster c1, not c2"):
        Authority.open_or_create(tmp_path / "cluster", "c2")


@pytest.mark.parametrize("done", [False, True])
def test_a_set_up_that_was_cut_short_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    crashes = 0
    while True:
        folder = tmp_path / f"{crashes}"
        if not crash_at(
            monkeypatch, crashes, done=done, work=lambda f=folder: Authority.open_or_create(f)
        ):
            break
        crashes += 1
        authority = Authority.open_or_create(folder)
        assert authority.cluster_id == Authority.open(folder).cluster_id
        assert len(list(folder.iterdir())) == 4
    # Folder, marker, four files, each written and renamed, marker removed.
    assert crashes == 1 + 2 + 4 * 2 + 1


def test_an_unfinished_set_up_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cluster"
    assert crash_at(monkeypatch, 10, done=True, work=lambda: Authority.create(folder))
    with pytest.raises(IdentityError, match="set-up was cut short"):
        Authority.open(folder)


def test_only_one_process_sets_up(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir(mode=0o700)
    other = os.open(tmp_path / "cluster", os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(IdentityError, match="another process"):
            Authority.create(tmp_path / "cluster")
    finally:
        os.close(other)


def test_a_retiring_ca_is_still_trusted(tmp_path: Path) -> None:
    old, new = (Authority.create(tmp_path / name, "c1") for name in ("old", "new"))
    (tmp_path / "new" / "ca.pem").write_text(new.ca_pem + old.ca_pem)
    authority = Authority.open(tmp_path / "new")
    assert authority.ca_der_list == [*new.ca_der_list, *old.ca_der_list]
    assert authority.issue_join(1).cert_pem
    (tmp_path / "new" / "ca.pem").write_text(old.ca_pem + new.ca_pem)
    with pytest.raises(IdentityError, match="does not belong to"):
        Authority.open(tmp_path / "new")


def test_its_repr_says_which_cluster_and_no_more(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "cluster", "c1")
    assert repr(authority) == "Authority('c1')"
    assert repr(authority.token_signer) == "TokenSigner('c1')"
    assert repr(authority._issuer) == "Issuer(***)"
    assert "PRIVATE" not in repr(authority.issue_server(1))


class TestServerCertificates:
    def make(self, tmp_path: Path, now: datetime, node_id: int = 1) -> ServerCertificates:
        authority = Authority.open_or_create(tmp_path / "cluster", now=lambda: now)
        return ServerCertificates(authority, tmp_path / "cluster", node_id, lambda: now)

    def test_they_survive_a_restart_and_are_renewed_at_half_life(self, tmp_path: Path) -> None:
        begin = datetime.now(UTC)
        first = self.make(tmp_path, begin)
        server, join = first.server(), first.join()
        assert first.server() is server
        assert self.make(tmp_path, begin).server() == server
        assert self.make(tmp_path, begin).join() == join
        assert self.make(tmp_path, begin + timedelta(days=14)).server() == server
        later = self.make(tmp_path, begin + timedelta(days=16))
        assert later.server() != server
        assert later.server() == self.make(tmp_path, begin + timedelta(days=16)).server()

    def test_another_clusters_certificate_is_replaced(self, tmp_path: Path) -> None:
        now = datetime.now(UTC)
        stranger = self.make(tmp_path / "b", now).server()
        certificates = self.make(tmp_path, now)
        stranger.save(tmp_path / "cluster" / "server-1.pem")
        assert certificates.server() != stranger

    def test_key_and_certificate_are_one_file(self, tmp_path: Path) -> None:
        now = datetime.now(UTC)
        certificates = self.make(tmp_path, now)
        pair = certificates.server()
        path = tmp_path / "cluster" / "server-1.pem"
        assert KeyPair.load(path)[0] == pair
        path.write_text(certificates.join().key_pem + pair.cert_pem)
        with pytest.raises(IdentityError, match="do not belong together"):
            KeyPair.load(path)
        path.chmod(0o644)
        with pytest.raises(IdentityError, match="too open"):
            self.make(tmp_path, now).server()

    def test_their_keys_are_known_as_the_clusters_own(self, tmp_path: Path) -> None:
        now = datetime.now(UTC)
        self.make(tmp_path, now).server()
        authority = Authority.open(tmp_path / "cluster")
        certificates = ServerCertificates(authority, tmp_path / "cluster", 1)
        _, certificate = KeyPair.load(tmp_path / "cluster" / "server-1.pem")
        from zlayer_native.identity.certificate import certificate_key_hash
        from zlayer_native.identity.keys import key_hash

        assert not authority.is_own_key(certificate_key_hash(certificate))
        certificates.server()
        assert authority.is_own_key(certificate_key_hash(certificate))
        assert authority.is_own_key(certificate_key_hash(authority.certificates[0]))
        assert not authority.is_own_key(key_hash(new_key().public_key()))
