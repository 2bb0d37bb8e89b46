"""The file of API tokens: read again when it changes; damaged, it admits nobody."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.unit.api.api import NODES, problem, running_api
from zlayer_native.api import ApiTokens, Scope, TokenFile, new_secret
from zlayer_native.api.auth import ApiToken
from zlayer_native.errors import IdentityError

SECRET = new_secret()
GOOD = ApiToken.of_secret(SECRET, name="ci", scope=Scope.OPERATE, expires_s=2_000)


def item(**changes: object) -> str:
    document = json.loads(ApiTokens([GOOD]).to_json())
    document["tokens"][0] = {**document["tokens"][0], **changes}
    return json.dumps(document)


def test_what_is_written_is_read() -> None:
    other = ApiToken.of_secret(new_secret(), name="admin", scope=Scope.ADMIN)
    tokens = ApiTokens.from_json(ApiTokens([GOOD, other]).to_json())
    assert tokens.authenticate(SECRET, 0) == GOOD
    assert tokens.to_json() == ApiTokens([GOOD, other]).to_json()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"version": 2, "tokens": []}',
        '{"version": 1}',
        '{"version": 1, "tokens": 5}',
        '{"version": 1, "tokens": [5]}',
        '{"version": 1, "tokens": ' + "[" * 100_000,
        json.dumps({"version": 1, "tokens": [json.loads(item())["tokens"][0]] * 257}),
        item(sha256=SECRET),
        item(sha256=GOOD.sha256.upper()),
        item(sha256=" ".join([GOOD.sha256[:32], GOOD.sha256[32:]])),
        item(sha256=GOOD.sha256[:-1]),
        item(sha256=None),
        item(scope="root"),
        item(scope=3),
        item(expires_s="2000"),
        item(expires_s=2000.5),
    ],
    ids=lambda content: content[:40],
)
def test_a_damaged_file_is_named_and_admits_nobody(tmp_path: Path, content: str) -> None:
    with pytest.raises(IdentityError, match="not a file of API tokens"):
        ApiTokens.from_json(content)
    path = tmp_path / "api-tokens.json"
    path.write_text(content)
    assert TokenFile(path).authenticate(SECRET, 0) is None


def test_the_file_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "api-tokens.json"
    tokens = TokenFile(path)
    assert tokens.authenticate(SECRET, 0) is None  # Not there yet.
    path.write_text(ApiTokens([GOOD]).to_json())
    assert tokens.authenticate(SECRET, 0) == GOOD
    assert tokens.authenticate(SECRET, 2_000) is None
    path.write_bytes(b"\xff\xfe\x00")
    assert tokens.authenticate(SECRET, 0) is None
    replacement = tmp_path / "new"
    replacement.write_text(ApiTokens([GOOD]).to_json())
    replacement.replace(path)
    assert tokens.authenticate(SECRET, 0) == GOOD
    path.unlink()
    assert tokens.authenticate(SECRET, 0) is None


def test_an_unchanged_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "api-tokens.json"
    path.write_text(ApiTokens([GOOD]).to_json())
    reads: list[Path] = []
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: reads.append(self) or real(self))
    tokens = TokenFile(path)
    for _ in range(10):
        assert tokens.authenticate(SECRET, 0) == GOOD
    assert reads == [path]
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert tokens.authenticate(SECRET, 0) == GOOD
    assert reads == [path, path]


async def test_taking_a_token_out_of_the_file_revokes_it(tmp_path: Path) -> None:
    path = tmp_path / "api-tokens.json"
    secret = new_secret()
    token = ApiToken.of_secret(secret, name="ci", scope=Scope.READ)
    path.write_text(ApiTokens([token]).to_json())
    async with running_api() as api:
        api.clock.tokens = TokenFile(path)  # type: ignore[assignment]  # same method
        headers = {"authorization": f"Bearer {secret}"}
        assert (await api.client.get(NODES, headers=headers)).status_code == 200
        path.write_text(ApiTokens([]).to_json())
        assert problem(await api.client.get(NODES, headers=headers), 401) == "not_authenticated"
