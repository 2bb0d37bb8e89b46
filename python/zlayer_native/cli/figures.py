"""What benchmarks reckon with: quantiles, and what this disk takes for one fdatasync."""

from __future__ import annotations

import math
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

#: Bytes of one record: a command of 100 bytes with its frame.
_RECORD_BYTES = 200
#: Bytes that the file has before, as the log's segments have.
_PREPARED_BYTES = 8 * 1024 * 1024


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all are not above (nearest rank).

    Raises:
        ValueError: there are no values, or `share` is not within 0..1.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError(f"no quantile {share} of {len(values)} values")
    return sorted(values)[max(1, math.ceil(len(values) * share)) - 1]


def fdatasync_us(folder: Path, count: int = 1000) -> dict[str, float]:
    """Writes a record and syncs it, again and again, in a file that was filled before.

    Returns:
        Microseconds of one: `p50`, `p99`, `mean`.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(_PREPARED_BYTES))
        file.flush()
        os.fsync(file.fileno())
        record = os.urandom(_RECORD_BYTES)
        times = []
        for number in range(count):
            began = time.perf_counter_ns()
            os.pwrite(file.fileno(), record, number * _RECORD_BYTES % _PREPARED_BYTES)
            os.fdatasync(file.fileno())
            times.append((time.perf_counter_ns() - began) / 1000)
    return {
        "p50": round(quantile(times, 0.5), 1),
        "p99": round(quantile(times, 0.99), 1),
        "mean": round(statistics.mean(times), 1),
    }
