from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.api.api import Api, running_api


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """The API over a fake core."""
    async with running_api() as running:
        yield running
