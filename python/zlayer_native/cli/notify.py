"""Tells systemd how a daemon of `Type=notify` is doing. Does nothing where nobody listens.

The protocol is one datagram of `KEY=VALUE` lines to the socket that NOTIFY_SOCKET names
(sd_notify(3)).
"""

from __future__ import annotations

import os
import socket


def ready(status: str = "") -> None:
    """The daemon does its work from here on."""
    _send(READY="1", STATUS=status)


def stopping() -> None:
    """The daemon is on its way out."""
    _send(STOPPING="1")


def status(text: str) -> None:
    """One line for `systemctl status`."""
    _send(STATUS=text)


def still_starting(seconds: float) -> None:
    """The start takes longer, and is to be given that much more time from now."""
    _send(EXTEND_TIMEOUT_USEC=str(int(seconds * 1_000_000)))


def _send(**fields: str) -> None:
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    # An `@` stands for the zero byte that an abstract socket's name begins with.
    address = "\0" + path[1:] if path.startswith("@") else path
    lines = [f"{key}={' '.join(value.split())}" for key, value in fields.items() if value]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)  # A service manager that does not read must not hold us up.
        try:
            sender.sendto("\n".join(lines).encode(), address)
        except OSError:
            return
