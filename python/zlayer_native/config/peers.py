"""Peers of a mode, and what must hold between them."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError, ValidationInfo, ValidatorFunctionWrapHandler
from pydantic_core import PydanticCustomError

from zlayer_native.config.addresses import parse_dial
from zlayer_native.config.fields import DialAddress, LabelMap, Name, PeerId, ServerId
from zlayer_native.config.labels import Labels
from zlayer_native.config.model import Model, errors_of, many_wrong, wrong
from zlayer_native.config.origins import Path, Plain
from zlayer_native.config.problems import shown


class RaftPeer(Model):
    """A voter.

    Attributes:
        id: its node id.
        raft_addr: where the other voters reach it.
        api_addr: where its HTTP API is reached.
    """

    id: PeerId
    raft_addr: DialAddress
    api_addr: DialAddress


class ServerPeer(RaftPeer):
    """A server of a worker tier. Ids 1..999: those from 1000 on are workers'."""

    id: ServerId


class StaticPeer(Model):
    """A node of a static cluster.

    Attributes:
        id: its node id; the lowest healthy one leads.
        api_addr: where its `/health` is probed.
        os: its operating system.
        labels: what work is placed by.
    """

    id: PeerId
    api_addr: DialAddress
    os: Name = "linux"
    labels: LabelMap = Labels()


def check_peers(
    value: Any,
    handler: ValidatorFunctionWrapHandler,
    info: ValidationInfo,
    *,
    limits: tuple[int, int],
) -> Any:
    """Validates `peers` and what must hold between them, also when one of them is wrong itself.

    Args:
        value: what was given.
        handler: validates each peer.
        info: holds `node_id`, when that was right.
        limits: the smallest and the largest number of peers.

    Raises:
        ValidationError: with an error for each problem.
    """
    low, high = limits
    if isinstance(value, list | tuple) and not low <= len(value) <= high:
        raise wrong(f"{len(value)} peers", f"{low}..{high}")
    errors: list[tuple[Path, PydanticCustomError]] = []
    peers: Any = None
    try:
        peers = handler(value)
    except ValidationError as error:
        errors = errors_of(error)
    if isinstance(value, list | tuple):
        raw = [_fields_of(peer) for peer in value]
        errors += _duplicates(raw)
        own = info.data.get("node_id")
        ids = [peer["id"] for peer in raw if "id" in peer]
        if ids and own is not None and own not in ids:
            told = ", ".join(shown(each) for each in ids[:10])
            errors.append(((), wrong(f"no peer has this node's id {own}", f"{own} among {told}")))
    if errors:
        raise many_wrong(errors)
    return peers


def _fields_of(peer: object) -> dict[str, int | str]:
    """What the checks between peers read: ids and addresses, of those that are right themselves."""
    raw = dict(peer) if isinstance(peer, Model | Mapping) else {}
    fields: dict[str, int | str] = {}
    given = raw.get("id")
    if isinstance(given, Plain) and given.isascii() and given.isdigit() and len(given) < 20:
        given = int(given)
    if isinstance(given, int) and not isinstance(given, bool):
        fields["id"] = given
    for key in ("raft_addr", "api_addr"):
        address = raw.get(key)
        if isinstance(address, str):
            with contextlib.suppress(ValueError):
                fields[key] = parse_dial(address)
    return fields


def _duplicates(
    peers: Sequence[dict[str, int | str]],
) -> Iterator[tuple[Path, PydanticCustomError]]:
    for key in ("id", "raft_addr", "api_addr"):
        seen: Counter[int | str] = Counter()
        for index, peer in enumerate(peers):
            if key not in peer:
                continue
            seen[peer[key]] += 1
            if seen[peer[key]] == 2:
                yield (
                    (index, key),
                    wrong(f"two peers have the {key} {shown(peer[key])}", "one each"),
                )
    for index, peer in enumerate(peers):
        if "raft_addr" in peer and peer["raft_addr"] == peer.get("api_addr"):
            yield (index, "api_addr"), wrong("the same address as raft_addr", "a port for each")
