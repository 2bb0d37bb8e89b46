"""`/api/v1/cluster/nodes`."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from zlayer_native.api import reading
from zlayer_native.api import request as ask
from zlayer_native.api.problem import Problem
from zlayer_native.api.protocol import Core
from zlayer_native.config.labels import LABELS_MAX

#: Nodes of one page. Chosen: a page stays below 1 MiB.
PAGE_MAX = 1000

STATES = ("Ready", "Suspect", "Unreachable", "Draining", "Left")

_ID_MAX = (1 << 63) - 1

#: One spelling for one node: no sign, no leading zero.
_ID = re.compile(r"[1-9][0-9]{0,17}")


class Nodes:
    """The members of the cluster."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def index(self, request: Request) -> Response:
        """A page in order of id; the next one starts `after` the last id."""
        ask.query(request, "after", "limit", "state", reading.PARAMETER, repeatable="label")
        found: dict[str, object] = {
            "after_id": ask.query_int(request, "after", 0, 0, _ID_MAX),
            "limit": ask.query_int(request, "limit", 100, 1, PAGE_MAX),
        }
        state = request.query_params.get("state")
        if state is not None:
            if state not in STATES:
                raise ask.invalid("state", f"expected one of {', '.join(STATES)}")
            found["state"] = state
        found["labels"] = _selector(request.query_params.getlist("label"))
        consistency = await reading.settle(request, self._core)
        return reading.answer(self._core.nodes(found), consistency)

    async def show(self, request: Request) -> Response:
        """One node."""
        ask.query(request, reading.PARAMETER)
        node_id = _node_id(request)
        consistency = await reading.settle(request, self._core)
        node = self._core.node(node_id)
        if node is None:
            raise _no_node(node_id)
        return reading.answer(node, consistency)

    async def remove(self, request: Request) -> Response:
        """Removes a node for good: its stream is closed, its certificates are of no use."""
        ask.query(request)
        node_id = _node_id(request)
        await self._core.propose({"type": "remove_node", "node_id": node_id})
        return JSONResponse({"id": node_id, "removed": True})

    async def drain(self, request: Request) -> Response:
        """Switches draining: nothing new is placed on a draining node."""
        ask.query(request)
        node_id = _node_id(request)
        document = await ask.body(request, "draining")
        draining = document.get("draining")
        if not isinstance(draining, bool):
            raise ask.invalid("draining", "expected true or false")
        await self._core.propose({"type": "set_draining", "node_id": node_id, "draining": draining})
        return JSONResponse({"id": node_id, "draining": draining})


def _selector(values: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for value in values:
        key, equals, wanted = value.partition("=")
        if not equals:
            raise ask.invalid("label", "expected key=value")
        key, wanted = ask.named("label", key), ask.named("label", wanted)
        if found.setdefault(key, wanted) != wanted:
            raise ask.invalid("label", f"no node has two values of {key}")
    if len(found) > LABELS_MAX:
        raise ask.invalid("label", f"at most {LABELS_MAX}")
    return found


def _node_id(request: Request) -> int:
    text = request.path_params["id"]
    if not _ID.fullmatch(text):
        raise Problem(404, "node_not_found", "there is no such node: an id is a number")
    return int(text)


def _no_node(node_id: int) -> Problem:
    hint = "list the nodes with `zlayerd node ls`"
    return Problem(404, "node_not_found", f"there is no node {node_id}", hint)
