"""Machines that ask to be let in, over and over, at any server, whatever happens to those."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import grpc
import grpc.aio
from cryptography.hazmat.primitives.asymmetric import ec

from tests.cluster.servers import OneServer
from zlayer_native._proto.zlayer.cluster.v1 import enrollment_pb2 as pb
from zlayer_native._proto.zlayer.cluster.v1 import enrollment_pb2_grpc as rpc
from zlayer_native.enroll.client import Stub
from zlayer_native.enroll.dial import Trust, open_channel
from zlayer_native.enroll.failures import failure
from zlayer_native.identity import profiles
from zlayer_native.identity.csr import new_csr
from zlayer_native.identity.token import decode

#: What a machine is told that comes after the last use.
USED_UP = "token_used_up"

#: Calls on one connection. The worker port lets 50 new ones a second in from one source, and 64 KiB
#: through each: so it is the calls that are many, not the connections.
_CALLS = 10
#: Seconds for one answer: more than a server waits for a leader and for the leader's answer.
_ANSWER_SECS = 20.0
#: Seconds that a machine waits after a failure that passes.
_BACK_OFF = 0.05


class Registrations:
    """A pool of keys, and lanes that register keys of it with one token until they are stopped.

    A lane takes a key that is new every other time, and else one of those that were tried before.
    """

    def __init__(self, servers: Sequence[OneServer], token_line: str, keys: int) -> None:
        token = decode(token_line)
        pem = "".join(profiles.pem(ca).decode() for ca in token.cas)
        self._trust = Trust(token.claims.cluster_id, pem)
        self._token = token_line
        self._addresses = [server.workers for server in servers]
        made = [ec.generate_private_key(ec.SECP256R1()) for _ in range(keys)]
        self._requests = [new_csr(key) for key in made]
        self._new: list[int] = []
        self._tried: list[int] = []
        self._released = 0
        self._random = random.Random(7)
        self._progress = asyncio.Condition()
        #: Node ids that each key was ever given.
        self.ids: dict[int, set[int]] = defaultdict(set)
        #: Keys that were told that there is no use left.
        self.late: set[int] = set()
        #: Attempts by what became of them.
        self.outcomes: Counter[str] = Counter()

    @property
    def answered(self) -> int:
        """Attempts that brought an id or a final refusal."""
        return self.outcomes["admitted"] + self.outcomes[USED_UP]

    @property
    def attempts(self) -> int:
        return self.outcomes.total()

    def release(self, count: int) -> None:
        """Lets the lanes use so many more keys."""
        until = min(self._released + count, len(self._requests))
        self._new += range(self._released, until)
        self._released = until

    async def wait_answered(self, count: int, *, within: float) -> None:
        async with asyncio.timeout(within), self._progress:
            await self._progress.wait_for(lambda: self.answered >= count)

    async def run(self) -> None:
        """One lane; ends by being cancelled."""
        while True:
            async with self._channel() as channel:
                stub = rpc.EnrollmentStub(channel)
                for _ in range(_CALLS):
                    if not await self._attempt(stub, self._next()):
                        break

    async def settle(self) -> None:
        """Asks for every key until the answer is final."""
        for key in range(len(self._requests)):
            while True:
                async with self._channel() as channel:
                    if await self._attempt(rpc.EnrollmentStub(channel), key):
                        break

    def _next(self) -> int:
        if self._new and (not self._tried or self._random.random() < 0.5):
            key = self._new.pop()
            self._tried.append(key)
            return key
        return self._random.choice(self._tried)

    def _channel(self) -> grpc.aio.Channel:
        return open_channel(self._random.choice(self._addresses), self._trust)

    async def _attempt(self, stub: Stub, key: int) -> bool:
        """Registers a key; whether the answer is final."""
        request = pb.RegisterRequest(bootstrap_token=self._token, csr_der=self._requests[key])
        try:
            response = await stub.Register(request, timeout=_ANSWER_SECS)
        except grpc.aio.AioRpcError as error:
            refused = failure(error, "a server")
            outcome = getattr(refused, "reason", "")
            # Nothing but the end of the uses is a reason to turn one of these machines away.
            assert outcome == USED_UP or refused.retryable, refused
            outcome = outcome or error.code().name.lower()
        else:
            outcome = "admitted"
            self.ids[key].add(response.node_id)
        await self._count(outcome, key)
        return outcome in ("admitted", USED_UP)

    async def _count(self, outcome: str, key: int) -> None:
        self.outcomes[outcome] += 1
        if outcome == USED_UP:
            self.late.add(key)
        if outcome in ("admitted", USED_UP):
            async with self._progress:
                self._progress.notify_all()
        else:
            await asyncio.sleep(_BACK_OFF)


@contextmanager
def lanes(registrations: Registrations, count: int) -> Iterator[list[asyncio.Task[None]]]:
    """Lanes that run until the block ends; what one failed with is raised by `raise_failures`."""
    tasks = [asyncio.create_task(registrations.run()) for _ in range(count)]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()


def raise_failures(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()
