"""`zlayerd events` without `-f`: which part of the log is printed, and how."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.unit.cli.fake_cluster import FakeCluster
from tests.unit.cli.running import Zlayerd
from zlayer_native.cli import events
from zlayer_native.cli.events import Kind


def revisions(zlayerd: Zlayerd, *args: object) -> list[int]:
    page = json.loads(zlayerd("events", "-o", "json", *args).out)
    return [item["revision"] for item in page["items"]]


def test_table(zlayerd: Zlayerd, cluster: FakeCluster) -> None:
    cluster.book.add_event("joined")
    cluster.book.add_event("token_created", node_id=0, node_name="", reason=None, detail="rack-7")
    rows = zlayerd("events").rows
    assert rows[0] == ["REVISION", "TIME", "TYPE", "NODE", "REASON", "DETAIL"]
    assert [rows[1][0], *rows[1][2:]] == ["1", "joined", "1000 w00", "session_opened", "-"]
    assert [rows[2][0], *rows[2][2:]] == ["2", "token_created", "-", "-", "rack-7"]
    assert rows[1][1].startswith("2026-11-2")


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_documents_are_the_apis_own(zlayerd: Zlayerd, cluster: FakeCluster, form: str) -> None:
    cluster.book.add_event()
    read = {"json": json.loads, "yaml": yaml.safe_load}[form]
    assert read(zlayerd("events", "-o", form).out) == {
        "items": cluster.book.events,
        "revision": 1,
        "first_kept": 1,
        "lost": None,
    }


def test_without_after_the_newest_are_printed(zlayerd: Zlayerd, cluster: FakeCluster) -> None:
    for _ in range(250):
        cluster.book.add_event()
    assert revisions(zlayerd) == list(range(151, 251))
    assert revisions(zlayerd, "--limit", 3) == [248, 249, 250]
    assert revisions(zlayerd, "--limit", 0) == []
    assert revisions(zlayerd, "--limit", 9999) == list(range(1, 251))


def test_with_after_the_next_ones_are_printed(zlayerd: Zlayerd, cluster: FakeCluster) -> None:
    for _ in range(30):
        cluster.book.add_event()
    assert revisions(zlayerd, "--after", 27) == [28, 29, 30]
    assert revisions(zlayerd, "--after", 10, "--limit", 2) == [11, 12]
    assert revisions(zlayerd, "--after", 30) == []


@pytest.mark.parametrize("page", [3, 7, 1000])
def test_types_are_looked_for_over_pages(
    zlayerd: Zlayerd, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(events, "_PAGE_MAX", page)
    for number in range(1, 21):
        cluster.book.add_event("left" if number % 5 == 0 else "joined")
    assert revisions(zlayerd, "--type", "left") == [5, 10, 15, 20]
    assert revisions(zlayerd, "--type", "left", "--limit", 2) == [15, 20]
    assert revisions(zlayerd, "--type", "left", "--limit", 2, "--after", 5) == [10, 15]
    assert revisions(zlayerd, "-t", "left", "-t", "joined", "--after", 0) == list(range(1, 21))
    assert revisions(zlayerd, "--type", "removed") == []


def test_a_type_that_does_not_exist_is_no_silent_nothing(zlayerd: Zlayerd) -> None:
    assert "'jioned' is not one of" in zlayerd("events", "--type", "jioned", code=2).err


def test_every_kind_of_the_core_can_be_asked_for() -> None:
    import re
    from pathlib import Path

    source = (Path(__file__).parents[3] / "rust/zlayer-core/src/record.rs").read_text()
    body = source.partition("pub enum EventKind {")[2].partition("\n}")[0]
    names = re.findall(r"^    ([A-Z]\w+),", body, re.MULTILINE)
    snakes = [re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() for name in names]
    assert snakes == [kind.value for kind in Kind]


def test_an_empty_log(zlayerd: Zlayerd) -> None:
    assert zlayerd("events").out.splitlines() == ["REVISION  TIME  TYPE  NODE  REASON  DETAIL"]


def test_a_gap_is_said(zlayerd: Zlayerd, cluster: FakeCluster) -> None:
    for _ in range(9):
        cluster.book.add_event()
    cluster.book.forget_below(6)
    done = zlayerd("events", "--after", 2, "-o", "json")
    page = json.loads(done.out)
    assert [item["revision"] for item in page["items"]] == [6, 7, 8, 9]
    assert page["lost"]["resumes_after"] == 5
    assert done.err == "events 3 to 5 are no longer kept\n"
    # The newest are not less for it: nothing that was asked for is missing.
    assert zlayerd("events", "--limit", 100).err == ""
    assert revisions(zlayerd, "--limit", 100) == [6, 7, 8, 9]


def test_a_revision_of_another_log_starts_anew(zlayerd: Zlayerd, cluster: FakeCluster) -> None:
    for _ in range(3):
        cluster.book.add_event()
    done = zlayerd("events", "--after", 50)
    assert [row[0] for row in done.rows[1:]] == ["1", "2", "3"]
    assert "revision 50 is ahead of the log, which ends at 3" in done.err
