"""`zlayerd version`."""

from __future__ import annotations

import importlib.metadata
import platform

from zlayer_native.cli import options, output
from zlayer_native.cli.output import Cell, Format

app = options.new_app()

#: Packages whose version matters when something on the wire or in a certificate is strange.
_PACKAGES = ("cryptography", "grpcio", "httpx", "protobuf")


@app.command()
def version(form: options.Output = Format.TABLE) -> None:
    """Versions of zlayer-native and what it runs on."""
    import zlayer_native

    found: dict[str, object] = {
        "zlayer_native": zlayer_native.__version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "packages": {name: _installed(name) for name in _PACKAGES},
    }
    if output.is_document(form):
        output.document(form, found)
        return
    output.facts(
        [
            ("zlayer-native", Cell(found["zlayer_native"])),
            ("python", Cell(f"{found['implementation']} {found['python']}")),
            ("system", Cell(f"{found['system']} {found['release']} {found['machine']}")),
            *((name, Cell(_installed(name))) for name in _PACKAGES),
        ]
    )


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
