"""Backup files of the control state, without a running server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from zlayer_native import _native


def inspect_backup(path: Path) -> dict[str, Any]:
    """Reads a backup whole and says what it holds.

    Returns:
        `cluster_id`, `applied_index`, `stamp_ms`, `hash`, `nodes`, `created_ms`.

    Raises:
        CoreError: it can't be read, is damaged, or is no backup; the message names the file.
    """
    return cast("dict[str, Any]", json.loads(_native.inspect_backup(str(path))))


def restore_backup(path: Path, control_dir: Path, cluster_id: str, node_id: int) -> None:
    """Makes the control directory of a new cluster's first server out of a backup.

    Args:
        path: of the backup.
        control_dir: made by this; must be empty or not there.
        cluster_id: of the new cluster.
        node_id: of its first server, 1..999.

    Raises:
        CoreError: the backup or the directory can't be used; nothing is left behind.
    """
    _native.restore_backup(str(path), str(control_dir), cluster_id, node_id)
