"""The table of verbs, and what happens to errors that reach the top."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from zlayer_native.cli import exits, text
from zlayer_native.cli.child import obey_owner
from zlayer_native.errors import ZLayerError

PROGRAM = "zlayerd"
#: Set by the completion scripts: asks for words in the place of running a verb.
COMPLETE_VARIABLE = "_ZLAYERD_COMPLETE"
#: Set by a developer who wants the traceback of an unexpected error.
_TRACEBACK_VARIABLE = "ZLAYERD_TRACEBACK"

#: Verb, the module below this package that has it as `app`, and its line in `zlayerd --help`.
_VERBS = (
    ("dev", "dev", "A server and three workers on this machine, and a live table of them."),
    ("server", "server", "Run a server."),
    ("worker", "worker", "Run a worker: enrol once, then stay a member."),
    ("init", "init", "Make a cluster's id, CA and keys without starting a server."),
    ("token", "token", "Make, list, inspect and revoke the tokens that let machines in."),
    ("node", "node", "List, inspect, drain and remove nodes."),
    ("raft", "raft", "The servers: list, add, remove, hand over, back up."),
    ("status", "status", "The cluster at a glance."),
    ("events", "events", "What happened: joined, suspect, unreachable, recovered, left."),
    ("config", "config", "Validate a configuration, or show where each value comes from."),
    ("bench", "bench", "Measure this machine: heartbeats of workers, commits of servers."),
    ("version", "version", "Versions of zlayer-native and what it runs on."),
    ("completion", "completion", "Print a shell's completion script."),
)


class _Verb(TyperCommand):
    """A verb whose module is imported when the verb is used: `--help` stays quick."""

    def __init__(self, name: str, module: str, summary: str) -> None:
        super().__init__(name=name, help=summary, callback=None)
        self._module = module

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        module = importlib.import_module(f"zlayer_native.cli.{self._module}")
        command = typer.main.get_command(module.app)
        command.name = self.name
        return command.make_context(info_name, args, parent=parent, **extra)


def command() -> TyperGroup:
    """The whole command line, nothing of it imported yet."""
    return TyperGroup(
        name=PROGRAM,
        help="Cluster membership: who belongs, who is alive, and nobody declared dead that lives.",
        commands={name: _Verb(name, module, summary) for name, module, summary in _VERBS},
        rich_markup_mode=None,
        no_args_is_help=True,
        epilog="Exit codes: 0 ok, 1 error, 2 usage, 3 degraded, 4 not found, 5 not allowed,"
        " 6 unreachable, 70 core stopped.",
    )


def know_shells() -> None:
    """Lets typer complete: its own apps do this when they are built, and ours is lazy."""
    from typer.completion import get_completion_inspect_parameters

    get_completion_inspect_parameters()


def run() -> NoReturn:
    """Runs `sys.argv` and exits. No traceback ever reaches a user who did not ask for it."""
    obey_owner()
    if COMPLETE_VARIABLE in os.environ:
        know_shells()
    try:
        code = command().main(prog_name=PROGRAM)
    except ZLayerError as error:
        fail(error)
    except BrokenPipeError:
        # Who read our output has gone; what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(exits.ERROR)
    except OSError as error:  # Such as a full disk behind standard output.
        _say(f"error: {error.strerror or error}")
        sys.exit(exits.ERROR)
    except Exception as error:
        if os.environ.get(_TRACEBACK_VARIABLE):
            raise
        _say(
            f"error: unexpected {type(error).__name__}: {error}",
            f"hint: {_TRACEBACK_VARIABLE}=1 shows where",
        )
        sys.exit(exits.ERROR)
    sys.exit(code)


def fail(error: ZLayerError) -> NoReturn:
    """Tells an error to a person, notes and all, and exits with its code."""
    hint = getattr(error, "hint", "")
    notes = getattr(error, "__notes__", ())
    _say(f"error: {error}", *notes, *([f"hint: {hint}"] if hint else []))
    sys.exit(exits.code_of(error))


def _say(*paragraphs: str) -> None:
    lines = "\n".join(paragraphs).split("\n")
    print("\n".join(text.plain(line) for line in lines), file=sys.stderr)
