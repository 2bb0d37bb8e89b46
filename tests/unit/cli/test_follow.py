"""`zlayerd events -f`: what happens while it runs, across broken connections and restarts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.unit.cli.fake_cluster import FakeCluster
from tests.unit.cli.running import Done, Zlayerd, check_manners, lines_of, start
from tests.unit.cli.scripted import answer, frame, scripted, stream
from zlayer_native.api.events import KEEP_ALIVE
from zlayer_native.cli import client
from zlayer_native.cli.stream import Frame, frames
from zlayer_native.errors import ApiError

#: Ends a script: the client gives up, since this does not pass by waiting.
GONE = answer(401, '{"error": {"code": "not_authenticated", "message": "no more", "hint": ""}}')


@pytest.fixture
def followed(cluster: FakeCluster, settings: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process that follows from the start of the log, one line of JSON for each event."""
    process = start(["events", "-f", "--after", "0", "-o", "json"], {**os.environ, **settings})
    yield process
    process.kill()
    process.communicate()


def revisions(process: subprocess.Popen[str], count: int) -> list[int]:
    return [json.loads(line)["revision"] for line in lines_of(process.stdout, count)]


def test_events_are_printed_as_they_happen(
    cluster: FakeCluster, followed: subprocess.Popen[str]
) -> None:
    cluster.happen()
    assert revisions(followed, 1) == [1]
    cluster.happen("left", detail="bye")
    line = json.loads(lines_of(followed.stdout, 1)[0])
    assert line == cluster.book.events[1]


def test_a_restarted_server_loses_and_repeats_nothing(
    cluster: FakeCluster, followed: subprocess.Popen[str]
) -> None:
    for _ in range(3):
        cluster.happen()
    assert revisions(followed, 3) == [1, 2, 3]
    cluster.stop()
    assert lines_of(followed.stderr, 1)[0].endswith("resuming after revision 3")
    for _ in range(2):
        cluster.happen()  # While nobody can be told.
    cluster.start()
    assert revisions(followed, 2) == [4, 5]
    cluster.happen()
    assert revisions(followed, 1) == [6]


def test_ctrl_c_ends_it_quietly(cluster: FakeCluster, followed: subprocess.Popen[str]) -> None:
    cluster.happen()
    assert revisions(followed, 1) == [1]
    followed.send_signal(signal.SIGINT)
    out, err = followed.communicate(timeout=30)
    assert (out, err, followed.returncode) == ("", "", 130)


def test_a_reader_that_goes_ends_it_quietly(
    cluster: FakeCluster, followed: subprocess.Popen[str]
) -> None:
    cluster.happen()
    assert revisions(followed, 1) == [1]
    assert followed.stdout is not None
    followed.stdout.close()
    cluster.happen()
    assert followed.wait(30) == 1
    assert followed.stderr is not None
    assert followed.stderr.read() == ""


# --- scripts: every byte that the server says ---------------------------------------------------


@pytest.fixture
def script(alone: Zlayerd) -> Zlayerd:
    alone.monkeypatch.setenv("ZLAYER_TOKEN", "zlat_s")
    alone.monkeypatch.setattr("random.uniform", lambda *_: 0.01)  # Retries without long waits.
    return alone


def follow(script: Zlayerd, answers: list[bytes], *args: object, code: int = 5) -> tuple[Done, str]:
    """Follows until the script ends; also the revisions that were asked for, in order."""
    with scripted(answers) as server:
        addr = f"http://127.0.0.1:{server.port}"
        done = script("events", "-f", "--addr", addr, *args, code=code)
    asked = [target.partition("after=")[2] for target in server.targets]
    return done, " ".join(asked)


def shown(done: Done) -> list[int]:
    return [json.loads(line)["revision"] for line in done.out.splitlines()]


def test_it_resumes_where_the_stream_was_cut(script: Zlayerd) -> None:
    cut = frame(4)[:-2]
    answers = [
        stream(frame(1), frame(2)),
        answer(503, '{"error": {"code": "overloaded", "message": "busy", "hint": ""}}'),
        answer(502, "", "text/plain"),
        stream(frame(3), cut),
        stream(frame(4)),
        GONE,
    ]
    done, asked = follow(script, answers, "--after", 0, "-o", "json")
    assert shown(done) == [1, 2, 3, 4]
    assert asked == "0 2 2 2 3 4"
    remarks = done.err.splitlines()
    assert [line.rpartition(" ")[2] for line in remarks[:3]] == ["2", "3", "4"]
    assert remarks[3] == "error: no more"


def test_a_first_connection_that_fails_is_an_error(script: Zlayerd) -> None:
    done = script("events", "-f", "--after", 0, "--addr", "http://127.0.0.1:1", code=6)
    assert "connection refused" in done.err
    busy = answer(503, '{"error": {"code": "too_many_streams", "message": "64", "hint": "close"}}')
    assert follow(script, [busy], "--after", 0, code=6)[0].err == "error: 64\nhint: close\n"


def test_a_gap_is_said_and_passed(script: Zlayerd) -> None:
    gap = {"after": 2, "resumes_after": 7, "revision": 8, "why": "no_longer_kept"}
    lost = f"id: 7\nevent: lost\ndata: {json.dumps(gap)}\n\n".encode()
    done, asked = follow(
        script, [stream(lost, frame(8)), GONE], "--after", 2, "-o", "json", "--type", "joined"
    )
    assert shown(done) == [8]
    assert "events 3 to 7 are no longer kept\n" in done.err
    assert asked == "2 8"


def test_types_are_picked_and_the_others_still_move_on(script: Zlayerd) -> None:
    sent = stream(frame(1, "joined"), frame(2, "left"), frame(3, "suspect"))
    done, asked = follow(script, [sent, GONE], "--after", 0, "-o", "json", "-t", "left")
    assert shown(done) == [2]
    assert asked == "0 3"


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_the_network_may_cut_the_stream_anywhere(size: int) -> None:
    sent = b": keep-alive\n\n" + frame(1) + frame(2, "left").replace(b"\n", b"\r\n") + b"\n"
    pieces = iter([sent[at : at + size] for at in range(0, len(sent), size)])
    assert [(item.revision, item.kind) for item in frames(pieces)] == [(1, "joined"), (2, "left")]


@pytest.mark.parametrize(
    "sent",
    [
        b"data: {}\n\n",
        b"id: 1\ndata: []\n\n",
        b"id: x\ndata: {}\n\n",
        b"id: 1\n\n",
        b"id: 1\ndata: {\n\n",
        b"id: 1\ndata: " + b"[" * 100_000 + b"\n\n",
        b"<!doctype html>\n\n",
        b"x" * (2 << 20),
    ],
)
def test_what_is_no_stream_of_ours(sent: bytes) -> None:
    with pytest.raises(ApiError, match="not an event stream"):
        list(frames(iter([sent])))


def test_a_frame_keeps_its_document() -> None:
    assert next(frames(iter([b'id: 5\nevent: left\ndata: {"a": 1}\n\n']))) == Frame(
        "left", 5, {"a": 1}
    )


def test_yaml_is_a_document_for_each_event(script: Zlayerd) -> None:
    done, _ = follow(script, [stream(frame(1), frame(2)), GONE], "--after", 0, "-o", "yaml")
    assert [item["revision"] for item in yaml.safe_load_all(done.out)] == [1, 2]


def test_the_table_has_its_columns_in_every_line(script: Zlayerd) -> None:
    sent = stream(frame(9), frame(10, "unreachable", detail="x" * 300))
    header, first, second = follow(script, [sent, GONE], "--after", 8)[0].out.splitlines()
    at = header.index("TYPE")
    assert first[at:].startswith("joined")
    assert second[at:].startswith("unreachable")
    assert second.endswith("x" * 300)


def test_silence_beyond_the_keep_alive_is_a_broken_connection() -> None:
    assert client.SILENCE_MAX > 2 * KEEP_ALIVE


# --- what of the past is printed first ----------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "first"),
    [
        ([], list(range(21, 31))),
        (["--limit", "3"], [28, 29, 30]),
        (["--limit", "0"], []),
        (["--after", "26"], [27, 28, 29, 30]),
        (["--after", "26", "--limit", "2"], [29, 30]),
        (["--type", "left", "--limit", "2"], [20, 30]),
    ],
)
def test_the_past_before_what_happens(
    cluster: FakeCluster, settings: dict[str, str], args: list[str], first: list[int]
) -> None:
    for number in range(1, 31):
        cluster.book.add_event("left" if number % 10 == 0 else "joined")
    process = start(["events", "-f", "-o", "json", *args], {**os.environ, **settings})
    try:
        assert revisions(process, len(first)) == first
        assert cluster.book.streams.get(timeout=30) == 30  # What happens now is no more the past.
        cluster.happen("left")
        assert revisions(process, 1) == [31]
    finally:
        process.kill()
        out, err = process.communicate()
    check_manners(Done(0, out, err), list(cluster.secrets.values()))


def test_a_secret_is_in_no_argument_of_a_process(
    cluster: FakeCluster, followed: subprocess.Popen[str]
) -> None:
    cluster.happen()
    assert revisions(followed, 1) == [1]
    assert cluster.secret.encode() not in Path(f"/proc/{followed.pid}/cmdline").read_bytes()
