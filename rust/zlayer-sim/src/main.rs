//! Runs simulated worlds from the command line: `cargo run --release -p zlayer-sim -- --help`.
#![allow(clippy::print_stderr, reason = "a command line program prints")]

mod args;

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use args::{Args, USAGE};
use zlayer_sim::World;

fn main() -> ExitCode {
    let args = match Args::read(std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut failed = false;
    for seed in args.seeds.clone() {
        let settings = args.settings(seed);
        match World::new(settings.clone()).telling(args.facts).run() {
            Ok(summary) => say(format_args!("{settings}: {summary}")),
            Err(failure) => {
                failed = true;
                say(failure);
            }
        }
    }
    ExitCode::from(u8::from(failed))
}

fn say(line: impl Display) {
    // Whoever reads may have gone; the exit code still tells.
    let _ = writeln!(std::io::stdout(), "{line}");
}
