//! The server's process: what dies with it.

use std::collections::VecDeque;
use std::sync::Arc;

use zlayer_core::command::Transition;
use zlayer_core::liveness::{BeatPath, Liveness, LivenessLimits, SessionId};
use zlayer_core::record::NodeId;
use zlayer_core::time::MonoMs;
use zlayer_core::ttl::AdaptiveTtlConfig;

use crate::Ms;
use crate::flaw::Flaw;
use crate::world::Happening;

/// What the server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Up,
    /// Stopped since then; its kernel goes on.
    Paused {
        since: Ms,
    },
    /// No process. Its kernel refuses dials, unless the host is gone, too.
    Down {
        host: bool,
    },
}

/// The server and its engine.
pub(crate) struct Server {
    pub(crate) life: Life,
    /// Processes so far.
    pub(crate) boots: u64,
    /// World's time at which its monotonic clock reads 0; before the world began, mostly.
    origin: i64,
    engine: Option<(Liveness, Arc<BeatPath>)>,
    last_session: u64,
    /// To be proposed with the next batch.
    pub(crate) waiting: VecDeque<Transition>,
    /// A batch is being written.
    pub(crate) in_flight: bool,
    /// What waits while it is stopped.
    pub(crate) inbox: Vec<Happening>,
    /// Sessions that were asked to connect anew, and when they count as lost.
    pub(crate) handovers: VecDeque<(Ms, NodeId, SessionId)>,
    pub(crate) handshakes: u32,
    /// When its processor has time for another handshake.
    pub(crate) busy_until: Ms,
    /// Commits take this long until then; proposals are turned away until then.
    pub(crate) disk_slow_until: Ms,
    pub(crate) commit_ms_max: Ms,
    pub(crate) overloaded_until: Ms,
    /// The answer to the next batch gets lost.
    pub(crate) loses_answer: bool,
    /// Its host is suspended: no packet comes or goes.
    pub(crate) suspended_until: Ms,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self {
            life: Life::Down { host: false },
            boots: 0,
            origin: 0,
            engine: None,
            last_session: 0,
            waiting: VecDeque::new(),
            in_flight: false,
            inbox: Vec::new(),
            handovers: VecDeque::new(),
            handshakes: 0,
            busy_until: 0,
            disk_slow_until: 0,
            commit_ms_max: 0,
            overloaded_until: 0,
            loses_answer: false,
            suspended_until: 0,
        }
    }

    /// A new process. Its clock reads `clock` now: no two processes agree about the time.
    pub(crate) fn boot(
        &mut self,
        now: Ms,
        clock: u64,
        config: AdaptiveTtlConfig,
        mut limits: LivenessLimits,
        flaw: Option<Flaw>,
    ) {
        if let Some(flaw) = flaw {
            flaw.spoil(&mut limits);
        }
        #[cfg(feature = "planted-bugs")]
        let engine = Liveness::with_bug(config, limits, flaw.and_then(Flaw::in_core));
        #[cfg(not(feature = "planted-bugs"))]
        let engine = Liveness::new(config, limits);
        *self = Self {
            life: Life::Up,
            boots: self.boots + 1,
            origin: now as i64 - clock as i64,
            engine: Some(engine),
            disk_slow_until: self.disk_slow_until,
            commit_ms_max: self.commit_ms_max,
            overloaded_until: self.overloaded_until,
            ..Self::new()
        };
    }

    /// The process is gone, and its host with it or not.
    pub(crate) fn die(&mut self, with_host: bool) {
        *self = Self { life: Life::Down { host: !with_host }, boots: self.boots, ..Self::new() };
    }

    pub(crate) fn is_up(&self) -> bool {
        self.life == Life::Up
    }

    /// What its monotonic clock reads.
    pub(crate) fn clock(&self, now: Ms) -> MonoMs {
        MonoMs((now as i64 - self.origin) as u64)
    }

    /// World's time of a time on its clock.
    pub(crate) fn world_time(&self, at: MonoMs) -> Ms {
        (at.0 as i64 + self.origin) as u64
    }

    pub(crate) fn engine(&self) -> Option<&Liveness> {
        self.engine.as_ref().map(|(engine, _)| engine)
    }

    pub(crate) fn engine_mut(&mut self) -> Option<&mut Liveness> {
        self.engine.as_mut().map(|(engine, _)| engine)
    }

    pub(crate) fn beats(&self) -> Option<Arc<BeatPath>> {
        self.engine.as_ref().map(|(_, beats)| Arc::clone(beats))
    }

    pub(crate) fn next_session(&mut self) -> SessionId {
        self.last_session += 1;
        SessionId(self.last_session)
    }
}
