"""Writers and a reader over HTTP, against any of the servers, whatever happens to them."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from types import TracebackType

import httpx

from tests.cluster.ledger import LINEARIZABLE, TOKENS, Ledger, Write, now
from tests.cluster.servers import OneServer, Servers

#: Codes of a 503 after which nothing was done; the others may have been.
_NOT_DONE = {"no_leader", "not_leader", "overloaded"}

#: Seconds for one answer: more than a server waits for a leader and for the leader's answer.
_ANSWER_SECS = 20.0


class WriteLoad:
    """Threads that write until the block ends; each goes on with another server when one is down.

    A write makes a token with a name of its own, or revokes that one again. With `repeat` a writer
    makes one token and revokes it over and over: each time is an entry of the log, and the state
    does not grow.

    Args:
        pause: seconds between two writes of a writer.
    """

    def __init__(
        self, running: Servers, *, writers: int, pause: float = 0.0, repeat: bool = False
    ) -> None:
        self.ledger = Ledger()
        #: Linearizable reads that were answered.
        self.reads = 0
        self._servers = list(running.all)
        self._pause = pause
        self._repeat = repeat
        self._stop = threading.Event()
        self._failed = threading.Event()
        self._failures: list[BaseException] = []
        works = [lambda number=number: self._write_on(number) for number in range(writers)]
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,)) for work in [*works, self._read_on]
        ]

    def __enter__(self) -> WriteLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if kind is None:
            self.check()

    def check(self) -> None:
        """Raises what a thread failed with."""
        if self._failures:
            raise self._failures[0]

    def go_on(self, seconds: float) -> None:
        """Lets the load go on for so long, or until a thread fails."""
        self._failed.wait(seconds)
        self.check()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._failures.append(error)
            self._failed.set()

    # --- writing ------------------------------------------------------------------------------

    def _write_on(self, writer: int) -> None:
        with _Clients(self._servers, seed=writer) as clients:
            number = 0
            while not self._stop.is_set():
                name = f"w{writer}-{number}"
                number += 1
                body = {"name": name, "ttl_secs": 86_400}
                jti = self._write(clients, Write("create", name, 0, 0), "POST", TOKENS, body)
                again = jti is not None
                while again and not self._stop.wait(self._pause):
                    write = Write("revoke", name, 0, 0, jti or "")
                    self._write(clients, write, "DELETE", f"{TOKENS}/{jti}", None)
                    again = self._repeat
                self._stop.wait(self._pause)

    def _write(
        self,
        clients: _Clients,
        write: Write,
        method: str,
        path: str,
        body: dict[str, object] | None,
    ) -> str | None:
        """Writes at any server and notes the outcome; the token's id if it is acknowledged."""
        while True:
            sent = now()
            try:
                response = clients.any().request(method, path, json=body)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if self._stop.is_set():
                    return None
                continue  # It was not sent: the next server gets it.
            except httpx.HTTPError:
                response = None
            break
        ended = now()
        if response is not None and response.is_success:
            jti = str(response.json()["jti"])
            acked = Write(write.kind, write.name, sent, ended, jti)
            self.ledger.note(self.ledger.acked, acked)
            return jti
        code = "" if response is None else response.json()["error"]["code"]
        assert response is None or response.status_code == 503, (write, response.text)
        of = self.ledger.refused if code in _NOT_DONE else self.ledger.unknown
        self.ledger.note(of, Write(write.kind, write.name, sent, ended, write.jti))
        return None

    # --- reading ------------------------------------------------------------------------------

    def _read_on(self) -> None:
        """Reads at any server right after an acknowledged write: never something older."""
        with _Clients(self._servers, seed=-1) as clients:
            newest_revision = 0
            while not self._stop.is_set():
                # Acknowledged creations and first revocations are an event each.
                floor = 0 if self._repeat else self.ledger.count()
                floor = max(newest_revision, floor)
                if not self.ledger.count():
                    self._stop.wait(0.01)
                    continue
                write = self.ledger.acked[-1]
                token = self._look(clients, f"{TOKENS}/{write.jti}")
                if token is not None:
                    assert write.kind == "create" or token["revoked"], f"stale: {write}, {token}"
                status = self._look(clients, "/api/v1/status")
                if status is not None:
                    newest_revision = int(str(status["revision"]))
                    assert newest_revision >= floor, f"stale: revision {newest_revision} < {floor}"
                self._stop.wait(self._pause)

    def _look(self, clients: _Clients, path: str) -> dict[str, object] | None:
        try:
            response = clients.any().get(path, params={"consistency": LINEARIZABLE})
        except httpx.HTTPError:
            return None
        if response.status_code == 503:
            return None  # Nobody leads at the moment: no answer is not an old one.
        assert response.status_code == 200, f"{path}: {response.status_code} {response.text}"
        self.reads += 1
        return dict(response.json())


class _Clients:
    """One thread's connections to all servers."""

    def __init__(self, servers: list[OneServer], seed: int) -> None:
        self._random = random.Random(seed)
        self._clients = [server.new_client(_ANSWER_SECS) for server in servers]

    def any(self) -> httpx.Client:
        return self._random.choice(self._clients)

    def __enter__(self) -> _Clients:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
