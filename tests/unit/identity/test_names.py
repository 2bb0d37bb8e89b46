from __future__ import annotations

import pytest

from zlayer_native.errors import IdentityError
from zlayer_native.identity.names import (
    Member,
    check_cluster_id,
    join_name,
    member_uri,
    new_cluster_id,
    parse_uri,
    server_name,
)


def test_cluster_ids_are_dns_labels_that_begin_with_a_letter() -> None:
    ids = {new_cluster_id() for _ in range(200)}
    assert len(ids) == 200
    for cluster_id in ids:
        assert check_cluster_id(cluster_id) == cluster_id
        assert len(cluster_id) == 16
        assert cluster_id[0].isalpha()


@pytest.mark.parametrize("text", ["", "A", "a b", "-a", "a-", "a.b", "a" * 64, "ä", "a\n", "a_b"])
def test_other_cluster_ids_are_refused(text: str) -> None:
    with pytest.raises(IdentityError):
        check_cluster_id(text)


def test_tls_names() -> None:
    assert join_name("c1") == "join.c1.zlayer.internal"
    assert server_name("c1") == "server.c1.zlayer.internal"


@pytest.mark.parametrize("role", ["server", "worker"])
@pytest.mark.parametrize("node_id", [1, 1000, 2**63 - 1])
def test_a_uri_is_read_as_it_was_written(role: str, node_id: int) -> None:
    uri = member_uri("c1", role, node_id)  # type: ignore[arg-type]  # parametrised literal
    assert parse_uri(uri) == Member("c1", role, node_id)  # type: ignore[arg-type]  # the same


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://c1/worker/0",
        "spiffe://c1/worker/01",
        "spiffe://c1/worker/+1",
        "spiffe://c1/worker/-1",
        "spiffe://c1/worker/",
        "spiffe://c1/worker/1/",
        "spiffe://c1/worker/1 ",
        "spiffe://c1/worker/1\n",
        "spiffe://c1/worker/1?a",
        "spiffe://c1/worker/1#a",
        "spiffe://c1/worker/\u0661",
        "spiffe://c1/worker/9223372036854775808",
        "spiffe://c1/Worker/1",
        "spiffe://c1/admin/1",
        "spiffe://C1/worker/1",
        "spiffe://-c1/worker/1",
        "spiffe://c1:1/worker/1",
        "spiffe://u@c1/worker/1",
        "spiffe:///worker/1",
        "https://c1/worker/1",
        "SPIFFE://c1/worker/1",
        "spiffe://c1/worker/../server/1",
    ],
)
def test_other_uris_are_refused(uri: str) -> None:
    with pytest.raises(IdentityError):
        parse_uri(uri)
