//! The log as openraft writes it: entries of which several are in flight, votes, truncations, snapshots, purges.

use std::collections::VecDeque;
use std::io;

use zlayer_core::command::Command;
use zlayer_raft::LogOptions;
use zlayer_raft::bare_log::{BareEntry, BareLog, Flushed};

use super::{Task, command, number_of, say};

const KEY: &str = "entry";

/// A writer in the middle of its work.
struct Life<'a> {
    task: &'a Task,
    log: BareLog,
    /// Of the coins that choose what comes next.
    coin: u64,
    term: u64,
    purged: u64,
    last: u64,
    /// Up to here no truncation may go: a snapshot stands for it.
    committed: u64,
    /// The last index that was acknowledged, and may have been voided since.
    durable: u64,
    /// Number of the next entry, and of the next step.
    number: u64,
    step: u64,
    /// Step and last index of each append that is not acknowledged yet.
    waiting: VecDeque<(u64, u64, Flushed)>,
}

pub(crate) async fn run(task: &Task) -> io::Result<()> {
    let options = LogOptions {
        dir: task.dir.clone(),
        cluster_id: "zl-power".into(),
        node_id: 1,
        snapshot_bytes: u64::MAX,
    };
    let mut log = BareLog::open(options, &task.machine()).map_err(io::Error::other)?;
    let (term, purged) = (log.vote().await?, log.purged().await?);
    say(&format!("found {term} {purged}"));
    let mut last = purged;
    for BareEntry { index, term, command } in log.entries().await? {
        let Command::Put { value, .. } = command else { panic!("{command:?} was never written") };
        let (number, life) = number_of(KEY, &value);
        say(&format!("found {index} {term} {number} {life}"));
        last = index;
    }
    if !task.opened() {
        log.stop();
        return Ok(());
    }
    let mut life = Life {
        task,
        log,
        coin: task.life + 1,
        term,
        purged,
        last,
        // The newest snapshot is not looked at: what was found may stand in one.
        committed: last,
        durable: last,
        number: task.from,
        step: 0,
        waiting: VecDeque::new(),
    };
    loop {
        life.go_on().await?;
    }
}

impl Life<'_> {
    fn toss(&mut self, below: u64) -> u64 {
        // Knuth's multiplier; the upper bits are the good ones.
        self.coin = self.coin.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.coin >> 33) % below
    }

    fn begin(&mut self, what: &str) -> u64 {
        self.step += 1;
        say(&format!("+ {} {what}", self.step));
        self.step
    }

    async fn go_on(&mut self) -> io::Result<()> {
        match self.toss(200) {
            0..4 => self.vote().await,
            4..8 => self.truncate().await,
            8 => self.snapshot().await,
            _ => self.append().await,
        }
    }

    async fn vote(&mut self) -> io::Result<()> {
        self.term += 1;
        let step = self.begin(&format!("vote {}", self.term));
        self.log.save_vote(self.term).await?;
        say(&format!("= {step}"));
        Ok(())
    }

    async fn truncate(&mut self) -> io::Result<()> {
        let room = self.last - self.committed;
        if room == 0 || self.committed == 0 {
            return Ok(());
        }
        self.last -= self.toss(room.min(20)) + 1;
        let step = self.begin(&format!("truncate {}", self.last));
        self.log.truncate_after(self.last).await?;
        say(&format!("= {step}"));
        Ok(())
    }

    async fn snapshot(&mut self) -> io::Result<()> {
        let upto = self.durable.min(self.last);
        if upto <= self.committed {
            return Ok(());
        }
        self.committed = upto;
        let purge_to = self.log.save_snapshot(upto).await?;
        if purge_to > self.purged {
            self.purged = purge_to;
            // Its record follows what is in flight; it is acknowledged by what comes after it.
            self.begin(&format!("purge {purge_to}"));
            self.log.purge(purge_to).await?;
        }
        Ok(())
    }

    async fn append(&mut self) -> io::Result<()> {
        let (count, term) = (self.toss(3) + 1, self.term);
        let (first, number) = (self.last + 1, self.number);
        let step = self.begin(&format!("append {first} {term} {number} {count}"));
        let entry = |at| {
            let command = command(KEY, number + at, self.task.life);
            BareEntry { index: first + at, term, command }
        };
        let entries = (0..count).map(entry).collect();
        self.last += count;
        self.number += count;
        let flushed = self.log.append(entries).await?;
        self.waiting.push_back((step, self.last, flushed));
        if self.waiting.len() < self.task.in_flight {
            return Ok(());
        }
        if let Some((step, last, flushed)) = self.waiting.pop_front() {
            flushed.await?;
            say(&format!("= {step}"));
            self.durable = last;
        }
        Ok(())
    }
}
