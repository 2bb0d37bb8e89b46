"""`zlayerd token`: the join command, prefixes, and reading a token without a server."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.unit.cli.fake_cluster import JOIN_ADDRESS, FakeCluster
from tests.unit.cli.running import Zlayerd
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.token import TOKEN_CHARACTERS_MAX, decode

ONE, TWO, OTHER = "ab" + "0" * 30, "ab" + "1" * 30, "cd" + "2" * 30
NO_SERVER = ("--addr", "http://127.0.0.1:1")


@pytest.fixture
def line(zlayerd: Zlayerd) -> str:
    """A real token line."""
    made = zlayerd("token", "create", "-q", "--label", "gpu=a100", "--allow-label", "zone")
    return made.out.strip()


def test_the_join_command_works_when_it_is_pasted(zlayerd: Zlayerd, authority: Authority) -> None:
    out = zlayerd("token", "create", "--uses", 20, "--ttl", "1h30m", "--name", "rack-7").out
    command = next(line.strip() for line in out.splitlines() if "zlayerd worker" in line)
    echo, _, worker = command.partition(" | ")
    token = subprocess.run(["sh", "-c", echo], capture_output=True, text=True, check=True).stdout
    assert decode(token.strip()).claims.uses_max == 20
    assert shlex.split(worker) == [
        "zlayerd", "worker", "--server", JOIN_ADDRESS, "--token-file", "-",
    ]  # fmt: skip
    facts = dict(re.split(r" {2,}", fact) for fact in out.split("\n\n")[-1].splitlines())
    assert facts["name"] == "rack-7"
    assert facts["uses"] == "20"
    assert facts["expires"].startswith("in 1h29m (20")
    assert facts["cluster"] == authority.cluster_id
    assert [facts["CA sha256"]] == list(authority.fingerprints())


def test_a_server_joins_with_another_command(zlayerd: Zlayerd) -> None:
    out = zlayerd("token", "create", "--role", "server", "--uses", 2).out
    command = next(line.strip() for line in out.splitlines() if "zlayerd server" in line)
    echo, _, server = command.partition(" | ")
    assert decode(shlex.split(echo)[1]).claims.role == "server"
    assert shlex.split(server) == [
        "zlayerd", "server", "--server", JOIN_ADDRESS, "--join", "-", "--raft", "HOST:3671",
    ]  # fmt: skip


def test_what_a_server_answers_is_quoted_for_the_shell(
    zlayerd: Zlayerd, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {
        "jti": ONE, "name": "", "token": "x; touch /tmp/pwned", "cluster_id": "c",
        "expires_ms": 0, "role": "worker", "uses_max": 1, "labels": {}, "labels_allowed": [],
        "join_address": "$(id):1",
    }  # fmt: skip
    monkeypatch.setattr("zlayer_native.cli.client.Api.post", lambda *_: made)
    out = zlayerd("token", "create").out
    assert "  echo 'x; touch /tmp/pwned' | zlayerd worker --server '$(id):1' --token-file -" in out
    assert "unknown to this version" in out


def test_quiet_prints_the_token_alone(line: str) -> None:
    assert "\n" not in line
    claims = decode(line).claims
    assert claims.labels == {"gpu": "a100"}
    assert claims.labels_allowed == ("zone",)
    assert claims.expires_s - claims.created_s == 3600


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_created_as_the_apis_document(zlayerd: Zlayerd, form: str) -> None:
    out = zlayerd("token", "create", "-o", form, "--name", "n1").out
    made = {"json": json.loads, "yaml": yaml.safe_load}[form](out)
    assert made.keys() == {
        "jti", "name", "token", "cluster_id", "expires_ms", "role", "uses_max", "labels",
        "labels_allowed", "join_address",
    }  # fmt: skip
    assert decode(made["token"]).claims.jti == made["jti"]


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["--ttl", "soon"], 2, "not a duration: expected whole seconds, or text such as"),
        (["--ttl", "2d"], 1, "ttl_secs: expected a whole number from 10 to 86400"),
        (["--uses", "0"], 2, "greater than or equal to 1"),
        (["--uses", "many"], 2, "--uses"),
        (["--label", "gpu"], 2, "'gpu' is not key=value"),
        (["--label", "GPU=x"], 1, "labels: expected 1"),
        (["--allow-label", "a b"], 1, "labels_allowed: expected 1"),
        (["--name", "Rack 7"], 1, "name: expected 1"),
        (["--role", "boss"], 2, "--role"),
        (["--role", "server", "--label", "a=b"], 1, "a token for servers has none"),
        (["--role", "server", "--uses", "17"], 1, "uses: expected a whole number from 1 to 16"),
    ],
)
def test_what_can_not_be_made_is_said(
    zlayerd: Zlayerd, cluster: FakeCluster, args: list[str], code: int, says: str
) -> None:
    assert says in zlayerd("token", "create", *args, code=code).err
    assert not cluster.book.tokens


def test_list(zlayerd: Zlayerd, cluster: FakeCluster) -> None:
    cluster.book.add_token(ONE, name="rack-7", labels={"gpu": "a100"}, uses={"k": 1000})
    cluster.book.add_token(TWO, revoked=True)
    cluster.book.add_token(OTHER, expires_ms=1000, uses_max=1, labels_allowed=["zone"])
    cluster.book.add_token("ef" * 16, uses_max=1, uses={"k": 1001})
    rows = zlayerd("token", "ls").rows
    assert rows[0] == ["ID", "NAME", "STATE", "USES", "EXPIRES"]
    assert rows[1] == [ONE, "rack-7", "live", "1/3", "in 58m59s"]
    assert [row[2] for row in rows[2:]] == ["revoked", "expired", "used up"]
    wide = zlayerd("token", "ls", "-o", "wide").rows
    assert wide[1][5:] == ["gpu=a100", "-", "1m ago"]
    assert wide[3][6] == "zone"
    assert zlayerd("token", "ls", "-o", "name").out.split()[:2] == [ONE, TWO]
    assert json.loads(zlayerd("token", "ls", "-o", "json").out)["items"][0]["uses"] == {"k": 1000}
    assert yaml.safe_load(zlayerd("token", "ls", "-o", "yaml").out)["items"][1]["revoked"] is True


def test_an_empty_list_says_how_to_make_one(zlayerd: Zlayerd) -> None:
    assert zlayerd("token", "ls").err == "no tokens; make one with `zlayerd token create`\n"


@pytest.fixture
def three(cluster: FakeCluster) -> None:
    for jti, name in ((ONE, "one"), (TWO, "two"), (OTHER, "other")):
        cluster.book.add_token(jti, name=name)


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("given", [OTHER, "cd", "c"])
def test_an_id_may_be_given_by_how_it_begins(
    zlayerd: Zlayerd, cluster: FakeCluster, given: str
) -> None:
    assert dict(zlayerd("token", "inspect", given).rows)["name"] == "other"
    assert zlayerd("token", "revoke", given).out == f"revoked {OTHER}\n"
    assert [jti for jti, token in cluster.book.tokens.items() if token["revoked"]] == [OTHER]
    assert dict(zlayerd("token", "inspect", given).rows)["state"] == "revoked"


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("verb", ["revoke", "inspect"])
def test_a_beginning_of_several_ids_lists_them_and_does_nothing(
    zlayerd: Zlayerd, cluster: FakeCluster, verb: str
) -> None:
    done = zlayerd("token", verb, "ab", code=1)
    assert f"2 tokens have an id that begins with ab: {ONE} one; {TWO} two" in done.err
    assert "hint: give more digits" in done.err
    assert not any(token["revoked"] for token in cluster.book.tokens.values())


def test_a_long_list_of_candidates_is_cut(zlayerd: Zlayerd, cluster: FakeCluster) -> None:
    for number in range(14):
        cluster.book.add_token(f"ab{number:030x}")
    err = zlayerd("token", "revoke", "ab", code=1).err
    assert err.count("ab0000") == 10
    assert "and 4 more" in err


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("given", ["ef", "0" * 32, "AB", "zz", "", "ab/../x", "a" * 33])
def test_no_such_token_exits_4(zlayerd: Zlayerd, given: str) -> None:
    assert "there is no" in zlayerd("token", "revoke", given, code=4).err


def test_revoked_as_a_document(zlayerd: Zlayerd, cluster: FakeCluster) -> None:
    cluster.book.add_token(ONE)
    done = zlayerd("token", "revoke", ONE, "-o", "json")
    assert json.loads(done.out) == {"jti": ONE, "revoked": True}


def test_inspecting_an_id_asks_the_server(zlayerd: Zlayerd, cluster: FakeCluster) -> None:
    cluster.book.add_token(ONE, uses={"k1": 1007, "k0": 1003})
    facts = dict(zlayerd("token", "inspect", ONE[:5]).rows)
    assert (facts["uses"], facts["nodes"], facts["state"]) == ("2 of 3", "1003,1007", "live")
    document = json.loads(zlayerd("token", "inspect", ONE, "-o", "json").out)
    assert document == cluster.book.tokens[ONE]


@pytest.mark.parametrize("how", ["argument", "stdin", "file"])
def test_inspecting_a_token_needs_no_server_and_never_repeats_it(
    alone: Zlayerd, line: str, authority: Authority, tmp_path: Path, how: str
) -> None:
    alone.secrets = [line, line[40:80]]
    alone.monkeypatch.delenv("ZLAYER_TOKEN_FILE")
    (tmp_path / "token").write_text(line + "\n")
    what = {"argument": line, "stdin": "-", "file": str(tmp_path / "token")}[how]
    facts = dict(alone("token", "inspect", *NO_SERVER, what, stdin=line + "\n").rows)
    assert facts["cluster"] == authority.cluster_id
    assert [facts["CA sha256"]] == list(authority.fingerprints())
    assert facts["uses"] == "at most 1"
    assert facts["labels"] == "gpu=a100"
    assert facts["workers may set"] == "zone"
    assert facts["expires"].startswith("in 59m")
    assert facts["signature"].startswith("not checked")
    document = json.loads(alone("token", "inspect", what, "-o", "json", stdin=line).out)
    assert document["ca_fingerprints"] == list(authority.fingerprints())
    assert document["signature_checked"] is False


def test_what_is_no_token_is_not_repeated_either(alone: Zlayerd, line: str, tmp_path: Path) -> None:
    alone.secrets = [line[:60], line[-60:]]
    cut, garbage = tmp_path / "cut", tmp_path / "garbage"
    cut.write_text(line[:-9])
    garbage.write_bytes(bytes(range(256)) * 20)
    for what, code, says in (
        (line[:-9], 5, "this is no usable token"),
        (line[:300] + " " + line[300:], 5, "not URL-safe base64"),
        (line + "A" * TOKEN_CHARACTERS_MAX, 5, "longer than"),
        (line[4:], 5, "neither a token"),
        ("\0", 5, "neither a token"),
        (str(cut), 5, "this is no usable token"),
        (str(garbage), 1, "longer than a token"),
        (str(tmp_path), 1, "Is a directory"),
        (str(tmp_path / "gone"), 5, "neither a token"),
    ):
        assert says in alone("token", "inspect", what, code=code).err
