"""Reads nodes from the API: all pages of a list, and the one node that an argument means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from zlayer_native.cli.client import Api
from zlayer_native.errors import ApiError, NodeNotFound

NODES = "/api/v1/cluster/nodes"

#: Nodes of one page, as many as the API gives at once.
PAGE_MAX = 1000
#: Nodes that an error message lists.
_LISTED_MAX = 10


def list_nodes(
    api: Api,
    *,
    labels: Mapping[str, str] | None = None,
    state: str | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """Nodes in order of id, as the API's list; all of its pages, or the first `limit` nodes."""
    items: list[dict[str, Any]] = []
    page: dict[str, Any] = {}
    for page in _pages(api, labels or {}, state, limit):
        items += page["items"]
    return {**page, "items": items[:limit]}


def _pages(
    api: Api, labels: Mapping[str, str], state: str | None, limit: int | None
) -> Iterator[dict[str, Any]]:
    after, seen = 0, 0
    while True:
        size = PAGE_MAX if limit is None else min(PAGE_MAX, limit - seen)
        query: dict[str, str | int | list[str]] = {"after": after, "limit": size}
        if labels:
            query["label"] = [f"{key}={value}" for key, value in labels.items()]
        if state is not None:
            query["state"] = state
        page = api.get(NODES, query)
        yield page
        seen += len(page["items"])
        if len(page["items"]) < size or seen == limit:
            return
        last = int(page["items"][-1]["id"])
        if last <= after:  # Pages that do not advance would go on for ever.
            raise ApiError("the pages of nodes do not go on", code="not_our_api")
        after = last


def find_node(api: Api, wanted: str) -> dict[str, Any]:
    """The node with this id, or the only one with this name. Digits are an id.

    Raises:
        NodeNotFound: there is none.
        ApiError: several nodes have the name; the message lists them.
    """
    if wanted.isascii() and wanted.isdigit():
        return api.get(f"{NODES}/{wanted}")
    nodes: list[dict[str, Any]] = list_nodes(api)["items"]
    found = [node for node in nodes if node["name"] == wanted]
    if not found:
        raise NodeNotFound(f"there is no node {wanted}", code="node_not_found")
    if len(found) > 1:
        listed = [f"{node['id']} ({node['state']})" for node in found[:_LISTED_MAX]]
        if len(found) > _LISTED_MAX:
            listed.append(f"and {len(found) - _LISTED_MAX} more")
        raise ApiError(
            f"{len(found)} nodes are named {wanted}: {', '.join(listed)}",
            code="ambiguous",
            hint="give the id",
        )
    return found[0]
