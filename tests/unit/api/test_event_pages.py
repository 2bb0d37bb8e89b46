"""`/api/v1/cluster/events` as pages."""

from __future__ import annotations

import pytest

from tests.unit.api.api import EVENTS, Api, problem
from zlayer_native.api.events import lost


async def test_pages_lead_to_the_end_without_gap_or_repeat(api: Api) -> None:
    for _ in range(25):
        api.core.happen()
    seen: list[int] = []
    while True:
        page = await api.get(EVENTS, after=seen[-1] if seen else 0, limit=10)
        assert page["revision"] == 25
        assert page["first_kept"] == 1
        assert page["lost"] is None
        if not page["items"]:
            break
        seen += [event["revision"] for event in page["items"]]
    assert seen == list(range(1, 26))


async def test_the_default_is_a_hundred_from_the_beginning(api: Api) -> None:
    await api.get(EVENTS)
    assert api.core.pages == [(0, 100)]


@pytest.mark.parametrize(
    "query",
    [
        "after=-1",
        "after=x",
        "after=9223372036854775808",
        "after=1&after=2",
        "limit=0",
        "limit=1001",
        "follow=yes",
        "follow=",
        "follow=true&follow=false",
        "since=1",
        "After=1",
    ],
)
async def test_a_query_that_can_not_be_meant_is_refused(api: Api, query: str) -> None:
    response = await api.call("GET", f"{EVENTS}?{query}")
    assert problem(response, 400) == "invalid_request"
    assert api.core.pages == []


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "9" * 30, "1 2", "\u0661"])
async def test_a_last_event_id_that_is_none_is_refused(api: Api, value: str) -> None:
    headers = {"accept": "text/event-stream", "last-event-id": value.encode()}
    response = await api.call("GET", EVENTS, headers=headers)
    assert problem(response, 400) == "invalid_request"


async def test_a_reader_behind_the_log_is_told_what_it_lost(api: Api) -> None:
    for _ in range(10):
        api.core.happen()
    api.core.forget(before=6)
    page = await api.get(EVENTS, after=2)
    assert page["lost"] == {
        "after": 2,
        "resumes_after": 5,
        "revision": 10,
        "why": "no_longer_kept",
    }
    assert [event["revision"] for event in page["items"]] == [6, 7, 8, 9, 10]
    assert (await api.get(EVENTS, after=5))["lost"] is None


async def test_a_reader_of_another_log_is_told_to_begin_again(api: Api) -> None:
    api.core.happen()
    page = await api.get(EVENTS, after=9)
    assert page["items"] == []
    assert page["lost"] == {
        "after": 9,
        "resumes_after": 0,
        "revision": 1,
        "why": "ahead_of_the_log",
    }


@pytest.mark.parametrize(
    ("after", "newest", "first_kept", "why"),
    [
        (0, 0, 1, None),
        (0, 5, 1, None),
        (5, 5, 1, None),
        (4, 5, 5, None),
        (5, 5, 6, None),  # Nothing is kept, and nothing was missed.
        (3, 5, 5, "no_longer_kept"),
        (0, 5, 2, "no_longer_kept"),
        (6, 5, 1, "ahead_of_the_log"),
        (1, 0, 1, "ahead_of_the_log"),
    ],
)
def test_what_is_a_gap(after: int, newest: int, first_kept: int, why: str | None) -> None:
    gap = lost({"revision": newest, "first_kept": first_kept}, after)
    assert (gap or {}).get("why") == why
