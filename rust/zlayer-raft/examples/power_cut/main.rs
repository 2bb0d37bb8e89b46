//! Writes to a log until the power goes, and says what is there afterwards. `tests/cluster/test_power_cuts.py` runs it
//! on a file system that it cuts off.
//!
//! ```console
//! $ power_cut raft-log|single-voter|replicated|plain read|write DIR [--life N] [--from N] [--in-flight N] [--unsynced]
//! ```
//!
//! Prints a line each, at once and whole: `found …` what the directory holds, `open` when that was all, `+ N …` before
//! something is begun, `= N` when it is acknowledged. Ends with 3 when the disk refuses, which is how a power cut looks
//! from inside. `plain` is a loop of one write and one fdatasync, for comparison; `--unsynced` makes every sync a lie.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed run")]
#![allow(clippy::print_stderr, reason = "it says why it ends")]

mod control;
mod forgetful;
mod plain;
mod raft_log;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use zlayer_core::command::Command;
use zlayer_core::record::Value;
use zlayer_raft::{Machine, WalLimits};

/// The disk refused.
const NO_DISK: u8 = 3;

/// Small, so that a life of a second has many segments and grows each of them.
const LIMITS: WalLimits = WalLimits {
    segment_bytes: 256 << 10,
    prepare_bytes: 32 << 10,
    record_bytes_max: 1 << 20,
    batch_bytes_max: 4 << 20,
    queue_records_max: 8_192,
    queue_bytes_max: 32 << 20,
};

/// What it was told.
pub(crate) struct Task {
    pub(crate) dir: PathBuf,
    /// Whether it goes on behind what it found, until the disk refuses.
    writes: bool,
    /// Which writer this is; part of all that it writes.
    pub(crate) life: u64,
    /// The number that it begins with.
    pub(crate) from: u64,
    /// Writes that wait for their acknowledgement.
    pub(crate) in_flight: usize,
    pub(crate) unsynced: bool,
}

impl Task {
    pub(crate) fn machine(&self) -> Machine {
        let machine = Machine { limits: LIMITS, ..Machine::default() };
        if self.unsynced {
            return Machine { fs: Arc::new(forgetful::Forgetful(machine.fs)), ..machine };
        }
        machine
    }

    /// Says that all that was found is said; whether to write.
    pub(crate) fn opened(&self) -> bool {
        say("open");
        self.writes
    }
}

/// Writes a line in one go, past all buffers.
pub(crate) fn say(line: &str) {
    io::stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// A command that names its number and its life, and is as long as the number wants.
pub(crate) fn command(key: &str, number: u64, life: u64) -> Command {
    let mut value = format!("{number} {life} ").into_bytes();
    // Some are longer than a page, and their batch than several.
    let length = if number.is_multiple_of(97) { 20_000 } else { number * 7_919 % 601 };
    value.extend((0..length).map(|at| (number + at * 31) as u8));
    Command::Put { key: key.into(), value: Value(value), if_revision: None }
}

/// The number and life of a command that was read back, which must be whole.
pub(crate) fn number_of(key: &str, value: &Value) -> (u64, u64) {
    let mut words = value.0.split(|byte| *byte == b' ');
    let mut next = || str::from_utf8(words.next().unwrap()).unwrap().parse().unwrap();
    let (number, life) = (next(), next());
    let Command::Put { value: whole, .. } = command(key, number, life) else { unreachable!() };
    assert!(*value == whole, "number {number} of life {life} is not what was written");
    (number, life)
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let mut word = || args.next().expect("see the head of this program");
    let (subject, mode, dir) = (word(), word(), PathBuf::from(word()));
    assert!(["read", "write"].contains(&mode.as_str()), "{mode}: it reads or it writes");
    let writes = mode == "write";
    let mut task = Task { dir, writes, life: 0, from: 1, in_flight: 1, unsynced: false };
    while let Some(arg) = args.next() {
        if arg == "--unsynced" {
            task.unsynced = true;
            continue;
        }
        let number: u64 = args.next().and_then(|n| n.parse().ok()).expect("a number");
        match arg.as_str() {
            "--life" => task.life = number,
            "--from" => task.from = number,
            "--in-flight" => task.in_flight = number as usize,
            other => panic!("{other} is not known"),
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let done = match subject.as_str() {
        "raft-log" => runtime.block_on(raft_log::run(&task)),
        "single-voter" => runtime.block_on(control::run(&task, control::single_voter)),
        "replicated" => runtime.block_on(control::run(&task, control::replicated)),
        "plain" => plain::run(&task),
        other => panic!("{other} is not known"),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(NO_DISK)
        }
    }
}
