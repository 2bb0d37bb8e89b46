//! The log alone, beside the disk's own limit: rounds in which each of them has a turn, begun by another one each time,
//! so that what else the machine does meets all of them alike.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde::Serialize;
use zlayer_wal::{LogDir, Owner, RealFs, Wal, WalLimits};

use crate::rate::{Rate, Seen};

/// Bytes of a record.
pub(crate) const RECORD: usize = 200;

const DEPTHS: [usize; 4] = [1, 8, 64, 512];

/// Turns of each. Odd, so that one of them is the median.
const ROUNDS: usize = 15;

/// Bytes of zeros that the prepared file is filled with, and overwritten from the start in each turn.
const PREPARED: u64 = 64 << 20;

#[derive(Debug, Serialize)]
pub(crate) struct Appends {
    append_rounds: usize,
    /// One write and one fdatasync each; the file grows with each write.
    raw_growing: Rate,
    /// The same; the file was filled with zeros before.
    pub(crate) raw_prepared: Rate,
    /// The next record is appended by the callback of one before.
    wal: Vec<Rate>,
    /// One record at a time from another thread, which waits for it: two switches of threads more.
    wal_awaited: Rate,
    wal_of_raw_growing: Ratio,
    wal_of_raw_prepared: Ratio,
    wal_awaited_of_raw_growing: Ratio,
    wal_awaited_of_raw_prepared: Ratio,
    /// How far batching goes beyond the prepared file: for each of the depths of `wal`.
    wal_depths_of_raw_prepared: Vec<Ratio>,
}

/// Of the rates within one round.
#[derive(Debug, Serialize)]
struct Ratio {
    median: f64,
    min: f64,
    max: f64,
}

impl Ratio {
    fn of(ours: &Turns, raw: &Turns) -> Self {
        let pairs = ours.per_second.iter().zip(&raw.per_second);
        let mut all: Vec<f64> = pairs.map(|(a, b)| (a / b * 100.0).round() / 100.0).collect();
        all.sort_unstable_by(f64::total_cmp);
        Self { median: all[all.len() / 2], min: all[0], max: all[all.len() - 1] }
    }
}

/// What takes turns.
struct Turns {
    in_flight: usize,
    subject: Subject,
    per_second: Vec<f64>,
    seen: Seen,
}

enum Subject {
    Raw { file: File, offset: u64, is_prepared: bool },
    Wal(Arc<Wal>),
    Awaited(Arc<Wal>),
}

impl Turns {
    fn new(in_flight: usize, subject: Subject) -> Self {
        Self { in_flight, subject, per_second: Vec::new(), seen: Seen::default() }
    }

    fn take(&mut self, time: Duration) {
        let seen = match &mut self.subject {
            Subject::Raw { file, offset, is_prepared } => {
                if *is_prepared {
                    *offset = 0;
                }
                Seen::of(|| raw(file, offset, time))
            }
            Subject::Wal(wal) => Seen::of(|| appends(wal, self.in_flight, time)),
            Subject::Awaited(wal) => Seen::of(|| awaited(wal, time)),
        };
        if let Subject::Wal(wal) | Subject::Awaited(wal) = &self.subject {
            // Done with before the next one's turn.
            let last = append_and_wait(wal);
            wal.purge(last - 1);
            append_and_wait(wal);
        }
        self.per_second.push(seen.per_second());
        self.seen.add(seen);
    }

    fn rate(self) -> Rate {
        self.seen.rate(self.in_flight)
    }
}

fn raw_file(dir: &Path, is_prepared: bool) -> Subject {
    let path = dir.join(if is_prepared { "raw-prepared" } else { "raw-growing" });
    let file = OpenOptions::new().write(true).create_new(true).open(path).unwrap();
    if is_prepared {
        let zeros = vec![0; 1 << 20];
        for at in (0..PREPARED).step_by(zeros.len()) {
            file.write_all_at(&zeros, at).unwrap();
        }
    }
    file.sync_all().unwrap();
    Subject::Raw { file, offset: 0, is_prepared }
}

fn raw(file: &File, offset: &mut u64, time: Duration) -> Vec<u64> {
    let began = Instant::now();
    let mut us = Vec::new();
    while began.elapsed() < time {
        let one = Instant::now();
        file.write_all_at(&[7; RECORD], *offset).unwrap();
        file.sync_data().unwrap();
        us.push(one.elapsed().as_micros() as u64);
        *offset += RECORD as u64;
    }
    us
}

fn open(dir: &Path, name: &str) -> Arc<Wal> {
    let owner = Owner { cluster_id: "zl-bench".into(), node_id: 1 };
    let log = LogDir::open(Arc::new(RealFs), dir.join(name), owner).unwrap();
    Arc::new(log.recover_whole(WalLimits::default(), &mut |_, _| Ok(())).unwrap())
}

/// Keeps a record in flight: the next one is appended where one is reported as durable.
fn append(wal: &Arc<Wal>, stop: &Arc<AtomicBool>, us: &Arc<Mutex<Vec<u64>>>) {
    let (again, stopping, times) = (Arc::clone(wal), Arc::clone(stop), Arc::clone(us));
    let began = Instant::now();
    let done = move |result: Result<u64, _>| {
        result.unwrap();
        times.lock().unwrap().push(began.elapsed().as_micros() as u64);
        if !stopping.load(Ordering::Relaxed) {
            append(&again, &stopping, &times);
        }
    };
    wal.append(vec![7; RECORD], done).unwrap();
}

fn appends(wal: &Arc<Wal>, in_flight: usize, time: Duration) -> Vec<u64> {
    let (stop, us) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<u64>>>::default());
    for _ in 0..in_flight {
        append(wal, &stop, &us);
    }
    std::thread::sleep(time);
    stop.store(true, Ordering::Relaxed);
    // Behind all that is in flight.
    append_and_wait(wal);
    std::mem::take(&mut *us.lock().unwrap())
}

fn awaited(wal: &Wal, time: Duration) -> Vec<u64> {
    let began = Instant::now();
    let mut us = Vec::new();
    while began.elapsed() < time {
        let one = Instant::now();
        append_and_wait(wal);
        us.push(one.elapsed().as_micros() as u64);
    }
    us
}

/// Gives the record's index.
fn append_and_wait(wal: &Wal) -> u64 {
    let (sender, written) = mpsc::sync_channel(1);
    wal.append(vec![7; RECORD], move |result| sender.send(result.unwrap()).unwrap()).unwrap();
    written.recv().unwrap()
}

/// Measures each for `time` in all.
pub(crate) fn measure(dir: &Path, time: Duration) -> Appends {
    let mut all = vec![
        Turns::new(1, raw_file(dir, false)),
        Turns::new(1, raw_file(dir, true)),
        Turns::new(1, Subject::Awaited(open(dir, "wal-awaited"))),
    ];
    all.extend(
        DEPTHS.map(|depth| Turns::new(depth, Subject::Wal(open(dir, &format!("wal-{depth}"))))),
    );
    let count = all.len();
    for round in 0..ROUNDS {
        for turn in 0..count {
            all[(round + turn) % count].take(time / ROUNDS as u32);
        }
    }
    let [growing, prepared, awaited, wal @ ..] = &all[..] else { unreachable!() };
    let (of_growing, of_prepared) = (Ratio::of(&wal[0], growing), Ratio::of(&wal[0], prepared));
    let awaited_of = [Ratio::of(awaited, growing), Ratio::of(awaited, prepared)];
    let depths = wal.iter().map(|turns| Ratio::of(turns, prepared)).collect();
    let mut rates = all.into_iter().map(Turns::rate);
    let mut next = || rates.next().unwrap();
    let [raw_growing, raw_prepared, wal_awaited] = [next(), next(), next()];
    let [wal_awaited_of_raw_growing, wal_awaited_of_raw_prepared] = awaited_of;
    Appends {
        append_rounds: ROUNDS,
        raw_growing,
        raw_prepared,
        wal: rates.collect(),
        wal_awaited,
        wal_of_raw_growing: of_growing,
        wal_of_raw_prepared: of_prepared,
        wal_awaited_of_raw_growing,
        wal_awaited_of_raw_prepared,
        wal_depths_of_raw_prepared: depths,
    }
}
