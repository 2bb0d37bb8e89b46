"""Loads files that mean harm, each in a process of its own, and says what that cost.

Run as a module with the files as arguments; prints one JSON object a file. A child for each file:
its high-water mark of memory is then that file's alone.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def measure(paths: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """For each file's name: `problems` (None when it loaded), `cpu_s`, `kib` of extra memory."""
    command = [sys.executable, "-m", "tests.unit.config.measure", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {each["name"]: each for each in found}


def _main() -> None:
    from zlayer_native.config import json_source, load, toml_source, yaml_source  # noqa: F401

    for path in sys.argv[1:]:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            print(json.dumps(_load(path)), flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status != 0:
            raise SystemExit(f"{path}: ended with {status}")


def _load(path: str) -> dict[str, Any]:
    from zlayer_native.config import load_config
    from zlayer_native.errors import ConfigError

    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    problems = None
    try:
        load_config(path, env={})
    except ConfigError as error:
        problems = list(error.problems)
    cpu_s = time.process_time() - start
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    return {"name": Path(path).name, "problems": problems, "cpu_s": cpu_s, "kib": kib}


if __name__ == "__main__":
    _main()
