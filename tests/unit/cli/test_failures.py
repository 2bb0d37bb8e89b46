"""Servers that are not there, not ours, slow, broken or hostile: a clear line and a stable code."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.unit.cli.book import Book, node_view
from tests.unit.cli.running import ZLAYERD, Zlayerd, start
from tests.unit.cli.scripted import SILENCE, answer, said, scripted
from zlayer_native.cli import client, exits
from zlayer_native.errors import (
    ApiError,
    CoreStopped,
    EnrollmentError,
    NodeNotFound,
    NotSupported,
    Unreachable,
    ZLayerError,
)

SECRET = "zlat_a-secret-of-this-test"
ESCAPE = "\x1b]0;owned\x07\x1b[2J\u202e\n"


@pytest.fixture
def zlayerd(alone: Zlayerd) -> Zlayerd:
    alone.monkeypatch.setenv("ZLAYER_TOKEN", SECRET)
    alone.secrets = [SECRET]
    return alone


def problem(status: int, code: str, message: str, hint: str = "") -> bytes:
    return answer(status, json.dumps({"error": {"code": code, "message": message, "hint": hint}}))


@pytest.mark.parametrize(
    ("said_now", "code", "says"),
    [
        (answer(200, "<html>", "text/html"), 1, "without a JSON object, not like a zlayer"),
        (answer(200, "[1, 2]"), 1, "without a JSON object"),
        (answer(200, "[" * 100_000), 1, "without a JSON object"),
        (answer(200, b"\xff\xfe"), 1, "without a JSON object"),
        (answer(502, "<html>Bad Gateway", "text/html"), 6, "answered with 502 Bad Gateway"),
        (answer(799, "{}"), 1, "answered with 799 (no known status)"),
        (answer(404, '{"error": "x"}'), 1, "answered with 404 Not Found"),
        (answer(302, "", location="http://10.0.0.1/"), 1, "answered with 302 Found"),
        (answer(503, "", "text/plain"), 6, "answered with 503 Service Unavailable"),
        (problem(503, "no_leader", "no server", "try again"), 6, "error: no server\nhint"),
        (problem(503, "overloaded", "busy"), 6, "error: busy"),
        (problem(500, "internal", "the server could not do this"), 1, "could not do this"),
        (problem(403, "not_allowed", "no"), 5, "error: no"),
        (problem(409, "token_used_up", "no uses left"), 5, "no uses left"),
        (problem(409, "limit_reached", "full"), 1, "full"),
        (problem(418, f"x{ESCAPE}", f"m{ESCAPE}", f"h{ESCAPE}"), 1, "m\\x1b]0;owned\\x07"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{", 6, "broke"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", 6, "broke: "),
        (b"\x15\x03\x03\x00\x02\x02\x16", 6, "hint: does it speak https?"),
    ],
)  # fmt: skip
def test_answers_that_are_none(zlayerd: Zlayerd, said_now: bytes, code: int, says: str) -> None:
    with scripted([said_now]) as server:
        done = zlayerd("token", "ls", "--addr", f"http://127.0.0.1:{server.port}", code=code)
    assert says in done.err
    assert done.out == ""


def test_a_message_forges_no_lines_of_ours(zlayerd: Zlayerd) -> None:
    forged = problem(500, "x", "no\nhint: run this", "really\nerror: or that")
    with scripted([forged]) as server:
        err = zlayerd("token", "ls", "--addr", _at(server.port), code=1).err
    assert err == "error: no\\nhint: run this\nhint: really\\nerror: or that\n"


def test_a_reader_that_has_gone_is_no_noise() -> None:
    with start(["version"], dict(os.environ)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait(30)) == ("", 1)


def test_a_redirect_is_not_followed_with_the_secret(zlayerd: Zlayerd) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as elsewhere,
        scripted(
            [answer(307, "", location=f"http://127.0.0.1:{elsewhere.getsockname()[1]}/")]
        ) as server,
    ):
        zlayerd("status", "--addr", f"http://127.0.0.1:{server.port}", code=1)
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


def test_an_answer_without_end_is_cut(zlayerd: Zlayerd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_ANSWER_BYTES_MAX", 1 << 20)
    with scripted([answer(200, b" " * (2 << 20))]) as server:
        done = zlayerd("token", "ls", "--addr", f"http://127.0.0.1:{server.port}", code=1)
    assert "the answer is larger than 1 MiB" in done.err


def test_nobody_listens(zlayerd: Zlayerd) -> None:
    done = zlayerd("token", "ls", "--addr", "http://127.0.0.1:1", code=6)
    assert "can't connect to http://127.0.0.1:1: connection refused" in done.err
    assert "hint: is `zlayerd server` running there?" in done.err


def test_a_name_that_does_not_exist(zlayerd: Zlayerd) -> None:
    done = zlayerd("token", "ls", "--addr", "https://no-such-host.invalid", code=6)
    assert "can't connect to https://no-such-host.invalid:3669" in done.err


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["token", "ls"], "wait longer with --timeout"),
        (["token", "create"], "it may have been done all the same"),
    ],
)
def test_a_server_that_never_answers(zlayerd: Zlayerd, args: list[str], hint: str) -> None:
    with scripted([SILENCE]) as server:
        addr = f"http://127.0.0.1:{server.port}"
        done = zlayerd(*args, "--addr", addr, "--timeout", "0.2", code=6)
    assert "did not answer within 0.2 s" in done.err
    assert hint in done.err


@pytest.mark.parametrize("form", ["table", "wide", "json", "yaml", "name"])
def test_hostile_names_never_reach_a_terminal(zlayerd: Zlayerd, form: str) -> None:
    """The runner checks that no control character is printed; here, that nothing was lost."""
    node = node_view(
        1000, ESCAPE, reason=ESCAPE, labels={ESCAPE: ESCAPE}, address=ESCAPE, id=ESCAPE
    )
    with scripted([said({"items": [node], "revision": 1})]) as server:
        done = zlayerd("node", "ls", "-o", form, "--addr", f"http://127.0.0.1:{server.port}")
    assert "owned" in done.out
    assert "\u202e" not in done.out


def test_hostile_events_and_tokens_neither(zlayerd: Zlayerd) -> None:
    book = Book()
    book.add_event(ESCAPE, node_name=ESCAPE, reason=ESCAPE, detail=ESCAPE)
    page = {"items": book.events, "revision": 1, "first_kept": 1, "lost": None}
    with scripted([said(page)]) as server:
        out = zlayerd("events", "--after", 0, "--limit", 1, "--addr", _at(server.port)).out
    assert out.count("\\x1b]0;owned") == 4
    book.add_token("ab" * 16, name=ESCAPE, labels={ESCAPE: ESCAPE}, labels_allowed=[ESCAPE])
    with scripted([said({"items": list(book.tokens.values()), "revision": 1})]) as server:
        out = zlayerd("token", "ls", "-o", "wide", "--addr", _at(server.port)).out
    assert out.count("owned") == 4
    with scripted(
        [said({"items": [], "revision": ESCAPE, "leader": None} | book.status())] * 3
    ) as server:
        zlayerd("status", "--addr", _at(server.port))


def test_pages_that_do_not_advance_end(zlayerd: Zlayerd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zlayer_native.cli.nodes.PAGE_MAX", 1)
    page = said({"items": [node_view(7, "w07")], "revision": 1})
    with scripted([page, page]) as server:
        done = zlayerd("node", "ls", "--addr", _at(server.port), code=1)
    assert "the pages of nodes do not go on" in done.err


def test_a_document_without_its_fields_is_one_line(zlayerd: Zlayerd) -> None:
    with scripted([said({"hello": "world"})]) as server:
        done = zlayerd("node", "ls", "--addr", _at(server.port), code=1)
    assert (
        done.err == "error: unexpected KeyError: 'items'\nhint: ZLAYERD_TRACEBACK=1 shows where\n"
    )


def test_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*ZLAYERD, "version"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (1, "error: No space left on device\n")


def test_a_developer_can_ask_for_the_traceback(
    alone: Zlayerd, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zlayer_native.cli.main import run

    def bug(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("zlayer_native.cli.version._installed", bug)
    assert "error: unexpected RuntimeError: a bug" in alone("version", code=1).err
    monkeypatch.setenv("ZLAYERD_TRACEBACK", "1")
    with pytest.raises(RuntimeError, match="a bug"):
        run()


def test_a_proxy_for_the_outside_is_not_asked_for_loopback(zlayerd: Zlayerd) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        zlayerd.monkeypatch.setenv(name, "http://127.0.0.1:1")
    with scripted([said({"items": [], "revision": 1})]) as server:
        zlayerd("token", "ls", "--addr", _at(server.port))
    assert server.targets == ["/api/v1/cluster/tokens"]
    assert f"authorization: bearer {SECRET}" in server.heads[0].lower()


def test_a_proxy_that_can_not_be_used_is_no_traceback(zlayerd: Zlayerd) -> None:
    zlayerd.monkeypatch.setenv("ALL_PROXY", "gopher://x")
    assert "proxy variable" in zlayerd("token", "ls", "--addr", "https://srv-1", code=1).err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ZLayerError("x"), 1),
        (NotSupported("x"), 2),
        (NodeNotFound("x"), 4),
        (CoreStopped("x"), 70),
        (Unreachable("x"), 6),
        (ApiError("x", status=404), 4),
        (ApiError("x", status=401), 5),
        (ApiError("x", status=409, code="token_invalid"), 5),
        (ApiError("x", status=400, code="node_not_found"), 4),
        (ApiError("x", status=400, code="invalid_request"), 1),
        (ApiError("x", status=503, code="key_in_use"), 6),
        (EnrollmentError("x", retryable=True), 6),
        (EnrollmentError("x"), 5),
    ],
)
def test_exit_codes(error: ZLayerError, code: int) -> None:
    assert exits.code_of(error) == code


def _at(port: int) -> str:
    return f"http://127.0.0.1:{port}"
