"""The local operator's secret: made at the first start, readable by the server's user alone.

<data_dir>/admin.token      the secret itself, which the CLI on this machine uses
<data_dir>/api-tokens.json  hashes of all API secrets; taking one out revokes it
"""

from __future__ import annotations

from pathlib import Path

from zlayer_native.api.auth import ApiToken, ApiTokens, Scope, TokenFile, new_secret
from zlayer_native.errors import IdentityError
from zlayer_native.identity import files

_ADMIN, _TOKENS = "admin.token", "api-tokens.json"


def api_tokens(data_dir: Path) -> TokenFile:
    """The API's tokens; with an admin token if there was none.

    Raises:
        IdentityError: a file is open to others, or can't be read or written.
    """
    secret_path, tokens_path = data_dir / _ADMIN, data_dir / _TOKENS
    if not files.exists(tokens_path):
        # The secret first: tokens that nobody knows the secret of would lock everybody out.
        secret = new_secret()
        files.write_private(secret_path, secret.encode() + b"\n")
        admin = ApiToken.of_secret(secret, name="admin", scope=Scope.ADMIN)
        files.write_private(tokens_path, ApiTokens([admin]).to_json().encode())
    try:
        ApiTokens.from_json(files.read_private(tokens_path).decode())
    except (IdentityError, UnicodeDecodeError) as error:
        raise IdentityError(f"{tokens_path}: {error}") from error
    return TokenFile(tokens_path)
