"""Figures of a long run, kept as `benches/results` keeps them: with the commit and the machine."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: Folder that results are written to; without it they are only printed. Not `ZLAYER_…`: those are
#: keys of the configuration, and the daemons that the tests start would refuse it.
FOLDER = "BENCH_RESULTS"


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all are not above."""
    return sorted(values)[max(0, math.ceil(len(values) * share) - 1)]


def keep(name: str, what: str, test: str, report: dict[str, Any]) -> None:
    """Prints a report, and writes `<name>-<date>.json` where `BENCH_RESULTS` says."""
    date = time.strftime("%Y-%m-%d")
    head = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    document = {
        "what": what,
        "command": f"{FOLDER}=benches/results pytest -m slow {test}",
        "commit": head.stdout.strip(),
        "date": date,
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "report": report,
    }
    text = json.dumps(document, indent=2) + "\n"
    print(text)
    if folder := os.environ.get(FOLDER):
        (Path(folder) / f"{name}-{date}.json").write_text(text)
