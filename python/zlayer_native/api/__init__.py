"""The HTTP API: bearer tokens, JSON, events as a resumable stream, Prometheus metrics.

Reads the core through the protocols in `protocol`; it never reaches into the bridge.
"""

from zlayer_native.api.app import create_app
from zlayer_native.api.auth import ApiTokens, Scope, TokenFile, new_secret
from zlayer_native.api.protocol import ApiOptions, Core, TokenIssuer

__all__ = [
    "ApiOptions",
    "ApiTokens",
    "Core",
    "Scope",
    "TokenFile",
    "TokenIssuer",
    "create_app",
    "new_secret",
]
