//! The program as it is called: exit codes, one line for each world, and a report that leads back to the failure.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

use std::process::{Command, Output};

fn call(args: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zlayer-sim")).args(args.split_whitespace()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_line_for_each_world_and_exit_code_0() {
    let output = call("--seeds 1..3 --workers 50 --minutes 30");
    let lines = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{lines}");
    assert_eq!(lines.lines().count(), 3);
    for (seed, line) in (1..).zip(lines.lines()) {
        assert!(line.starts_with(&format!("seed {seed}, 50 workers, 30 min, mix: ")), "{line}");
        assert!(line.contains("trace "), "{line}");
    }
}

#[test]
fn a_broken_promise_is_reported_with_the_command_that_shows_it_again() {
    let output = call("--seed 4 --workers 100 --minutes 60 --scenario churn --bug NoGrace");
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{report}");
    let first = report.lines().next().unwrap();
    assert!(first.starts_with(
        "seed 4, 100 workers, 60 min, churn, bug NoGrace: early_expiry is broken at 0:"
    ));
    assert!(report.contains("\n  node 1"), "{report}");
    assert!(report.contains("its lease ends"), "{report}");
    assert!(report.contains("the last that happened at all:\n"), "{report}");
    assert!(report.contains("Proposed { node: 1"), "{report}");
    let again = report.lines().last().unwrap().split_once(" -- ").unwrap().1;
    assert_eq!(text(&call(again).stdout), report);
}

#[test]
fn arguments_that_make_no_sense_are_exit_code_2_and_say_what_would() {
    let output = call("--bug Nothing");
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    assert!(error.starts_with("--bug is one of NoGrace"), "{error}");
    assert!(error.contains("usage: zlayer-sim"), "{error}");
    assert_eq!(call("--help").status.code(), Some(0));
}

/// The features of the core that a crate is built with, the edges of that kind considered.
fn features_of_core(package: &str, edges: &str) -> String {
    let tree = ["tree", "--locked", "--offline", "-i", "zlayer-core", "-p", package, "-e", edges];
    let output = Command::new(env!("CARGO")).args(tree).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn the_planted_bugs_are_in_these_tests_and_in_nothing_that_is_released() {
    assert!(features_of_core("zlayer-sim", "all,features").contains("planted-bugs"));
    for package in ["zlayer-py", "zlayer-node", "zlayer-load", "zlayer-sim"] {
        let features = features_of_core(package, "normal,build,features");
        assert!(features.contains("zlayer-core feature"), "{features}");
        assert!(!features.contains("planted-bugs"), "{package}: {features}");
    }
}
