//! The crash matrix of the log: a life is cut short at every operation of its disk, in every way that is known, and
//! the log is opened again: it says what it said after some step between the last that was acknowledged and the last
//! that was begun, so that no vote goes back, no entry is lost, and none that was voided comes again.

use std::panic::{AssertUnwindSafe, catch_unwind};

use zlayer_wal::sim::{Fault, SimFs, Survive};

use super::life::{Come, Life, Said, history};
use crate::replicated::planted::Bug;

/// Ways for unsynced data to come through a power cut.
const SURVIVALS: [Survive; 5] = [
    Survive::Nothing,
    Survive::Everything,
    Survive::FirstHalfOfLast,
    Survive::LatterHalfOfLast,
    Survive::Coin(7),
];

/// What went wrong, for a test that expects it to.
type Checked = Result<(), String>;

fn live(fs: &SimFs, bug: Option<Bug>, come: &mut Come) -> bool {
    Life::open(fs, bug).is_ok_and(|mut life| life.live(0, come))
}

/// Opens the log on a sound disk. Gives it, and how many steps it has come.
fn reopen(
    fs: &SimFs,
    bug: Option<Bug>,
    said: &[Said],
    come: Come,
) -> Result<(Life, usize), String> {
    let opened = catch_unwind(AssertUnwindSafe(|| Life::open(fs, bug)));
    let life = match opened {
        Ok(Ok(life)) => life,
        Ok(Err(error)) => return Err(format!("refused to open: {error}")),
        Err(_) => return Err("it says what nobody said".into()),
    };
    let fits = (come.promised..=come.begun).find(|at| said[*at] == life.said);
    match fits {
        Some(found) => Ok((life, found)),
        None => match said.iter().rposition(|one| *one == life.said) {
            Some(at) => Err(format!("it is at step {at}: {come:?}")),
            None => Err(format!("it was never so: {:?}", life.said)),
        },
    }
}

/// Opens, and loses the power with nothing unsynced left: what was served must be there again, and it goes on to the
/// end.
fn live_on(fs: &SimFs, bug: Option<Bug>, said: &[Said], come: Come) -> Checked {
    let (life, found) = reopen(fs, bug, said, come)?;
    drop(life);
    let fs = fs.after_power_cut(Survive::Nothing);
    let served = Come { promised: found, begun: found };
    let (mut life, found) = reopen(&fs, bug, said, served)?;
    let mut come = Come { promised: found, begun: found };
    let lived = catch_unwind(AssertUnwindSafe(|| life.live(found, &mut come)));
    drop(life);
    match lived {
        Ok(true) => {}
        Ok(false) => return Err("a sound disk refused".into()),
        Err(_) => return Err("it could not go on".into()),
    }
    reopen(&fs.after_power_cut(Survive::Nothing), bug, said, come).map(|_| ())
}

fn power_cuts(bug: Option<Bug>) -> Checked {
    let said = history();
    for operation in 0.. {
        let (fs, mut come) = (SimFs::default(), Come::default());
        fs.set_fault(operation, Fault::PowerCut);
        if live(&fs, bug, &mut come) {
            return Ok(());
        }
        for survive in SURVIVALS {
            let at = |why| format!("power cut at {operation}, {survive:?}: {why}");
            live_on(&fs.after_power_cut(survive), bug, &said, come).map_err(at)?;
        }
        live_on(&fs.after_kill(), bug, &said, come)
            .map_err(|why| format!("kill at {operation}: {why}"))?;
    }
    Ok(())
}

fn faults(bug: Option<Bug>) -> Checked {
    let said = history();
    for fault in [Fault::Io, Fault::Full, Fault::Torn] {
        for operation in 0.. {
            let (fs, mut come) = (SimFs::default(), Come::default());
            fs.set_fault(operation, fault);
            let finished = live(&fs, bug, &mut come);
            let at = |why| format!("{fault:?} at {operation}: {why}");
            live_on(&fs.after_kill(), bug, &said, come).map_err(at)?;
            for survive in [Survive::Nothing, Survive::Everything] {
                live_on(&fs.after_power_cut(survive), bug, &said, come).map_err(at)?;
            }
            if finished && fs.operations() <= operation {
                break;
            }
        }
    }
    Ok(())
}

#[test]
fn acknowledged_is_recovered_recovered_was_begun_and_no_vote_goes_back() {
    power_cuts(None).unwrap();
}

#[test]
fn a_failed_operation_is_final_and_loses_nothing() {
    faults(None).unwrap();
}

/// The matrix is not blind.
#[test]
fn planted_bugs_are_found() {
    let bugs = [
        Bug::AckBeforeDurable,
        Bug::VoteNotAwaited,
        Bug::VoteBehindEntries,
        Bug::TruncateNotWritten,
        Bug::TruncateNotAwaited,
        Bug::HeadWithoutVote,
        Bug::PurgeNotWritten,
        Bug::PurgeBeforeHead,
        Bug::SnapshotNotSaved,
    ];
    for bug in bugs {
        let found = power_cuts(Some(bug)).and_then(|()| faults(Some(bug)));
        assert!(found.is_err(), "nothing noticed {bug:?}");
    }
}
