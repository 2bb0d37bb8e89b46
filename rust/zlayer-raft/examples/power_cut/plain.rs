//! What the file system itself keeps: a file that grows by one write and one fdatasync for each record.

use std::fs::{File, OpenOptions, read};
use std::io;
use std::os::unix::fs::FileExt;

use super::{Task, say};

/// Bytes of a record: its number, eight times.
const RECORD: usize = 64;

fn record(number: u64) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    for part in record.chunks_mut(8) {
        part.copy_from_slice(&number.to_le_bytes());
    }
    record
}

pub(crate) fn run(task: &Task) -> io::Result<()> {
    std::fs::create_dir_all(&task.dir)?;
    let path = task.dir.join("plain");
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).open(&path)?;
    let sync = || if task.unsynced { Ok(()) } else { file.sync_data() };
    if !task.unsynced {
        file.sync_all()?;
        File::open(&task.dir)?.sync_all()?;
        File::open(task.dir.parent().unwrap())?.sync_all()?;
    }
    let bytes = read(&path)?;
    let whole = (1..).zip(bytes.chunks(RECORD)).take_while(|(n, part)| record(*n) == **part);
    let found = whole.count() as u64;
    say(&format!("found {found}"));
    if !task.opened() {
        return Ok(());
    }
    for number in found + 1.. {
        say(&format!("+ {number}"));
        file.write_all_at(&record(number), (number - 1) * RECORD as u64)?;
        sync()?;
        say(&format!("= {number}"));
    }
    Ok(())
}
