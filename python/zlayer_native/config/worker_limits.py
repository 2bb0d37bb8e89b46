"""What one worker, and all of them, may take of a server's worker port."""

from __future__ import annotations

from zlayer_native.config.fields import Count, Rate
from zlayer_native.config.model import Model


class WorkerLimits(Model):
    """Limits of the worker port that depend on the fleet. The others are fixed.

    Attributes:
        connections_max: worker connections in all; twice the fleet, since all may reconnect.
        connections_per_source_max: of one source address; a fleet behind one NAT needs them all.
        beats_per_second_per_worker: reports a second of one worker; 0 sets no limit.
        bytes_per_second_per_worker: bytes a second that one connection may send; 0: no limit.
    """

    connections_max: Count = 20_000
    connections_per_source_max: Count = 16_000
    beats_per_second_per_worker: Rate = 10
    bytes_per_second_per_worker: Rate = 65_536
