"""`zlayerd events`: what happened, and what happens."""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Annotated, Any

import typer

from zlayer_native.cli import options, output, text
from zlayer_native.cli.client import Api, connect
from zlayer_native.cli.output import Cell, Format
from zlayer_native.cli.stream import EVENTS, LOST, follow
from zlayer_native.errors import ApiError

app = options.new_app()

#: Events of one page, as many as the API gives at once.
_PAGE_MAX = 1000
#: How many are printed when nobody says: of the past, and before following.
_LIMIT, _LIMIT_FOLLOW = 100, 10
_WIDTHS = (8, 19, 13, 20, 15)


class Kind(enum.StrEnum):
    """What can happen; the names are the event log's."""

    ENROLLED = "enrolled"
    JOINED = "joined"
    SUSPECT = "suspect"
    UNREACHABLE = "unreachable"
    RECOVERED = "recovered"
    LEFT = "left"
    REMOVED = "removed"
    DRAIN_STARTED = "drain_started"
    DRAIN_STOPPED = "drain_stopped"
    TOKEN_CREATED = "token_created"  # noqa: S105
    TOKEN_REVOKED = "token_revoked"  # noqa: S105
    EXPIRY_HELD = "expiry_held"
    SERVER_JOINED = "server_joined"
    SERVER_REMOVED = "server_removed"


_KINDS = ", ".join(Kind)

_STYLES = {
    "joined": "green",
    "recovered": "green",
    "suspect": "yellow",
    "unreachable": "red",
    "removed": "red",
    "expiry_held": "red",
    "left": "dim",
}


@app.command()
def events(
    do_follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what happens, until Ctrl-C.")
    ] = False,
    after: Annotated[
        int | None,
        typer.Option(min=0, metavar="REVISION", help="Begin after it, not with the newest."),
    ] = None,
    kind: Annotated[
        list[Kind] | None,
        typer.Option("--type", "-t", metavar="TYPE", help=f"{_KINDS}; repeatable."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=0,
            help=f"At most so many of the past. [default: {_LIMIT}; {_LIMIT_FOLLOW} with -f, and"
            " all with -f and --after]",
        ),
    ] = None,
    form: options.Output = Format.TABLE,
    addr: options.Addr = options.DEFAULT_ADDR,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    timeout: options.Timeout = 10.0,
) -> None:
    """Print the event log, oldest first: the newest events, or those after a revision.

    With -f, -o json prints one line for each event. A broken connection is taken up again where it
    ended: no event is printed twice and none is left out without a word.
    """
    kinds = frozenset(item.value for item in kind or ())
    with connect(addr, token_file, ca, timeout) as api:
        if do_follow:
            _follow(api, form, after, kinds, limit)
            return
        most = _LIMIT if limit is None else limit
        page = newest(api, kinds, most) if after is None else oldest(api, after, kinds, most)
    _tell_loss(page["lost"])
    if output.is_document(form):
        output.document(form, page)
    else:
        output.table(_HEADERS, [_row(item) for item in page["items"]])


def newest(api: Api, kinds: Collection[str], most: int) -> dict[str, Any]:
    """The last events of some kinds, as a page of the API; read from the end of the log."""
    page = api.get(EVENTS, {"after": 0, "limit": 1})
    first_kept, end = int(page["first_kept"]), int(page["revision"])
    items: list[dict[str, Any]] = []
    while len(items) < most and end >= first_kept:
        size = min(_PAGE_MAX, end - first_kept + 1) if kinds else min(most - len(items), _PAGE_MAX)
        after = max(end - size, first_kept - 1)
        read = api.get(EVENTS, {"after": after, "limit": end - after})["items"]
        items = [item for item in read if not kinds or item["kind"] in kinds] + items
        end = after
    # Begun inside the log: nothing that was asked for is lost.
    return {**page, "items": items[len(items) - min(most, len(items)) :], "lost": None}


def oldest(api: Api, after: int, kinds: Collection[str], most: int) -> dict[str, Any]:
    """The first events of some kinds above a revision, as a page of the API.

    `lost` is that of the first page: what a reader at `after` can't be given any more.
    """
    first = page = api.get(EVENTS, {"after": after, "limit": _PAGE_MAX})
    if first["lost"] is not None and int(first["lost"]["resumes_after"]) < after:
        page = api.get(EVENTS, {"after": first["lost"]["resumes_after"], "limit": _PAGE_MAX})
    items: list[dict[str, Any]] = []
    while True:
        items += [item for item in page["items"] if not kinds or item["kind"] in kinds]
        if not page["items"] or len(items) >= most:
            return {**page, "items": items[:most], "lost": first["lost"]}
        after = int(page["items"][-1]["revision"])
        page = api.get(EVENTS, {"after": after, "limit": _PAGE_MAX})


def _follow(
    api: Api, form: Format, after: int | None, kinds: Collection[str], limit: int | None
) -> None:
    if limit is not None or after is None:
        most = _LIMIT_FOLLOW if limit is None else limit
        # Of the past, the last ones; then everything above what the log held at that time.
        past = newest(api, kinds, most)
        shown = [item for item in past["items"] if after is None or item["revision"] > after]
        after = max(int(past["revision"]), after or 0)
    else:
        shown = []
    if form is Format.TABLE:
        output.fixed([Cell(header) for header in _HEADERS], (*_WIDTHS, 0))
    for item in shown:
        _print(form, item)
    for frame in follow(api, after, on_break=_tell_break):
        if frame.kind == LOST:
            _tell_loss(frame.document)
        elif not kinds or frame.kind in kinds:
            _print(form, frame.document)


def _print(form: Format, item: dict[str, Any]) -> None:
    if output.is_document(form):
        output.line(form, item)
    else:
        output.fixed(_row(item), (*_WIDTHS, 0))


_HEADERS = ("REVISION", "TIME", "TYPE", "NODE", "REASON", "DETAIL")


def _row(item: dict[str, Any]) -> list[Cell]:
    node = f"{item['node_id']} {item['node_name']}".rstrip() if item["node_id"] else ""
    return [
        Cell(item["revision"]),
        Cell(text.local_time(item["at_ms"])),
        Cell(item["kind"], _STYLES.get(str(item["kind"]), "")),
        Cell(node),
        Cell(item["reason"]),
        Cell(item["detail"]),
    ]


def _tell_loss(lost: dict[str, Any] | None) -> None:
    if lost is None:
        return
    if lost.get("why") == "ahead_of_the_log":
        output.note(
            f"revision {lost['after']} is ahead of the log, which ends at {lost['revision']}: it is"
            " another log, read from its start"
        )
    else:
        output.note(f"events {lost['after'] + 1} to {lost['resumes_after']} are no longer kept")


def _tell_break(error: ApiError | None, revision: int) -> None:
    why = "the server ended the stream" if error is None else str(error)
    output.note(f"{why}; resuming after revision {revision}")
