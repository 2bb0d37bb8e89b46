"""Where the bootstrap token is, in case that it is needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from zlayer_native.errors import ConfigError
from zlayer_native.identity.token_file import read_token_file


@dataclass(frozen=True, kw_only=True)
class TokenSource:
    """A file (`-` is standard input), or the line itself. Nothing is read until `read`."""

    file: Path | None = None
    line: str | None = field(default=None, repr=False)

    def read(self, identity_dir: Path) -> str:
        """The line.

        Raises:
            ConfigError: there is none.
            IdentityError: the file can't be read.
        """
        if self.line is not None:
            return self.line.strip()
        if self.file is not None:
            return read_token_file(self.file)
        raise ConfigError(
            f"{identity_dir} holds no identity, and there is no token to get one with: make one"
            " with `zlayerd token create` and pass it with --token-file (token_file)"
        )
