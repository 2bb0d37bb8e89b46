"""S16: a server does not start with a CA that others could have read or swapped. Also T18."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from zlayer_native.errors import IdentityError
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.keys import key_pem, load_key, new_key


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "cluster"
    Authority.create(path, "c1")
    return path


def refused(folder: Path, why: str) -> str:
    with pytest.raises(IdentityError, match=why) as error:
        Authority.open(folder)
    assert "BEGIN" not in str(error.value)
    assert "BEGIN" not in str(error.value.__cause__)
    return str(error.value)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o601])
@pytest.mark.parametrize("name", ["ca.key", "token.key", "cluster.json"])
def test_s16_a_file_that_others_may_touch(folder: Path, name: str, mode: int) -> None:
    (folder / name).chmod(mode)
    assert f"{name}: mode {mode:04o}" in refused(folder, "too open")


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701, 0o777])
def test_s16_a_folder_that_others_may_enter(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    refused(folder, f"cluster: mode {mode:04o} lets others in")


def test_s16_a_ca_certificate_that_others_may_swap(folder: Path) -> None:
    (folder / "ca.pem").chmod(0o664)
    refused(folder, r"ca\.pem: mode 0664 is too open")
    (folder / "ca.pem").chmod(0o644)
    Authority.open(folder)


@pytest.mark.parametrize("name", ["ca.key", "ca.pem", "token.key", "cluster.json"])
def test_s16_a_symbolic_link(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    refused(folder, f"{name}: is a symbolic link")


def test_s16_a_folder_that_is_a_symbolic_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    refused(tmp_path / "link", "link: is a symbolic link")


@pytest.mark.parametrize("name", ["ca.key", "ca.pem", "token.key", "cluster.json"])
def test_s16_a_file_of_another_user(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() == 0:
        os.chown(folder / name, 65534, -1)
        refused(folder, f"{name}: belongs to user 65534, and this process is user 0")
        return
    # Only root can give a file away; everybody else plays the other user.
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    refused(folder, "belongs to user")


@pytest.mark.parametrize("name", ["ca.key", "ca.pem", "token.key", "cluster.json"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_s16_a_file_that_was_cut_short(folder: Path, name: str, share: float) -> None:
    path = folder / name
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert name in refused(folder, "cut short")


@pytest.mark.parametrize("name", ["ca.key", "ca.pem", "token.key", "cluster.json"])
def test_s16_a_file_that_is_gone(folder: Path, name: str) -> None:
    (folder / name).unlink()
    refused(folder, f"{name}: No such file")


def test_s16_a_certificate_of_another_ca(folder: Path, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "other", "c1")
    (folder / "ca.pem").write_text(other.ca_pem)
    refused(folder, r"ca\.pem: its first certificate does not belong to .*ca\.key")


def test_s16_a_certificate_that_is_no_ca(folder: Path) -> None:
    pair = Authority.open(folder).issue_server(1)
    (folder / "ca.pem").write_text(pair.cert_pem)
    refused(folder, r"ca\.pem: is not a CA certificate")


def test_s16_a_ca_that_has_expired(tmp_path: Path) -> None:
    begin = datetime.now(UTC) - timedelta(days=3700)
    Authority.create(tmp_path / "cluster", now=lambda: begin)
    refused(tmp_path / "cluster", r"ca\.pem: expired on 20")


def encrypted(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )


KEYS: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "encrypted": (lambda f: encrypted(load_key((f / "ca.key").read_bytes(), "")), "is encrypted"),
    "p384": (lambda _: key_pem(ec.generate_private_key(ec.SECP384R1())), "is not a P-256 key"),
    "ed25519": (lambda _: key_pem(ed25519.Ed25519PrivateKey.generate()), "is not a P-256 key"),
    "rsa": (
        lambda _: rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        "is not a P-256 key",
    ),
    "another": (lambda _: key_pem(new_key()), "does not belong to"),
    "certificate": (lambda f: (f / "ca.pem").read_bytes(), "no readable private key"),
    "too_long": (lambda f: (f / "ca.key").read_bytes() + b"#" * 70_000, "longer than"),
}


@pytest.mark.parametrize("name", KEYS)
def test_s16_a_ca_key_that_is_not_ours(folder: Path, name: str) -> None:
    make, why = KEYS[name]
    (folder / "ca.key").write_bytes(make(folder))
    refused(folder, why)


def test_s16_a_token_key_of_another_kind(folder: Path) -> None:
    (folder / "token.key").write_bytes((folder / "ca.key").read_bytes())
    refused(folder, r"token\.key: is not an Ed25519 key")


@pytest.mark.parametrize(
    "document", ["{}", "[]", "1", '{"cluster_id": "A B"}', '{"cluster_id": null}', "[" * 5000]
)
def test_s16_a_cluster_id_that_is_none(folder: Path, document: str) -> None:
    (folder / "cluster.json").write_text(document)
    refused(folder, "cluster")


def test_s16_the_private_key_is_nowhere_but_in_its_file(folder: Path) -> None:
    authority = Authority.open(folder)
    pair = authority.issue_server(1)
    private = load_key((folder / "ca.key").read_bytes(), "").private_numbers().private_value
    secret = private.to_bytes(32, "big")
    for path in folder.iterdir():
        if path.name != "ca.key":
            assert secret not in path.read_bytes()
    assert pair.cert_pem
    assert json.loads((folder / "cluster.json").read_text()) == {"cluster_id": "c1"}


def test_t18_a_hardened_process_leaves_no_core_dump() -> None:
    program = (
        "import ctypes, resource\n"
        "from zlayer_native.identity.hardening import forbid_core_dumps\n"
        "print(forbid_core_dumps(), resource.getrlimit(resource.RLIMIT_CORE),"
        " ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[0] == "True (0, 0) 0"
    assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) in (0, 1, 2)
