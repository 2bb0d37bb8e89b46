"""Which server is asked, which secret it is shown, and which never leaves."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.unit.cli.fake_cluster import FakeCluster
from tests.unit.cli.running import Zlayerd
from zlayer_native.api import Scope
from zlayer_native.cli.target import Address, Secret, parse_address
from zlayer_native.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "url", "loopback"),
    [
        ("http://127.0.0.1:3669", "http://127.0.0.1:3669", True),
        ("http://127.0.0.1", "http://127.0.0.1:3669", True),
        ("127.9.9.9:80", "http://127.9.9.9:80", True),
        ("localhost:3669/", "http://localhost:3669", True),
        ("LOCALHOST", "http://localhost:3669", True),
        ("[::1]:3669", "http://[::1]:3669", True),
        ("::ffff:127.0.0.1", "", False),
        ("10.0.0.1:3669", "https://10.0.0.1:3669", False),
        ("srv-1.example.org", "https://srv-1.example.org:3669", False),
        ("http://srv-1:80", "http://srv-1:80", False),
        ("https://[2001:db8::1]:443", "https://[2001:db8::1]:443", False),
        ("http://localhost.example.org", "http://localhost.example.org:3669", False),
        ("http://127.0.0.1.example.org:1", "http://127.0.0.1.example.org:1", False),
        ("http://0.0.0.0:3669", "http://0.0.0.0:3669", False),
    ],
)
def test_addresses(given: str, url: str, loopback: bool) -> None:
    if not url:
        with pytest.raises(ConfigError):
            parse_address(given)
    else:
        assert parse_address(given) == Address(url, loopback)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "http://",
        "ftp://127.0.0.1",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:port",
        "http://127.0.0.1/path",
        "http://127.0.0.1?x=1",
        "http://127.0.0.1#x",
        "http://a b",
        "http://-x",
        "http://a..b",
        "http://" + "a" * 64,
        "http://999.0.0.1",
        "http://[::zz]",
        "http://[fe80::1%25eth0]",
        "http://127.0.0.1\r\nHost: evil",
        "http://größe",
        "\x1b[31m",
    ],
)
def test_what_is_no_address(alone: Zlayerd, given: str) -> None:
    assert "expected http://HOST:PORT" in alone("status", "--addr", given, code=1).err


def test_a_password_in_an_address_is_not_repeated(alone: Zlayerd) -> None:
    alone.secrets = ["hunter2"]
    assert "--addr: expected" in alone("status", "--addr", "http://u:hunter2@h", code=1).err


@pytest.mark.parametrize(
    "addr",
    [
        "http://10.0.0.1:3669",
        "http://srv-1:3669",
        "http://127.0.0.1.example.org",
        "http://localhost.example.org",
        "http://0.0.0.0:3669",
    ],
)
@pytest.mark.parametrize("source", ["file", "variable"])
def test_a_secret_never_crosses_a_network_in_the_clear(
    zlayerd: Zlayerd, monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster, addr: str, source: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a client was made")

    monkeypatch.setattr("httpx.Client", refuse)
    if source == "variable":
        monkeypatch.delenv("ZLAYER_TOKEN_FILE")
        monkeypatch.setenv("ZLAYER_TOKEN", cluster.secret)
    done = zlayerd("node", "ls", "--addr", addr, code=1)
    assert "the API secret is not sent to http://" in done.err
    assert "hint: use https://" in done.err


@pytest.mark.parametrize("source", ["flag", "file variable", "variable", "stdin", "data folder"])
def test_where_the_secret_is_found(
    alone: Zlayerd, cluster: FakeCluster, tmp_path: Path, source: str
) -> None:
    """Each source alone is enough; those that come later hold a wrong one."""
    order = ["flag", "file variable", "variable", "stdin", "data folder"]
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text(cluster.secret + "\n")
    wrong.write_text("zlat_wrong\n")
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "admin.token").write_text((right if source == order[-1] else wrong).read_text())
    alone.monkeypatch.setattr("zlayer_native.config.data_dir.default_data_dir", lambda: data_dir)
    args: list[object] = ["status", "--addr", cluster.url]
    if source == "flag":
        alone.monkeypatch.setenv("ZLAYER_TOKEN_FILE", str(wrong))
        args += ["--token-file", right]
    if source == "stdin":
        args += ["--token-file", "-"]
    if source == "file variable":
        alone.monkeypatch.setenv("ZLAYER_TOKEN_FILE", str(right))
    if source in ("flag", "file variable", "stdin"):
        alone.monkeypatch.setenv("ZLAYER_TOKEN", "zlat_wrong")
    if source == "variable":
        alone.monkeypatch.setenv("ZLAYER_TOKEN", cluster.secret)
    alone(*args, stdin=cluster.secret + "\n")


def test_the_local_admin_secret_is_for_this_machine_alone(alone: Zlayerd, tmp_path: Path) -> None:
    (tmp_path / "admin.token").write_text("zlat_local-secret\n")
    alone.secrets = ["zlat_local-secret"]
    alone.monkeypatch.setattr("zlayer_native.config.data_dir.default_data_dir", lambda: tmp_path)
    done = alone("status", "--addr", "https://srv-1:3669", code=5)
    assert "no API secret was found (this machine's own admin secret is not sent" in done.err


def test_no_secret_says_how_to_get_one(alone: Zlayerd, tmp_path: Path) -> None:
    done = alone("status", code=5)
    path = tmp_path / "no-server-here" / "admin.token"
    assert f"no API secret was found ({path}: No such file or directory)" in done.err
    assert "hint: pass --token-file (or set ZLAYER_TOKEN_FILE)" in done.err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "does not hold an API secret"),
        (b"\n\n", "does not hold an API secret"),
        (b"two words", "does not hold an API secret"),
        (b"zlat_x\r\nX-Evil: 1", "does not hold an API secret"),
        (b"zlat_\x00", "does not hold an API secret"),
        (b"zlat_\xff\xfe", "does not hold an API secret"),
        (b"z" * 257, "does not hold an API secret"),
        (b"z" * 100_000, "does not hold an API secret"),
    ],
)
def test_a_file_that_holds_no_secret(
    alone: Zlayerd, tmp_path: Path, content: bytes, says: str
) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    alone.secrets = ["zlat_", "two words", "zzzz"]
    done = alone("status", "--token-file", path, code=5)
    assert says in done.err
    assert str(path) in done.err


@pytest.mark.parametrize("value", ["two words", "zlat_x\r\nX-Evil: 1", "z" * 257])
def test_a_variable_that_holds_no_secret(alone: Zlayerd, value: str) -> None:
    alone.monkeypatch.setenv("ZLAYER_TOKEN", value)
    alone.secrets = ["two words", "zlat_", "zzzz"]
    assert "ZLAYER_TOKEN does not hold an API secret" in alone("status", code=5).err


def test_a_file_that_can_not_be_read_is_named(alone: Zlayerd, tmp_path: Path) -> None:
    done = alone("status", "--token-file", tmp_path / "gone", code=5)
    assert f"can't be read: {tmp_path / 'gone'}: No such file" in done.err
    assert "Is a directory" in alone("status", "--token-file", tmp_path, code=5).err
    closed = tmp_path / "closed"
    closed.touch(mode=0)
    if os.geteuid() != 0:  # Root reads everything.
        assert stat.S_IMODE(closed.stat().st_mode) == 0
        assert "Permission denied" in alone("status", "--token-file", closed, code=5).err


def test_a_secret_that_the_server_does_not_know(zlayerd: Zlayerd, tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_text("zlat_of-yesterday\n")
    zlayerd.secrets.append("zlat_of-yesterday")
    done = zlayerd("status", "--token-file", path, code=5)
    assert "error: a valid bearer token is needed" in done.err
    assert f"hint: the secret came from {path}; " in done.err


@pytest.mark.parametrize(
    ("scope", "args", "needs"),
    [
        (Scope.READ, ["token", "ls"], "operate"),
        (Scope.READ, ["node", "drain", "1000"], "operate"),
        (Scope.OPERATE, ["token", "create"], "admin"),
        (Scope.OPERATE, ["token", "revoke", "ab" * 16], "admin"),
    ],
)
def test_a_secret_that_may_not_exits_5(
    zlayerd: Zlayerd, cluster: FakeCluster, scope: Scope, args: list[str], needs: str
) -> None:
    cluster.book.add_node(1000, "w00")
    zlayerd.monkeypatch.delenv("ZLAYER_TOKEN_FILE")
    zlayerd.monkeypatch.setenv("ZLAYER_TOKEN", cluster.secrets[scope])
    assert f"this needs the scope {needs}" in zlayerd(*args, code=5).err


def test_a_secret_is_not_in_its_repr() -> None:
    assert "hunter2" not in repr(Secret("hunter2", "here"))
