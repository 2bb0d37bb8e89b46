"""The same puts through grpcio's asyncio client, to know which client holds etcd up less.

Usage: etcd_aio.py ADDRESS IN_FLIGHT VALUE_BYTES SECONDS
Prints commits per second.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time

import grpc
import uvloop

CHANNELS = 4


def _put(number: int, value_bytes: int) -> bytes:
    """etcd's PutRequest: key is field 1, value is field 2, both shorter than 128 bytes."""
    key, value = f"key-{number % 100}".encode(), str(number).zfill(value_bytes).encode()
    return b"\x0a" + bytes([len(key)]) + key + b"\x12" + bytes([len(value)]) + value


async def main(address: str, in_flight: int, value_bytes: int, seconds: float) -> float:
    numbers = itertools.count()
    channels = [
        grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(CHANNELS)
    ]
    calls = [channel.unary_unary("/etcdserverpb.KV/Put") for channel in channels]
    until = 0.0
    done = 0

    async def lane(at: int) -> None:
        nonlocal done
        while time.perf_counter() < until:
            await calls[at % CHANNELS](_put(next(numbers), value_bytes))
            done += 1

    for length in (1.0, seconds):  # The first is the warm-up.
        done, began = 0, time.perf_counter()
        until = began + length
        await asyncio.gather(*(lane(at) for at in range(in_flight)))
    rate = done / (time.perf_counter() - began)
    for channel in channels:
        await channel.close()
    return rate


if __name__ == "__main__":
    address, *numbers = sys.argv[1:]
    print(uvloop.run(main(address, int(numbers[0]), int(numbers[1]), float(numbers[2]))))
