"""The load swarm."""

from __future__ import annotations

import json
from typing import Any, cast

from zlayer_native._native import run_load as _run_load


def run_load(options: dict[str, Any]) -> dict[str, Any]:
    """Runs the load that `options["kind"]` names until it is done; blocks with the GIL released.

    Raises:
        LoadError: an option is wrong, a limit of the host is too low, or the server can't be
            reached.
    """
    return cast("dict[str, Any]", json.loads(_run_load(json.dumps(options).encode())))
