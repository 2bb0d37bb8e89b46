//! Commits on the control log of a server in this process: the way of a program that embeds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use zlayer_core::command::{Command, Outcome};
use zlayer_core::record::Value;
use zlayer_node::{ControlLog, ProposeError};

use crate::clock::monotonic_ns;
use crate::commit_options::{CommitLoad, InFlightOptions, PaceOptions};
use crate::commit_report::{Acked, CommitReport, Ended};
use crate::error::LoadError;
use crate::process::Process;
use crate::turn::{Turn, in_turn};
use crate::{runtime, to_json};

/// Runs the load that the options' `kind` names until it is done. Blocks.
///
/// # Errors
/// [`LoadError`]: an option is wrong, or a commit failed where none may.
pub fn run_commits(log: &Arc<dyn ControlLog>, options_json: &[u8]) -> Result<Vec<u8>, LoadError> {
    match CommitLoad::from_json(options_json)? {
        CommitLoad::InFlight(options) => {
            to_json(&runtime(options.threads)?.block_on(commit_in_flight(log, &options))?)
        }
        CommitLoad::Takeover(options) => to_json(&runtime(1)?.block_on(take_over(log, &options))?),
        CommitLoad::Hold(options) => to_json(&runtime(1)?.block_on(hold(log, &options))),
    }
}

/// Keys that are written to, in turn; as many as at etcd.
const KEYS: u64 = 100;

/// What every commit of a load is: a value under a key, whatever was there.
fn command(number: u64, value_bytes: usize) -> Command {
    Command::Put {
        key: format!("key-{}", number % KEYS),
        value: Value(format!("{number:0>value_bytes$}").into_bytes()),
        if_revision: None,
    }
}

/// Of a command that was applied: `None` if it was written, why not if it was refused.
fn refused(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Written { .. } => None,
        other => Some(format!("{other:?}")),
    }
}

/// One commit after another.
struct CommitTurn {
    log: Arc<dyn ControlLog>,
    numbers: Arc<AtomicU64>,
    value_bytes: usize,
}

impl Turn for CommitTurn {
    async fn beat(&mut self) -> Result<(), String> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let committed = self.log.propose(command(number, self.value_bytes)).await;
        refused(&committed.map_err(|error| error.to_string())?).map_or(Ok(()), Err)
    }
}

async fn commit_in_flight(
    log: &Arc<dyn ControlLog>,
    options: &InFlightOptions,
) -> Result<CommitReport, LoadError> {
    let processes = Process::all(&options.server_pids)?;
    let numbers = Arc::default();
    let turns = (0..options.in_flight)
        .map(|_| CommitTurn {
            log: Arc::clone(log),
            numbers: Arc::clone(&numbers),
            value_bytes: options.value_bytes,
        })
        .collect();
    let (figures, _) = in_turn(turns, options.plan(), &processes).await?;
    Ok(CommitReport::new(options, &figures))
}

/// Proposes at a pace and says what became of each, in the order in which that is known.
async fn propose_at_pace(
    log: Arc<dyn ControlLog>,
    every: Duration,
    value_bytes: usize,
    seen: mpsc::UnboundedSender<Result<u64, ProposeError>>,
) {
    let mut pace = interval(every);
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for number in 0.. {
        pace.tick().await;
        if seen.is_closed() {
            return;
        }
        let (committed, seen) = (log.propose(command(number, value_bytes)), seen.clone());
        tokio::spawn(async move {
            let result = committed.await.map(|_| monotonic_ns());
            // Nobody listens any more once the load is over.
            let _ = seen.send(result);
        });
    }
}

/// Another server's commits end; this one's first commit follows. A server that follows acknowledges none.
async fn take_over(log: &Arc<dyn ControlLog>, options: &PaceOptions) -> Result<Acked, LoadError> {
    let (seen, mut results) = mpsc::unbounded_channel();
    tokio::spawn(propose_at_pace(Arc::clone(log), options.every(), options.value_bytes, seen));
    let first = async {
        loop {
            match results.recv().await {
                Some(Ok(acked_ns)) => return Ok(Acked { acked_ns }),
                Some(Err(error @ ProposeError::Stopped { .. })) => {
                    return Err(LoadError::Turn(error.to_string()));
                }
                Some(Err(_)) => {}
                None => return Err(LoadError::Turn("the load ended".into())),
            }
        }
    };
    let late = || LoadError::Turn(format!("it did not lead within {} s", options.timeout_seconds));
    timeout(options.timeout(), first).await.unwrap_or_else(|_| Err(late()))
}

/// Goes on until a commit is refused.
async fn hold(log: &Arc<dyn ControlLog>, options: &PaceOptions) -> Ended {
    let (seen, mut results) = mpsc::unbounded_channel();
    tokio::spawn(propose_at_pace(Arc::clone(log), options.every(), options.value_bytes, seen));
    let mut ended = Ended { commits: 0, why: "the time was up".into() };
    let counted = async {
        while let Some(result) = results.recv().await {
            match result {
                Ok(_) => ended.commits += 1,
                Err(error) => {
                    ended.why = error.to_string();
                    return;
                }
            }
        }
    };
    // The time being up is one of the two ends.
    let _ = timeout(options.timeout(), counted).await;
    ended
}
