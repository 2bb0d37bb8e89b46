"""A server that says exactly what a test wrote, one answer for each connection."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

#: An answer that never comes: the connection stays open until the client goes.
SILENCE = b""


def answer(status: int, body: bytes | str, kind: str = "application/json", **headers: str) -> bytes:
    """A whole HTTP answer."""
    content = body if isinstance(body, bytes) else body.encode()
    lines = [f"HTTP/1.1 {status} Said", f"content-type: {kind}", f"content-length: {len(content)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "connection: close", "", ""]).encode() + content


def said(document: Any) -> bytes:
    """A good answer."""
    return answer(200, json.dumps(document))


def stream(*frames: bytes) -> bytes:
    """The start of an event stream, cut off after these frames."""
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    return head + b"".join(b"%x\r\n%s\r\n" % (len(frame), frame) for frame in frames)


def frame(revision: int, kind: str = "joined", **fields: Any) -> bytes:
    """One event of a stream."""
    item = {
        "revision": revision, "at_ms": 1_795_578_079_000, "kind": kind, "node_id": 1000,
        "node_name": "w00", "reason": None, "detail": "", **fields,
    }  # fmt: skip
    return f"id: {revision}\nevent: {kind}\ndata: {json.dumps(item)}\n\n".encode()


@dataclass
class Scripted:
    """Where it listens, and the heads of the requests that came."""

    port: int
    heads: list[str] = field(default_factory=list)

    @property
    def targets(self) -> list[str]:
        return [head.split(" ")[1] for head in self.heads]


@contextlib.contextmanager
def scripted(answers: Sequence[bytes], context: ssl.SSLContext | None = None) -> Iterator[Scripted]:
    """Serves the answers in order, then nothing more; every answer must have been asked for."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        server = Scripted(listener.getsockname()[1])
        thread = threading.Thread(target=_serve, args=(listener, server, list(answers), context))
        thread.start()
        try:
            yield server
        finally:
            thread.join(30)
        assert not thread.is_alive()
        assert len(server.heads) == len(answers), server.heads


def _serve(
    listener: socket.socket,
    server: Scripted,
    answers: list[bytes],
    context: ssl.SSLContext | None,
) -> None:
    while answers:
        try:
            plain, _ = listener.accept()
        except TimeoutError:
            return
        plain.settimeout(30)
        with contextlib.suppress(OSError), plain:
            connection = plain if context is None else context.wrap_socket(plain, server_side=True)
            with connection:
                head = b""
                while b"\r\n\r\n" not in head and (piece := connection.recv(65536)):
                    head += piece
                if not head:
                    continue  # It was only looked whether somebody listens.
                server.heads.append(head.decode())
                said_now = answers.pop(0)
                connection.sendall(said_now)
                while said_now == SILENCE and connection.recv(65536):
                    pass  # What is left of the request, and then the client's end.
