"""A server process of `bench raft`: answers one JSON line with one, until its input ends."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

from zlayer_native._bridge import LoadedServer
from zlayer_native.errors import LoadError, ZLayerError


def run(options: Path) -> None:
    """Starts the server of an options file and talks over standard input and output.

    Raises:
        CoreError: an option can't be used.
    """
    server = LoadedServer(json.loads(options.read_text()))
    try:
        Talk(server).answer_all(sys.stdin, sys.stdout)
    finally:
        server.stop()


class Talk:
    """What the owner may ask.

    `{"do": "status"}`; `{"do": "load", …}` with what `LoadedServer.load` takes; `{"do": "write",
    …}`, which lets a thread write at a pace whenever this server leads.
    """

    def __init__(self, server: LoadedServer) -> None:
        self._server = server
        self._took_over_ns: list[int] = []

    def answer_all(self, questions: TextIO, answers: TextIO) -> None:
        """Returns at the end of `questions`."""
        for line in questions:
            try:
                answer = self._answer(json.loads(line))
            except ZLayerError as error:
                answer = {"error": str(error)}
            print(json.dumps(answer), file=answers, flush=True)

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        match question.pop("do"):
            case "load":
                return self._server.load(question)
            case "write":
                threading.Thread(target=self._write, args=(question,), daemon=True).start()
                return {}
            case _:
                # A copy: the thread goes on.
                return {**self._server.status(), "took_over_ns": [*self._took_over_ns]}

    def _write(self, pace: dict[str, Any]) -> None:
        while True:
            try:
                acked = self._server.load({"kind": "takeover", **pace})
                self._took_over_ns.append(acked["acked_ns"])
                self._server.load({"kind": "hold", **pace})
            except LoadError:  # The server has stopped.
                return
