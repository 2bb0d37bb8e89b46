"""`--help` of every verb is quick: it loads neither grpc, nor the core, nor what only runs need."""

from __future__ import annotations

import subprocess
import sys

import pytest

from zlayer_native.cli.main import _VERBS

#: What no help may load.
HEAVY = (
    "cryptography", "grpc", "httpx", "rich", "starlette", "uvicorn", "yaml",
    "zlayer_native._native",
)  # fmt: skip
#: typer reads a verb's options with it, but the list of verbs needs none.
FIRST_HEAVY = (*HEAVY, "pydantic", "asyncio", "ssl")
_CODE = """
import sys
from zlayer_native.cli import main
sys.argv = ["zlayerd", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("LOADED", [name for name in {heavy!r} if name in sys.modules], len(sys.modules))
"""


def help_of(*verb: str, heavy: tuple[str, ...] = HEAVY) -> tuple[str, str, int]:
    done = subprocess.run(
        [sys.executable, "-c", _CODE.format(heavy=heavy), *verb, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    text, _, loaded = done.stdout.rpartition("LOADED ")
    names, _, count = loaded.rpartition(" ")
    return text, names, int(count)


SUB_VERBS = [
    ("token", "create"), ("token", "ls"), ("token", "revoke"), ("token", "inspect"),
    ("node", "ls"), ("node", "inspect"), ("node", "remove"), ("node", "drain"), ("node", "undrain"),
]  # fmt: skip


@pytest.mark.parametrize("verb", [(name,) for name, _, _ in _VERBS] + SUB_VERBS, ids=" ".join)
def test_help(verb: tuple[str, ...]) -> None:
    text, loaded, _ = help_of(*verb)
    assert text.startswith(f"Usage: zlayerd {' '.join(verb)} ")
    assert loaded == "[]"
    assert "\x1b" not in text


def test_the_first_help_loads_little() -> None:
    """Modules, not seconds: machines differ, and each module costs some 0.2 ms everywhere."""
    text, loaded, count = help_of(heavy=FIRST_HEAVY)
    assert all(name in text for name, _, _ in _VERBS)
    assert loaded == "[]"
    assert count < 260
