"""`zlayerd config`: is a configuration right, and where does each value come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from zlayer_native.errors import ConfigError

app = typer.Typer(
    help="Validate a configuration, or show where each value comes from.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML, TOML or JSON.")],
) -> None:
    """Check FILE as a start would: with the ZLAYER_ variables that are set, and no flags.

    Every problem is told at once, on standard error, with its place and its key; the exit code is
    then 1. What works and will hurt later is a warning there.
    """
    from zlayer_native.config import resolve
    from zlayer_native.config.hidden import shown_path
    from zlayer_native.config.modes import title

    try:
        resolved = resolve(file)
    except ConfigError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    for advice in resolved.advice():
        typer.echo(f"warning: {advice}", err=True)
    typer.echo(f"{shown_path(str(file))}: valid, mode {title(resolved.config.cluster)}")


@app.command()
def show(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", envvar="ZLAYER_CONFIG", help="YAML, TOML or JSON file."),
    ] = None,
    resolved: Annotated[
        bool,
        typer.Option(
            "--resolved",
            help="With each value's origin: default, implied, file and line, or variable.",
        ),
    ] = False,
    form: Annotated[
        Literal["table", "yaml", "json", "toml"] | None,
        typer.Option(
            "--output", "-o", help="How to print it; yaml, and with --resolved table, unless set."
        ),
    ] = None,
) -> None:
    """Show the configuration that the file and the ZLAYER_ variables make, defaults and all.

    There is no secret in it: a token where a path belongs is refused, and not repeated.
    """
    from zlayer_native.config import render, resolve, show_resolved

    found = resolve(config)
    if form == "table" or resolved:
        typer.echo(show_resolved(found, form or "table", origins=resolved), nl=False)
    else:
        typer.echo(render(found.config, form or "yaml"), nl=False)
