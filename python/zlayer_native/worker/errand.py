"""Runs an order in a short-lived process, so that this one never loads grpc.

grpc.aio has one completion queue for a whole process: it wants one event loop, and a fork while it
works breaks it in the child. The process that a worker lives in is not ours: it may have loops,
grpc and forks of its own. Two errands a day cost it nothing, a library that does not mix with it
would. `docs/decisions/0008-enrolment-in-a-process-of-its-own.md` has the figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing.spawn
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import IO, Any, cast

from zlayer_native.errors import ZLayerError
from zlayer_native.worker.carried_error import unpack

#: Finds the package where this process found it; nothing else of our surroundings is asked.
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.readline());"
    " from zlayer_native.worker.errand_child import main; main()"
)
#: Bytes kept of what the child said. Answers have less than 16 KiB.
_ANSWERS_BYTES_MAX, _LAST_WORDS_BYTES_MAX = 64 * 1024, 4 * 1024

#: For a child that has had its say. It ends by itself, within a millisecond. Chosen.
_GOING_SECS = 1.0

#: Is told of each round that failed and will be repeated.
OnFailure = Callable[[ZLayerError], None]


async def run_errand(order: Mapping[str, Any], on_failure: OnFailure) -> dict[str, Any]:
    """Carries out an order of `errand_child`. To cancel it ends the child.

    The order goes through a pipe: a token in it is in no argument, no environment and no file.

    Raises:
        ZLayerError: what the child raised; or it could not be started, or ended without an answer.
    """
    child = _start()
    said_all = False
    try:
        answers = _Pipe(cast("IO[bytes]", child.stdout), _ANSWERS_BYTES_MAX)
        complaints = _Pipe(cast("IO[bytes]", child.stderr), _LAST_WORDS_BYTES_MAX)
        try:
            _give(child, order)
            while (line := await answers.line()) is not None:
                answer = json.loads(line)
                if "failed" in answer:
                    on_failure(unpack(answer["failed"]))
                    continue
                said_all = True
                if "error" in answer:
                    raise unpack(answer["error"])
                done: dict[str, Any] = answer["done"]
                return done
            last_words, said_all = await complaints.rest(), True
        finally:
            answers.close()
            complaints.close()
    finally:
        code = _end(child, _GOING_SECS if said_all else 0.0)
    raise ZLayerError(f"the enrolment helper ended without an answer ({code}): {last_words}")


def _start() -> subprocess.Popen[bytes]:
    # Programs that embed Python say by multiprocessing.set_executable() where the interpreter is.
    python = os.fsdecode(multiprocessing.spawn.get_executable() or sys.executable)
    environment = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
    try:
        return subprocess.Popen(  # noqa: S603 - our own interpreter, with our own code
            [python, "-I", "-c", _BOOT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # A terminal's Ctrl-C is this process's business.
            env=environment,
        )
    except OSError as error:
        raise ZLayerError(f"the enrolment helper can't be started: {python!r}: {error}") from error


def _give(child: subprocess.Popen[bytes], order: Mapping[str, Any]) -> None:
    """Writes the order; the pipe stays open, and its end tells the child that we have gone."""
    places = [os.path.abspath(place) for place in sys.path]  # noqa: PTH100 - "" is a place too
    content = f"{json.dumps(places)}\n{json.dumps(dict(order))}\n"
    with contextlib.suppress(BrokenPipeError):  # It has ended; its last words say why.
        stdin = cast("IO[bytes]", child.stdin)
        stdin.write(content.encode())
        stdin.flush()


def _end(child: subprocess.Popen[bytes], going_secs: float) -> str:
    """Makes sure that the child has gone, at once or after a moment; how it went, for people."""
    for pipe in (child.stdin, child.stdout, child.stderr):
        with contextlib.suppress(BrokenPipeError):
            cast("IO[bytes]", pipe).close()
    try:
        code = child.wait(going_secs)
    except subprocess.TimeoutExpired:
        child.kill()
        code = child.wait()
    return f"signal {-code}" if code < 0 else f"exit code {code}"


class _Pipe:
    """Reads a child's pipe on any event loop that can watch a descriptor, uvloop too."""

    def __init__(self, pipe: IO[bytes], bytes_max: int) -> None:
        self._descriptor = pipe.fileno()
        self._bytes_max = bytes_max
        self._content = b""
        self._arrived = asyncio.Event()
        self._is_open = True
        self._loop = asyncio.get_running_loop()
        os.set_blocking(self._descriptor, False)
        self._loop.add_reader(self._descriptor, self._read)

    def _read(self) -> None:
        try:
            chunk = os.read(self._descriptor, 65_536)
        except BlockingIOError:
            return
        self._content = (self._content + chunk)[-self._bytes_max :]
        if not chunk:
            self.close()
        self._arrived.set()

    def close(self) -> None:
        """Stops reading."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._descriptor)

    async def line(self) -> bytes | None:
        """The next line, or None at the end."""
        while True:
            line, newline, rest = self._content.partition(b"\n")
            if newline:
                self._content = rest
                return line
            if not self._is_open:
                return None
            self._arrived.clear()
            await self._arrived.wait()

    async def rest(self) -> str:
        """The last line of all that comes until the end."""
        while self._is_open:
            self._arrived.clear()
            await self._arrived.wait()
        lines = self._content.decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")
