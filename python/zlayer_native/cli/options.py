"""Options that several verbs have, each with one name, one meaning and one help text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from zlayer_native.cli.output import Format, ListFormat

#: Where a server listens when nobody says otherwise.
DEFAULT_ADDR = "http://127.0.0.1:3669"

Addr = Annotated[
    str,
    typer.Option("--addr", envvar="ZLAYER_ADDR", metavar="URL", help="The server's HTTP API."),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        envvar="ZLAYER_TOKEN_FILE",
        metavar="FILE",
        help="Holds the API secret; otherwise ZLAYER_TOKEN, or admin.token of this machine's"
        " own server.",
    ),
]
Ca = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        envvar="ZLAYER_CACERT",
        metavar="FILE",
        help="Trust this CA (PEM) and no other for https.",
    ),
]
Timeout = Annotated[
    float,
    typer.Option("--timeout", metavar="SECONDS", min=0.1, help="Longest wait for an answer."),
]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to print it.")]
ListOutput = Annotated[
    ListFormat,
    typer.Option("--output", "-o", help="How to print them; `name` prints the ids alone."),
]


def new_app(help_text: str = "", *, group: bool = False) -> typer.Typer:
    """The `app` of a verb: a group of sub-verbs, or one command."""
    return typer.Typer(
        help=help_text or None,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=group,
    )


def labels(values: Sequence[str] | None, option: str) -> dict[str, str]:
    """Reads repeated `key=value`.

    Raises:
        typer.BadParameter: one is not of that form, or a key is given twice.
    """
    found: dict[str, str] = {}
    for value in values or ():
        key, equals, wanted = value.partition("=")
        if not (key and equals and wanted):
            raise typer.BadParameter(f"{value!r} is not key=value", param_hint=option)
        if found.setdefault(key, wanted) != wanted:
            raise typer.BadParameter(f"{key} is given twice", param_hint=option)
    return found


def seconds(value: str, option: str) -> int:
    """Reads a duration such as `90`, `90s` or `1h30m`.

    Raises:
        typer.BadParameter: it is none.
    """
    from zlayer_native.config.durations import EXPECTED, parse_duration

    try:
        return parse_duration(value)
    except ValueError as error:
        raise typer.BadParameter(f"{error}: expected {EXPECTED}", param_hint=option) from None
