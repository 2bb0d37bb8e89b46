"""The command `zlayerd`: one file for each verb family, imported when its verb is used.

`server` and `worker` are the composition roots: they put the parts of a process together.
"""

from __future__ import annotations


def main() -> None:
    """Runs the command line of this process and exits."""
    from zlayer_native.cli.main import run

    run()
