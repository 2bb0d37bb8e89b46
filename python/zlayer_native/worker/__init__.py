"""The worker: enrols once, then stays a member. `Worker` for any process, `Agent` for the daemon.

    Worker ──> Agent ──> Entry ──> errand (a helper process that speaks grpc)
                 └─────> Session (Rust), Follower, Renewals, Sampler

Times no heartbeat itself, and never imports grpc into the process that it lives in.
"""

from __future__ import annotations

from zlayer_native.worker.carried_error import NodeRemoved
from zlayer_native.worker.state import Phase, WorkerState
from zlayer_native.worker.worker import Worker

__all__ = ["NodeRemoved", "Phase", "Worker", "WorkerState"]
