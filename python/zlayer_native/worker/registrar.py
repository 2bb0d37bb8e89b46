"""How the agent reaches the Enrollment service: by helper processes, unless a test says else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from zlayer_native.worker.errand import OnFailure, run_errand


class Registrar(Protocol):
    """Speaks to the Enrollment service. What comes of it is in the identity folder."""

    async def enrol(
        self, token: str, machine: Mapping[str, Any], secs: float | None, on_failure: OnFailure
    ) -> dict[str, str]:
        """Redeems a token; returns the labels that were granted."""

    async def renew(self, secs: float | None, on_failure: OnFailure) -> None:
        """Replaces the certificate."""


class Errands:
    """A `Registrar` whose work is done by helper processes."""

    def __init__(self, servers: tuple[str, ...], identity_dir: Path) -> None:
        self._order = {"servers": list(servers), "identity_dir": str(identity_dir.absolute())}

    async def enrol(
        self, token: str, machine: Mapping[str, Any], secs: float | None, on_failure: OnFailure
    ) -> dict[str, str]:
        """See `Registrar`."""
        asked = {"verb": "enrol", "token": token, "machine": dict(machine), "total_secs": secs}
        labels: dict[str, str] = (await run_errand({**self._order, **asked}, on_failure))["labels"]
        return labels

    async def renew(self, secs: float | None, on_failure: OnFailure) -> None:
        """See `Registrar`."""
        await run_errand({**self._order, "verb": "renew", "total_secs": secs}, on_failure)
