"""Checks that the crates depend on each other only along the arrows of ARCHITECTURE.md.

Reads `cargo metadata`; exits 1 and names each dependency that points the wrong way.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

#: What each crate of ours may use of ours.
ARROWS: dict[str, set[str]] = {
    "zlayer-core": set(),
    "zlayer-wal": set(),
    "zlayer-raft": {"zlayer-core", "zlayer-wal"},
    "zlayer-wire": {"zlayer-core"},
    "zlayer-node": {"zlayer-raft", "zlayer-wire", "zlayer-core"},
    "zlayer-sim": {"zlayer-raft", "zlayer-core", "zlayer-wal"},
    "zlayer-load": {"zlayer-node", "zlayer-wire", "zlayer-core"},
    "zlayer-py": {"zlayer-node", "zlayer-load", "zlayer-core", "zlayer-raft"},
    "zlayer-protogen": set(),
}

#: Foreign crates that only the named crates may reach, directly or not.
RESERVED: dict[str, set[str]] = {
    "pyo3": {"zlayer-py"},
    "openraft": {"zlayer-raft", "zlayer-node", "zlayer-sim", "zlayer-load", "zlayer-py"},
    "tokio": {
        "zlayer-raft",
        "zlayer-wire",
        "zlayer-node",
        "zlayer-sim",
        "zlayer-load",
        "zlayer-py",
    },
    "tonic": {"zlayer-wire", "zlayer-node", "zlayer-load", "zlayer-py"},
}


def main() -> int:
    """Prints every violation; returns the exit code."""
    metadata: dict[str, Any] = json.loads(
        subprocess.run(
            ["cargo", "metadata", "--format-version", "1", "--locked"],
            check=True,
            capture_output=True,
        ).stdout
    )
    names = {package["id"]: package["name"] for package in metadata["packages"]}
    edges = {
        node["id"]: [
            dependency["pkg"]
            for dependency in node["deps"]
            if any(kind["kind"] != "dev" for kind in dependency["dep_kinds"])
        ]
        for node in metadata["resolve"]["nodes"]
    }
    ours = {member: names[member] for member in metadata["workspace_members"]}
    problems = [
        f"{name} has no arrows in tools/layers.py" for name in ours.values() if name not in ARROWS
    ]
    for member, name in ours.items():
        wrong = {ours[used] for used in edges[member] if used in ours} - ARROWS.get(name, set())
        problems += [
            f"{name} depends on {used}, which its room may not use" for used in sorted(wrong)
        ]
        reached = {names[used] for used in _reach(member, edges)}
        problems += [
            f"{name} reaches {crate}, which only {', '.join(sorted(allowed))} may"
            for crate, allowed in RESERVED.items()
            if crate in reached and name not in allowed
        ]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _reach(start: str, edges: dict[str, list[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for used in edges[waiting.pop()]:
            if used not in seen:
                seen.add(used)
                waiting.append(used)
    return seen


if __name__ == "__main__":
    sys.exit(main())
