"""Start-up times: `import zlayer_native` and `zlayerd --help`, medians of fresh processes.

Prints one JSON object. The import is measured as the difference to a bare interpreter.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 15


def median_ms(command: list[str]) -> float:
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append((time.perf_counter() - start) * 1000)
    return round(statistics.median(times), 1)


def main() -> None:
    python = sys.executable
    zlayerd = shutil.which("zlayerd", path=str(Path(python).parent)) or "zlayerd"
    bare = median_ms([python, "-c", "pass"])
    imported = median_ms([python, "-c", "import zlayer_native"])
    table = median_ms([python, "-c", "from zlayer_native import LeaseTable"])
    print(
        json.dumps(
            {
                "rounds": ROUNDS,
                "bare_interpreter_ms": bare,
                "import_zlayer_native_ms": round(imported - bare, 1),
                "import_lease_table_ms": round(table - bare, 1),
                "zlayerd_help_ms": median_ms([zlayerd, "--help"]),
            }
        )
    )


if __name__ == "__main__":
    main()
