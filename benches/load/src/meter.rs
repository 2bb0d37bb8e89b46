//! Measures a stage of a run: its time, the server's CPU time, the server's memory before and after.

use std::time::{Duration, Instant};

use crate::error::LoadError;
use crate::process::Process;
use crate::report::Stage;

/// Time between two looks at the memory.
const SETTLE_STEP: Duration = Duration::from_millis(250);
/// Memory that never comes to rest is taken as it is after so many looks.
const SETTLE_STEPS_MAX: u32 = 20;
/// Growth between two looks that counts as rest: one part in this many.
const SETTLE_SHARE: u64 = 1_000;

/// A running stage.
pub(crate) struct Meter {
    process: Process,
    started: Instant,
    cpu_before: f64,
}

impl Meter {
    pub(crate) fn start(process: Process) -> Result<Self, LoadError> {
        Ok(Self { process, started: Instant::now(), cpu_before: process.cpu_seconds()? })
    }

    /// Seconds so far, and CPU seconds of the server in them.
    pub(crate) fn read(&self) -> Result<(f64, f64), LoadError> {
        Ok((self.started.elapsed().as_secs_f64(), self.process.cpu_seconds()? - self.cpu_before))
    }

    /// As a stage that was done for `count` workers.
    pub(crate) fn stage(&self, count: usize) -> Result<Stage, LoadError> {
        let (seconds, cpu_seconds) = self.read()?;
        Ok(Stage::new(count, seconds, cpu_seconds))
    }
}

/// The server's memory once it has come to rest.
pub(crate) async fn settled_rss(process: Process) -> Result<u64, LoadError> {
    let mut before = process.rss_bytes()?;
    for _ in 0..SETTLE_STEPS_MAX {
        tokio::time::sleep(SETTLE_STEP).await;
        let now = process.rss_bytes()?;
        if now.abs_diff(before) <= before / SETTLE_SHARE {
            return Ok(now);
        }
        before = now;
    }
    Ok(before)
}
