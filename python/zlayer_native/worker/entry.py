"""Becoming a member: from a token the first time, from the identity folder ever after."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from zlayer_native.errors import EnrollmentError, IdentityError, ZLayerError
from zlayer_native.identity import files
from zlayer_native.identity.store import Identity, IdentityStore
from zlayer_native.worker.carried_error import NodeRemoved
from zlayer_native.worker.errand import OnFailure
from zlayer_native.worker.log import Log, Repeats
from zlayer_native.worker.registrar import Registrar
from zlayer_native.worker.token_source import TokenSource

_LABELS = "labels.json"

_log = Log("zlayer.worker")


@dataclass(frozen=True)
class Member:
    """An identity, and the labels that the cluster granted with it."""

    identity: Identity
    labels: Mapping[str, str]


class Entry:
    """The way in for one identity folder.

    Args:
        store: the folder.
        registrar: how to reach the cluster.
        token: read only when there is no identity.
        machine: see `machine.describe`.
        secs: how long to try while servers can't be reached; None never gives up.
        on_wait: is told of every round that failed.
    """

    def __init__(
        self,
        store: IdentityStore,
        registrar: Registrar,
        token: TokenSource,
        machine: Mapping[str, Any],
        *,
        secs: float | None,
        on_wait: OnFailure = lambda _: None,
    ) -> None:
        self._store = store
        self._registrar = registrar
        self._token = token
        self._machine = machine
        self._secs = secs
        self._on_wait = on_wait

    async def enter(self, now: datetime) -> Member:
        """The member that this machine is, with a certificate that has not expired.

        Raises:
            ConfigError: there is neither an identity nor a token.
            IdentityError: the folder or the token file can't be used.
            TokenInvalid: the token is no whole line.
            NodeRemoved: the cluster has removed this node.
            EnrollmentError: no server let it in; `retryable` says whether a repeat can help.
        """
        identity = self._store.load()
        asked: dict[str, str] = dict(self._machine["labels"])
        if identity is None:
            return await self._enrol(asked)
        if now >= identity.not_after:
            _log.info("the certificate has expired", at=f"{identity.not_after:%F %T} UTC")
            identity = await self.renew(self._secs)
        labels = self._read_labels(asked)
        _log.info("this machine is a member", node_id=identity.node_id, labels=labels)
        return Member(identity, labels)

    async def _enrol(self, asked: Mapping[str, str]) -> Member:
        token = self._token.read(self._store.folder)
        _log.info("enrolling")
        on_failure = self._tell("no server has let this machine in yet")
        granted = await self._registrar.enrol(token, self._machine, self._secs, on_failure)
        # After the identity: without this file the labels are guessed, without that one it is none.
        labels = {"asked": dict(asked), "granted": granted}
        files.write_private(self._store.folder / _LABELS, json.dumps(labels).encode())
        identity = self._load()
        _log.info("enrolled", node_id=identity.node_id, labels=granted)
        return Member(identity, granted)

    async def renew(self, secs: float | None) -> Identity:
        """A new certificate for the same node.

        Args:
            secs: how long to try in one go; None never gives up.

        Raises:
            NodeRemoved: the cluster has removed this node.
            EnrollmentError: no server renewed it.
            IdentityError: the folder can't be used.
        """
        on_failure = self._tell("no server has renewed the certificate yet")
        try:
            await self._registrar.renew(secs, on_failure)
        except NodeRemoved as error:
            raise removed(self._store.folder, str(error)) from error
        except EnrollmentError as error:
            if not error.retryable:
                error.add_note(way_back(self._store.folder))
            raise
        return self._load()

    def _load(self) -> Identity:
        identity = self._store.load()
        if identity is None:
            raise IdentityError(f"{self._store.folder}: the new identity is not there")
        return identity

    def _tell(self, what: str) -> OnFailure:
        repeats = Repeats()

        def on_failure(error: ZLayerError) -> None:
            self._on_wait(error)
            held_back = repeats.due(str(error))
            if held_back is not None:
                _log.warning(what, why=str(error), repeats=held_back)

        return on_failure

    def _read_labels(self, asked: dict[str, str]) -> dict[str, str]:
        """What was granted, as far as the file is there."""
        with contextlib.suppress(IdentityError, ValueError, KeyError, TypeError):
            kept = json.loads(files.read_private(self._store.folder / _LABELS))
            if asked != kept["asked"]:
                _log.warning(
                    "other labels are configured than this machine enrolled with; they take"
                    " effect when it enrols anew",
                    configured=asked,
                    in_use=kept["granted"],
                )
            return dict(kept["granted"])
        return asked


def removed(folder: Path, why: str) -> NodeRemoved:
    """The error for a node that the cluster does not have any more."""
    return NodeRemoved(f"{why.rstrip('.')}. {way_back(folder)}")


def way_back(folder: Path) -> str:
    """What to do when an identity is of no use any more."""
    return f"To enrol this machine anew, delete {folder} and start with a new token."
