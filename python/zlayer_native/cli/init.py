"""`zlayerd init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def init(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", envvar="ZLAYER_CONFIG", help="YAML, TOML or JSON file."),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where state is kept.")] = None,
    cluster_id: Annotated[
        str | None, typer.Option(help="Id of the new cluster; a random one unless given.")
    ] = None,
) -> None:
    """Make a cluster's id, CA, token signer and server certificates without starting a server.

    A server's first start does the same. A folder that holds a cluster is left as it is.
    """
    from zlayer_native.cli.admin import api_tokens
    from zlayer_native.cli.server import alone
    from zlayer_native.cli.serving import supported
    from zlayer_native.cli.settings import load
    from zlayer_native.identity import files
    from zlayer_native.identity.authority import Authority
    from zlayer_native.identity.server_certificates import ServerCertificates

    flags = {"data_dir": None if data_dir is None else str(data_dir)}
    loaded = load(config, flags, implied=alone())
    cluster = supported(loaded)
    files.make_private_dir(loaded.data_dir)
    folder: Path = getattr(cluster, "worker_ca_dir", loaded.data_dir / "cluster")
    authority = Authority.create(folder, cluster_id)
    certificates = ServerCertificates(authority, folder, getattr(cluster, "node_id", 1))
    certificates.server()
    certificates.join()
    api_tokens(loaded.data_dir)
    print(f"cluster {authority.cluster_id}")
    for fingerprint in authority.fingerprints():
        print(f"CA sha256:{fingerprint}")
    print(f"keys in {folder}, operator's token in {loaded.data_dir}/admin.token")
