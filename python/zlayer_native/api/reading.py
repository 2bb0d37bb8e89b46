"""How fresh an answer has to be: `?consistency=stale` (the default) or `linearizable`.

A stale answer is what the asked server knows now: at once, and also while no server leads. Before
a linearizable one the leader confirms that it leads and this server catches up with it; where that
fails the answer is 503, never old data. Every answer says in its header `zlayer-consistency` what
it is.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from zlayer_native.api import request as ask
from zlayer_native.api.protocol import Core

PARAMETER = "consistency"
HEADER = "zlayer-consistency"
STALE, LINEARIZABLE = "stale", "linearizable"


async def settle(request: Request, core: Core) -> str:
    """Waits as long as the request asks for, and says what the read after it will be.

    Raises:
        Problem: the parameter is neither of the two words.
        NoLeader: it is to be linearizable, and no server leads.
    """
    wanted = request.query_params.get(PARAMETER, STALE)
    if wanted not in (STALE, LINEARIZABLE):
        raise ask.invalid(PARAMETER, f"expected {STALE} or {LINEARIZABLE}")
    if wanted == LINEARIZABLE:
        await core.settle()
    return wanted


def answer(content: bytes, consistency: str) -> Response:
    """A JSON document, with what it is in its header."""
    return Response(content, media_type="application/json", headers={HEADER: consistency})
