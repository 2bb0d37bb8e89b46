"""`zlayerd completion`: what makes a shell complete verbs and options."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from zlayer_native.cli import options

app = options.new_app()


class Shell(enum.StrEnum):
    """Shells that there is a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@app.command()
def completion(shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish")]) -> None:
    """Print a shell's completion script.

    bash: eval "$(zlayerd completion bash)" in ~/.bashrc. zsh: the same in ~/.zshrc, after compinit.
    fish: zlayerd completion fish > ~/.config/fish/completions/zlayerd.fish
    """
    from typer.completion import shell_complete

    from zlayer_native.cli.main import COMPLETE_VARIABLE, PROGRAM, command, know_shells

    know_shells()
    code = shell_complete(command(), {}, PROGRAM, COMPLETE_VARIABLE, f"source_{shell.value}")
    raise typer.Exit(code)
