"""S1: a token admits exactly as many machines as it says, also when its server is killed.

One server here: what a leader's failover adds belongs to the replicated log. Ten servers are killed
in the middle of their commits; then ten thousand keys try, those of before among them. Also T4.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

USES, KEYS, KILLS = 100, 10_000, 10
JTI = "0123456789abcdef" * 2

#: Lets every key redeem the token, some at a time, and tells every answer once it is there.
_SERVER = """
import asyncio, json, random, sys
from pathlib import Path
from tests.boundary.real_core import create_token, real_core, redeem
from zlayer_native.errors import TokenExists, TokenUsedUp

async def main(root, jti, uses, keys, at_once):
    async with real_core(root) as core:
        try:
            await core.server.propose({**create_token(uses_max=uses), "jti": jti})
        except TokenExists:
            pass
        places = asyncio.Semaphore(at_once)

        async def attempt(key):
            async with places:
                try:
                    outcome = await core.server.propose(redeem(jti, key))
                    print(key, outcome["node_id"], flush=True)
                except TokenUsedUp:
                    print(key, "used_up", flush=True)

        await asyncio.gather(*(attempt(key) for key in random.sample(range(1, keys + 1), keys)))
        uses = json.loads(core.server.token(jti))["uses"]
        print("done", sorted(uses.values()), flush=True)

asyncio.run(main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])))
"""


def attempt_all(root: Path, answers: dict[int, set[str]], kill_after: int | None) -> str:
    """Runs one server; kills it once it has given so many answers. Returns its last line."""
    at_once = 1000 if kill_after is None else 8  # Few, so that there are many commits to die in.
    command = [sys.executable, "-c", _SERVER, *map(str, (root, JTI, USES, KEYS, at_once))]
    folder = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = ""
        for count, line in enumerate(process.stdout, 1):
            key, _, answer = line.strip().partition(" ")
            if key != "done":
                answers.setdefault(int(key), set()).add(answer)
            if count == kill_after:
                process.send_signal(signal.SIGKILL)
                break
        # What it had said before it died is an answer as well.
        for rest in process.stdout:
            if rest.endswith("\n") and not rest.startswith("done"):
                key, _, answer = rest.strip().partition(" ")
                answers.setdefault(int(key), set()).add(answer)
        process.wait()
        assert process.returncode == (0 if kill_after is None else -signal.SIGKILL)
    return line.strip()


def test_s1_ten_kills_and_ten_thousand_keys_give_exactly_a_hundred_ids(tmp_path: Path) -> None:
    answers: dict[int, set[str]] = {}
    for number in range(KILLS):
        attempt_all(tmp_path, answers, kill_after=random.randint(1, USES - 10 * number // 2))
    last = attempt_all(tmp_path, answers, kill_after=None)
    assert last.startswith("done ")
    admitted = {key: ids - {"used_up"} for key, ids in answers.items() if ids != {"used_up"}}
    # A key that was admitted was so every time, with the one id that it got at first.
    assert all(len(ids) == 1 for ids in admitted.values())
    assert all("used_up" not in answers[key] for key in admitted)
    ids = [int(node_id) for ids in admitted.values() for node_id in ids]
    assert len(set(ids)) == len(ids) == USES
    assert last == f"done {sorted(ids)}"
