"""Hosts that can be cut from each other: a network namespace each, all on one bridge.

Every host knows the others' hardware addresses by permanent entries, and a cut gives it a wrong
one: what it sends then gets lost on the bridge without a word, in that direction alone, also on
connections that are open. That needs nothing but `ip`, and touches nothing outside the namespaces.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpcore
import httpx
from httpcore._backends.sync import SyncBackend

#: Linux's `CLONE_NEWNET`.
_NEW_NET = 0x4000_0000
#: Of no host: the bridge asks all of them, and none takes the frame.
_NOBODY = "02:00:00:00:ff:ff"
_DEVICE = "eth0"
#: Seconds for all hosts to hear each other.
_OPEN_SECS = 20.0
#: In the kernel's table of TCP connections.
_ESTABLISHED = "01"
_NETWORKS = itertools.count()
_LIBC = ctypes.CDLL(None, use_errno=True)


class HostRefusedError(Exception):
    """This machine can't do it; the text says what it said."""


def _ip(*command: str) -> None:
    done = subprocess.run(["ip", *command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostRefusedError(f"ip {' '.join(command)}: {done.stderr.strip()}")


class Network:
    """Hosts by number from 1. Its context ends with no namespace left, whatever happened."""

    def __init__(self, hosts: int) -> None:
        self.hosts = range(1, hosts + 1)
        self._name = f"zlayer-{os.getpid()}-{next(_NETWORKS)}"
        self._made: list[str] = []
        self._cut: set[tuple[int, int]] = set()

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._remove()

    def _make(self) -> None:
        hub = self._namespace("hub")
        _ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", hub, "link", "set", "bridge", "up")
        for host in self.hosts:
            inside = self._namespace(str(host))
            port = f"port{host}"
            ends = ["address", _hardware(host), "netns", inside]
            _ip("-n", hub, "link", "add", port, "type", "veth", "peer", "name", _DEVICE, *ends)
            _ip("-n", hub, "link", "set", port, "master", "bridge", "up")
            _ip("-n", inside, "link", "set", "lo", "up")
            _ip("-n", inside, "address", "add", f"{address(host)}/24", "dev", _DEVICE)
            _ip("-n", inside, "link", "set", _DEVICE, "up")
        for host, other in itertools.permutations(self.hosts, 2):
            self._route(host, other, _hardware(other))
        # The kernel opens a port of the bridge some time after its link is up.
        for host, other in itertools.pairwise([*self.hosts, self.hosts[0]]):
            if not self.hears(host, other, within=_OPEN_SECS):
                raise HostRefusedError(f"not within {_OPEN_SECS} s: {host} hears {other}")

    def _namespace(self, part: str) -> str:
        name = f"{self._name}-{part}"
        _ip("netns", "add", name)
        self._made.append(name)
        return name

    def _remove(self) -> None:
        while self._made:
            with contextlib.suppress(HostRefusedError):
                _ip("netns", "delete", self._made.pop())

    def _route(self, host: int, other: int, hardware: str) -> None:
        entry = [address(other), "lladdr", hardware, "dev", _DEVICE, "nud", "permanent"]
        _ip("-n", f"{self._name}-{host}", "neighbour", "replace", *entry)

    # --- cutting ------------------------------------------------------------------------------

    def cut(self, sender: int, receiver: int) -> None:
        """Loses all that `sender` sends to `receiver`, from now on."""
        self._route(sender, receiver, _NOBODY)
        self._cut.add((sender, receiver))

    def split(self, one: Iterable[int], other: Iterable[int]) -> None:
        """Loses all between two groups of hosts, both ways."""
        for pair in itertools.product(one, other):
            self.cut(*pair)
            self.cut(*reversed(pair))

    def heal(self) -> None:
        """Ends all cuts."""
        for sender, receiver in self._cut:
            self._route(sender, receiver, _hardware(receiver))
        self._cut.clear()

    # --- using --------------------------------------------------------------------------------

    def program(self, host: int, program: Sequence[str]) -> list[str]:
        """The program as a process of the host: the process id stays that of the program."""
        return ["ip", "netns", "exec", f"{self._name}-{host}", *program]

    def transport(self, host: int) -> httpx.HTTPTransport:
        """Makes this process' connections on the host, so that they reach its loopback."""
        return _Transport(f"{self._name}-{host}")

    def connections(self, host: int, to: str) -> int:
        """How many open TCP connections the host has to the `address:port`."""
        where, port = to.split(":")
        wanted = f"{_hexadecimal(where)}:{int(port):04X}"
        with _entered(f"{self._name}-{host}"):
            table = Path(f"/proc/self/task/{threading.get_native_id()}/net/tcp").read_text()
        rows = [line.split() for line in table.splitlines()[1:]]
        return sum(row[2] == wanted and row[3] == _ESTABLISHED for row in rows)

    def hears(self, host: int, other: int, within: float = 0.5) -> bool:
        """Whether any datagram from `other` arrives at `host`, in `within` seconds."""
        with _entered(f"{self._name}-{host}"):
            ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with _entered(f"{self._name}-{other}"):
            mouth = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with ear, mouth:
            ear.bind((address(host), 0))
            ear.settimeout(0.05)
            until = time.monotonic() + within
            while time.monotonic() < until:
                mouth.sendto(b"here", ear.getsockname())
                with contextlib.suppress(TimeoutError):
                    return ear.recv(16) == b"here"
        return False


def address(host: int) -> str:
    """The host's address on the bridge."""
    return f"10.199.0.{host}"


def _hexadecimal(where: str) -> str:
    """An IPv4 address as the kernel's tables have it."""
    return f"{int.from_bytes(socket.inet_aton(where), sys.byteorder):08X}"


def _hardware(host: int) -> str:
    return f"02:00:00:00:00:{host:02x}"


@contextlib.contextmanager
def _entered(namespace: str) -> Iterator[None]:
    """Sockets that this thread makes in the block are the namespace's, and stay so."""
    # The thread's own: other threads go on where they are.
    with (
        Path(f"/proc/self/task/{threading.get_native_id()}/ns/net").open("rb") as home,
        Path("/run/netns", namespace).open("rb") as inside,
    ):
        _set_namespace(inside.fileno())
        try:
            yield
        finally:
            _set_namespace(home.fileno())


def _set_namespace(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _NEW_NET) != 0:
        number = ctypes.get_errno()
        raise HostRefusedError(f"setns: {os.strerror(number)}")


class _Backend(SyncBackend):
    """httpcore's own, in a namespace while it connects."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        with _entered(self._namespace):
            return super().connect_tcp(*args, **kwargs)


class _Transport(httpx.HTTPTransport):
    def __init__(self, namespace: str) -> None:
        super().__init__()
        self._pool.close()
        self._pool = httpcore.ConnectionPool(network_backend=_Backend(namespace))


def why_not() -> str | None:
    """Why this machine can't cut hosts from each other; None where it can. Tries it with two."""
    if os.geteuid() != 0:
        return "not root"
    if shutil.which("ip") is None:
        return "no ip (package iproute2)"
    try:
        with Network(2) as network:
            network.cut(2, 1)
            if network.hears(1, 2) or not network.hears(2, 1, within=_OPEN_SECS):
                return "a wrong hardware address cuts nothing, or both directions"
            network.heal()
            if not network.hears(1, 2, within=_OPEN_SECS):
                return "a cut does not end"
    except (HostRefusedError, OSError) as refused:
        return str(refused)
    return None
