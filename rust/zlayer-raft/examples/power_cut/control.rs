//! A control log: commands of which several are in flight, over a fixed set of keys.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use zlayer_core::command::Outcome;
use zlayer_raft::switchboard::Switchboard;
use zlayer_raft::{
    ChangeFuture, ControlLog, LogOptions, Replicated, ReplicatedLimits, ReplicatedOptions,
    SingleVoter, Timers,
};

use super::{Task, command, number_of, say};

const CLUSTER: &str = "zl-power";

/// Bytes of log after which a snapshot is made. Small, so that there are many.
const SNAPSHOT_BYTES: u64 = 128 << 10;

/// Keys, in turn.
const KEYS: u64 = 64;

/// A log, and what has to be waited for before it can lead.
type Opened = io::Result<(Arc<dyn ControlLog>, Option<ChangeFuture>)>;

pub(crate) fn single_voter(task: &Task) -> Opened {
    let options = LogOptions {
        dir: task.dir.clone(),
        cluster_id: CLUSTER.into(),
        node_id: 1,
        snapshot_bytes: SNAPSHOT_BYTES,
    };
    let log = SingleVoter::open_on(options, task.machine()).map_err(io::Error::other)?;
    Ok((Arc::new(log), None))
}

/// A cluster of one.
pub(crate) fn replicated(task: &Task) -> Opened {
    let options = ReplicatedOptions {
        dir: task.dir.clone(),
        cluster_id: CLUSTER.into(),
        node_id: 1,
        raft_addr: "server-1".into(),
        api_addr: String::new(),
        snapshot_bytes: SNAPSHOT_BYTES,
        timers: Timers::default(),
        limits: ReplicatedLimits::default(),
    };
    let board = Arc::<Switchboard>::default();
    let server = Replicated::open_on(options, board.plug(1), task.machine());
    let server = server.map_err(io::Error::other)?;
    let all = BTreeMap::from([(1, ("server-1".into(), String::new()))]);
    let formed = server.members().voters.is_empty().then(|| server.form(all));
    Ok((Arc::new(server), formed))
}

pub(crate) async fn run(task: &Task, open: fn(&Task) -> Opened) -> io::Result<()> {
    let (log, formed) = open(task)?;
    if let Some(formed) = formed {
        formed.await.map_err(io::Error::other)?;
    }
    let term = lead(&*log).await?;
    // What was committed before is applied then.
    log.read_barrier().await.map_err(io::Error::other)?;
    say(&format!("found {term}"));
    log.state().with_state(|state| {
        state.check_invariants();
        for record in state.values("", "") {
            let (number, life) = number_of(&record.key, &record.value);
            assert_eq!(record.key, key(number), "it is under another key");
            say(&format!("found {number} {life}"));
        }
    });
    if !task.opened() {
        log.shutdown();
        return Ok(());
    }
    let mut in_flight = VecDeque::new();
    for number in task.from.. {
        // One that has stopped is asked nothing more.
        if let Some(why) = log.health().stopped {
            return Err(io::Error::other(why));
        }
        say(&format!("+ {number}"));
        in_flight.push_back((number, log.propose(command(&key(number), number, task.life))));
        if in_flight.len() < task.in_flight {
            continue;
        }
        let Some((number, proposal)) = in_flight.pop_front() else { continue };
        match proposal.await.map_err(io::Error::other)? {
            Outcome::Written { .. } => say(&format!("= {number}")),
            other => panic!("{other:?}"),
        }
    }
    Ok(())
}

/// Waits until it leads. Gives the term.
async fn lead(log: &dyn ControlLog) -> io::Result<u64> {
    let mut leadership = log.leadership();
    loop {
        let own = leadership.borrow_and_update().own;
        if let Some(own) = own {
            return Ok(own.term);
        }
        if let Some(why) = log.health().stopped {
            return Err(io::Error::other(why));
        }
        leadership.changed().await.map_err(io::Error::other)?;
    }
}

fn key(number: u64) -> String {
    format!("key-{}", number % KEYS)
}
