"""What `import zlayer_native` promises: every public name, and nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import zlayer_native

HEAVY = ("grpc", "pydantic", "rich", "typer", "cryptography", "starlette", "uvicorn", "yaml")


def test_every_public_name_is_there():
    for name in zlayer_native.__all__:
        assert getattr(zlayer_native, name) is not None, name
    assert set(zlayer_native.__all__) <= set(dir(zlayer_native))


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(zlayer_native, "no_such_name")


def test_importing_loads_nothing_heavy():
    code = (
        "import sys, zlayer_native\n"
        "from zlayer_native import LeaseTable, AdaptiveTtlConfig, ManualClock\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_loads_neither_the_servers_nor_the_core():
    code = (
        "import sys\n"
        "from zlayer_native.cli import main\n"
        "sys.argv = ['zlayerd', '--help']\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        "heavy = ('grpc', 'pydantic', 'cryptography', 'starlette', 'zlayer_native._native')\n"
        "print('LOADED', [name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("LOADED []")
