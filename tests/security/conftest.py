from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.enroll.cluster import RunningCluster, running_cluster


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[RunningCluster]:
    """A cluster with a join port; its control state is in memory."""
    async with running_cluster(tmp_path) as running:
        yield running
