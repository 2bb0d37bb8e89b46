"""The only importer of the Rust core. Private: use `zlayer_native`'s public names.

A twin file for each file of `rust/zlayer-py`: `lease`, `server`, `session`, `load`.
"""

from zlayer_native._bridge.lease import AdaptiveTtlConfig, ExpiredLease, LeaseTable
from zlayer_native._bridge.load import LoadedServer, run_load
from zlayer_native._bridge.server import Server
from zlayer_native._bridge.session import Session

__all__ = [
    "AdaptiveTtlConfig",
    "ExpiredLease",
    "LeaseTable",
    "LoadedServer",
    "Server",
    "Session",
    "run_load",
]
