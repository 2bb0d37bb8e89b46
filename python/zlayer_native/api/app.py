"""The application: every route with the scope that it needs, behind the guard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from zlayer_native.api.auth import ApiToken, Scope
from zlayer_native.api.events import Events
from zlayer_native.api.guard import OPEN_PATHS, Authenticator, Guard
from zlayer_native.api.nodes import Nodes
from zlayer_native.api.overview import Overview
from zlayer_native.api.problem import Problem, problem_of
from zlayer_native.api.protocol import ApiOptions, Core, TokenIssuer
from zlayer_native.api.servers import Servers
from zlayer_native.api.tokens import Tokens
from zlayer_native.errors import ZLayerError

Handler = Callable[[Request], Awaitable[Response]]

_log = structlog.get_logger("zlayer.api")


def create_app(
    core: Core, tokens: Authenticator, issuer: TokenIssuer, options: ApiOptions
) -> Starlette:
    """Builds the API over a running core.

    Args:
        core: what is read and what is proposed to.
        tokens: who may call.
        issuer: signs new bootstrap tokens.
        options: names and addresses of this server.
    """
    overview = Overview(core, options)
    nodes = Nodes(core)
    events = Events(core, options.stopping)
    bootstrap = Tokens(core, issuer, options.join_address)
    servers = Servers(core, options)
    cluster, raft = "/api/v1/cluster", "/api/v1/raft"
    routes = [
        _route("GET", "/health", None, overview.health),
        _route("GET", "/readyz", None, overview.ready),
        _route("GET", "/metrics", Scope.READ, overview.metrics),
        _route("GET", "/api/v1/status", Scope.READ, overview.status),
        _route("GET", f"{cluster}/nodes", Scope.READ, nodes.index),
        _route("GET", f"{cluster}/nodes/{{id}}", Scope.READ, nodes.show),
        _route("DELETE", f"{cluster}/nodes/{{id}}", Scope.OPERATE, nodes.remove),
        _route("PUT", f"{cluster}/nodes/{{id}}/drain", Scope.OPERATE, nodes.drain),
        _route("GET", f"{cluster}/events", Scope.READ, events.index),
        _route("GET", f"{cluster}/tokens", Scope.OPERATE, bootstrap.index),
        _route("POST", f"{cluster}/tokens", Scope.ADMIN, bootstrap.create),
        _route("GET", f"{cluster}/tokens/{{jti}}", Scope.OPERATE, bootstrap.show),
        _route("DELETE", f"{cluster}/tokens/{{jti}}", Scope.ADMIN, bootstrap.revoke),
        _route("GET", f"{raft}/peers", Scope.READ, servers.index),
        _route("POST", f"{raft}/peers", Scope.ADMIN, servers.add),
        _route("DELETE", f"{raft}/peers/{{id}}", Scope.ADMIN, servers.remove),
        _route("POST", f"{raft}/leader", Scope.OPERATE, servers.transfer),
        _route("GET", f"{raft}/snapshot", Scope.ADMIN, servers.snapshot),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Guard, tokens=tokens, hosts=options.hosts)],
        exception_handlers={HTTPException: _http_error},
    )
    app.router.redirect_slashes = False  # One path for one thing.
    return app


def _route(method: str, path: str, scope: Scope | None, handler: Handler) -> Route:
    if scope is None and path not in OPEN_PATHS:
        raise ValueError(f"{path} needs a scope")

    async def endpoint(request: Request) -> Response:
        try:
            if scope is not None:
                _check_scope(request, scope)
            return await handler(request)
        except Problem as problem:
            return _answer(request, problem)
        except ZLayerError as error:
            told = problem_of(error)
            if told.status == 500:
                _log.error("request failed", path=request.url.path, error=str(error))
            return _answer(request, told)
        except ClientDisconnect:
            return Response(status_code=400)  # Nobody reads it.
        except Exception:
            _log.exception("request failed", path=request.url.path)
            hint = "see the server's log"
            return _answer(request, Problem(500, "internal", "the server could not do this", hint))

    return Route(path, endpoint, methods=[method])


def _answer(request: Request, problem: Problem) -> Response:
    request.scope["state"]["code"] = problem.code  # For the audit line.
    return problem.response({"retry-after": "1"} if problem.status == 503 else None)


def _check_scope(request: Request, needed: Scope) -> None:
    token: ApiToken = request.scope["state"]["token"]
    if token.scope < needed:
        raise Problem(
            403,
            "not_allowed",
            f"this needs the scope {needed.name.lower()}; token {token.name} has "
            f"{token.scope.name.lower()}",
        )


async def _http_error(request: Request, error: Exception) -> Response:
    """Starlette's own refusals (no such path, no such method) in our shape."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    code = {404: "not_found", 405: "method_not_allowed"}.get(status, "http_error")
    message = {404: "there is nothing at this path", 405: "not with this method"}.get(
        status, "the request can't be served"
    )
    request.scope["state"]["code"] = code  # For the audit line.
    headers = {"allow": _allowed(request)} if status == 405 else None
    return Problem(status, code, message).response(headers)


def _allowed(request: Request) -> str:
    """Every method of the path; the router itself names those of the first route that fits."""
    routes = (route for route in request.app.routes if isinstance(route, Route))
    fits = (route for route in routes if route.path_regex.match(request.scope["path"]))
    return ", ".join(sorted({method for route in fits for method in route.methods or ()}))
