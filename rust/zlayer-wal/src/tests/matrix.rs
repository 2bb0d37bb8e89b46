//! The crash matrix: a life is cut short at every single operation of its disk, in every way that is known, and
//! the log is opened again: acknowledged ⊆ recovered ⊆ submitted, in order and whole.

use super::life::{Known, Life};
use crate::directory::Bug;
use crate::fs::sim::{Fault, SimFs, Survive};

/// Ways for unsynced data to come through a power cut.
const SURVIVALS: [Survive; 7] = [
    Survive::Nothing,
    Survive::Everything,
    Survive::FirstHalfOfLast,
    Survive::LatterHalfOfLast,
    Survive::Coin(1),
    Survive::Coin(2),
    Survive::Coin(3),
];

/// What went wrong, for a test that expects it to.
type Checked = Result<(), String>;

/// A life up to its first error. Says whether it came to its end.
fn live(fs: &SimFs, bug: Option<Bug>, known: &mut Known) -> bool {
    Life::open(fs, bug).and_then(|mut life| life.work(known)).is_ok()
}

/// Opens the log on a sound disk: what was promised must be there, and nothing that was never submitted.
fn reopen(fs: &SimFs, bug: Option<Bug>, known: &mut Known) -> Result<Life, String> {
    let opened = std::panic::catch_unwind(|| Life::open(fs, bug));
    let life = match opened {
        Ok(Ok(life)) => life,
        Ok(Err(error)) => return Err(format!("refused to open: {error}")),
        Err(_) => return Err("a record was not what was submitted".into()),
    };
    if life.last < known.promised {
        return Err(format!("{} promised, {} there", known.promised, life.last));
    }
    if life.last > known.submitted {
        return Err(format!("{} submitted, {} there", known.submitted, life.last));
    }
    // What was read back is served from now on, so that it is promised, too.
    known.promised = life.last;
    Ok(life)
}

/// Opens, writes on, and loses the power with nothing unsynced left: what was served must be there again.
fn live_on(fs: &SimFs, bug: Option<Bug>, mut known: Known) -> Checked {
    // Before anything is written, so that only the opening itself can have made it durable.
    drop(reopen(fs, bug, &mut known)?);
    let fs = fs.after_power_cut(Survive::Nothing);
    let mut life = reopen(&fs, bug, &mut known)?;
    for count in [2, 5, 1] {
        life.commit(count, &mut known).map_err(|error| error.to_string())?;
    }
    drop(life);
    reopen(&fs.after_power_cut(Survive::Nothing), bug, &mut known).map(|_| ())
}

/// The power goes at every operation; every way of surviving; and again while the log is opened.
fn power_cuts(bug: Option<Bug>) -> Checked {
    for operation in 0.. {
        let (fs, mut known) = (SimFs::default(), Known::default());
        fs.set_fault(operation, Fault::PowerCut);
        if live(&fs, bug, &mut known) {
            return Ok(());
        }
        for survive in SURVIVALS {
            let at = |why| format!("power cut at {operation}, {survive:?}: {why}");
            let fs = fs.after_power_cut(survive);
            live_on(&fs.copy(), bug, known).map_err(at)?;
            while_opening(&fs, bug, known).map_err(at)?;
        }
        live_on(&fs.after_kill(), bug, known)
            .map_err(|why| format!("kill at {operation}: {why}"))?;
    }
    Ok(())
}

/// Cuts the power at every operation of an opening.
fn while_opening(fs: &SimFs, bug: Option<Bug>, known: Known) -> Checked {
    for operation in 0.. {
        let fs = fs.copy();
        fs.set_fault(operation, Fault::PowerCut);
        if Life::open(&fs, bug).is_ok() {
            return Ok(());
        }
        let fs = fs.after_power_cut(Survive::Coin(operation as u64));
        reopen(&fs, bug, &mut known.clone())
            .map_err(|why| format!("again at {operation} of opening: {why}"))?;
    }
    Ok(())
}

/// Every operation fails, in every way that it can; the process ends, or the power does.
fn faults(bug: Option<Bug>) -> Checked {
    for fault in [Fault::Io, Fault::Full, Fault::Short, Fault::Torn] {
        for operation in 0.. {
            let (fs, mut known) = (SimFs::default(), Known::default());
            fs.set_fault(operation, fault);
            let finished = live(&fs, bug, &mut known);
            let at = |why| format!("{fault:?} at {operation}: {why}");
            live_on(&fs.after_kill(), bug, known).map_err(at)?;
            for survive in SURVIVALS {
                live_on(&fs.after_power_cut(survive), bug, known).map_err(at)?;
            }
            if finished && fs.operations() <= operation {
                break;
            }
        }
    }
    Ok(())
}

#[test]
fn acknowledged_is_recovered_and_recovered_was_submitted() {
    power_cuts(None).unwrap();
}

#[test]
fn a_failed_operation_is_final_and_loses_nothing() {
    faults(None).unwrap();
}

#[test]
fn a_short_write_is_written_on() {
    let clean = SimFs::default();
    assert!(live(&clean, None, &mut Known::default()));
    for operation in 0..clean.operations() {
        let fs = SimFs::default();
        fs.set_fault(operation, Fault::Short);
        assert!(
            live(&fs, None, &mut Known::default()),
            "a short write at {operation} was an error"
        );
    }
}

/// The matrix is not blind: each planted mistake is found by one of its two halves.
#[test]
fn planted_bugs_are_found() {
    let bugs = [
        Bug::AckBeforeSync,
        Bug::SegmentNameNotSynced,
        Bug::PurgeToUnsynced,
        Bug::SyncTriedAgain,
        Bug::RecoveredNotSynced,
        Bug::TailNotCut,
    ];
    for bug in bugs {
        let found = power_cuts(Some(bug)).and_then(|()| faults(Some(bug)));
        assert!(found.is_err(), "nothing noticed {bug:?}");
    }
}
