"""Servers that come with a token, over real TLS and gRPC."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.unit.enroll.cluster import IMPATIENT, RunningCluster, running_cluster
from zlayer_native.enroll.client import enroll
from zlayer_native.enroll.join_server import Joined, Place, join_server
from zlayer_native.errors import EnrollmentError, IdentityError, TokenInvalid
from zlayer_native.identity import sealed
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.keys import new_key
from zlayer_native.identity.server_certificates import ServerCertificates
from zlayer_native.identity.store import IdentityStore

PLACE = Place(name="", node_id=0, raft_addr="127.0.0.1:3681", api_addr="127.0.0.1:3679")


async def join(cluster: RunningCluster, line: str, folder: Path, place: Place = PLACE) -> Joined:
    return await join_server([cluster.address], line, folder, place, patience=IMPATIENT)


async def test_a_server_gets_its_id_its_certificate_and_the_authority(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        line = await cluster.token(role="server", uses=2)
        folder = tmp_path / "s2" / "cluster"

        joined = await join(cluster, line, folder)

        assert joined == Joined(node_id=1, raft_addr="127.0.0.1:3681", api_addr="127.0.0.1:3679")
        assert Joined.read(folder) == joined
        assert cluster.state.servers[1]["raft_addr"] == "127.0.0.1:3681"
        authority = Authority.open(folder)
        assert authority.export() == cluster.authority.export()
        # Signed by the server that let it in, and used as it is.
        pair = ServerCertificates(authority, folder, 1).server()
        assert pair.key_pem in (folder / "server-1.pem").read_text()
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        assert modes.keys() == {
            "ca.key", "ca.pem", "token.key", "cluster.json", "server-1.pem", "server.json",
        }  # fmt: skip
        assert set(modes.values()) == {0o600}


async def test_a_join_that_was_cut_short_goes_on_with_the_same_id(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        line = await cluster.token(role="server")
        folder = tmp_path / "s2"
        joined = await join(cluster, line, folder)
        # As after a crash right before the last file.
        key = (folder / "server-1.pem").read_text().partition("-----BEGIN CERTIFICATE")[0]
        (folder / "join.key").write_text(key)
        (folder / "join.key").chmod(0o600)
        (folder / "server.json").unlink()

        assert await join(cluster, line, folder) == joined
        assert len(cluster.state.tokens[next(iter(cluster.state.tokens))]["uses"]) == 1


async def test_ids_are_each_given_once(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        line = await cluster.token(role="server", uses=3)
        wanted = Place(name="", node_id=7, raft_addr="127.0.0.1:3", api_addr="127.0.0.1:4")
        assert (await join(cluster, line, tmp_path / "a", wanted)).node_id == 7
        with pytest.raises(EnrollmentError, match="7 was given"):
            await join(cluster, line, tmp_path / "b", wanted)
        assert (await join(cluster, line, tmp_path / "b")).node_id == 8


async def test_tokens_admit_their_own_role_alone(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        for_servers = await cluster.token(role="server")
        for_workers = await cluster.token()
        with pytest.raises(EnrollmentError, match="does not admit"):
            await enroll(
                [cluster.address],
                for_servers,
                IdentityStore(tmp_path / "w"),
                patience=IMPATIENT,
            )
        with pytest.raises(TokenInvalid, match="--role server"):
            await join(cluster, for_workers, tmp_path / "s")
        # A record decides, whatever a line says.
        forged = await cluster.token(role="server")
        jti = list(cluster.state.tokens)[-1]
        cluster.state.tokens[jti]["role"] = "worker"
        with pytest.raises(EnrollmentError, match="does not admit"):
            await join(cluster, forged, tmp_path / "s")
        assert not cluster.state.servers
        assert not cluster.state.nodes


@pytest.mark.parametrize(
    ("place", "says"),
    [
        (Place(name="A b", node_id=0, raft_addr="h:1", api_addr="h:2"), "name: "),
        (Place(name="", node_id=1000, raft_addr="h:1", api_addr="h:2"), "node_id: "),
        (Place(name="", node_id=0, raft_addr="h", api_addr="h:2"), "raft_addr: "),
        (Place(name="", node_id=0, raft_addr="h:1", api_addr="0.0.0.0:2"), "api_addr: "),
    ],
)
async def test_a_bad_place_is_named(tmp_path: Path, place: Place, says: str) -> None:
    async with running_cluster(tmp_path) as cluster:
        line = await cluster.token(role="server")
        with pytest.raises(EnrollmentError, match=says):
            await join(cluster, line, tmp_path / "s", place)
        assert cluster.state.proposed == []


@pytest.mark.parametrize(
    ("known", "raft_addr", "says"),
    [
        ("127.0.0.1:3671", "10.0.0.2:3671", "start it again with --raft"),
        ("10.0.0.1:3671", "127.0.0.1:3671", "can't be dialled by the server at 10.0.0.1:3671"),
    ],
)
async def test_servers_that_could_not_reach_each_other_are_told(
    tmp_path: Path, known: str, raft_addr: str, says: str
) -> None:
    async with running_cluster(tmp_path, raft_addresses=lambda: [known]) as cluster:
        line = await cluster.token(role="server")
        place = Place(name="", node_id=0, raft_addr=raft_addr, api_addr="10.0.0.2:3669")
        with pytest.raises(EnrollmentError, match=says):
            await join(cluster, line, tmp_path / "s", place)
        assert cluster.state.proposed == []


async def test_a_folder_that_is_taken_stays_as_it_is(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        line = await cluster.token(role="server", uses=2)
        await join(cluster, line, tmp_path / "s")
        with pytest.raises(IdentityError, match="has joined already"):
            await join(cluster, line, tmp_path / "s")
        other = Authority.create(tmp_path / "other")
        with pytest.raises(IdentityError, match=f"is of cluster {other.cluster_id}"):
            await join(cluster, line, tmp_path / "other")
        (tmp_path / "s" / "server.json").write_text(json.dumps({"node_id": 1}))
        with pytest.raises(IdentityError, match=r"server\.json: is not as it was written"):
            Joined.read(tmp_path / "s")


def test_a_box_opens_with_its_key_in_its_place_and_unchanged() -> None:
    key, box_of = new_key(), "spiffe://zl/server/2"
    box = sealed.seal(key.public_key(), b"secret", box_of)
    assert b"secret" not in box
    assert sealed.open_sealed(key, box, box_of) == b"secret"
    assert sealed.seal(key.public_key(), b"secret", box_of) != box
    wrong = [(new_key(), box, box_of), (key, box, "spiffe://zl/server/3")]
    wrong += [
        (key, box[:at] + bytes([box[at] ^ 1]) + box[at + 1 :], box_of) for at in range(len(box))
    ]
    wrong += [(key, box[:length], box_of) for length in (0, 1, 66, 78, len(box) - 1)]
    for holder, content, context in wrong:
        with pytest.raises(IdentityError, match="can't be opened"):
            sealed.open_sealed(holder, content, context)
