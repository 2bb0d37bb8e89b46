//! What is on the simulated disk: contents, names, and what of them is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// What happens at one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power goes before it; every later operation fails, until [`SimFs::after_power_cut`].
    PowerCut,
    /// It fails and nothing is done. A sync loses what it should have saved.
    Io,
    /// As [`Fault::Io`], for want of room.
    Full,
    /// A write takes half and says so. Other operations are not touched.
    Short,
    /// A write takes half and fails. Other operations only fail.
    Torn,
}

/// What a disk writes whole, bytes.
const SECTOR: usize = 512;

#[derive(Debug, Clone)]
pub(super) enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Cut { len: usize },
}

#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<Change>,
}

#[derive(Debug, Clone)]
pub(super) enum NameChange {
    Add { path: PathBuf, inode: u64 },
    Rename { from: PathBuf, to: PathBuf, inode: u64 },
    Remove { path: PathBuf },
}

#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) dirs: BTreeSet<PathBuf>,
    pub(super) names: BTreeMap<PathBuf, u64>,
    pub(super) durable_names: BTreeMap<PathBuf, u64>,
    pub(super) pending_names: Vec<NameChange>,
    pub(super) locks: BTreeMap<PathBuf, String>,
    pub(super) next_inode: u64,
    /// Inode written last.
    pub(super) last_written: Option<u64>,
    pub(super) operations: usize,
    pub(super) fault: Option<(usize, Fault)>,
    pub(super) is_down: bool,
}

impl Change {
    pub(super) fn apply(&self, contents: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                contents.resize(contents.len().max(end), 0);
                contents[*offset..end].copy_from_slice(bytes);
            }
            Self::Cut { len } => contents.truncate(*len),
        }
    }

    /// The sectors of it that `keeps` names, by their place in the write, and of how many.
    pub(super) fn sectors(&self, mut keeps: impl FnMut(usize, usize) -> bool) -> Vec<Self> {
        let Self::Write { offset, bytes } = self else {
            return if keeps(0, 1) { vec![self.clone()] } else { Vec::new() };
        };
        let first = offset / SECTOR;
        let last = (offset + bytes.len().max(1) - 1) / SECTOR;
        let kept = (first..=last).filter(|sector| keeps(sector - first, last - first + 1));
        kept.map(|sector| {
            let start = (sector * SECTOR).max(*offset);
            let end = ((sector + 1) * SECTOR).min(offset + bytes.len());
            Self::Write { offset: start, bytes: bytes[start - offset..end - offset].to_vec() }
        })
        .collect()
    }
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Add { path, inode } => {
                names.insert(path.clone(), *inode);
            }
            Self::Rename { from, to, inode } => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Self::Remove { path } => {
                names.remove(path);
            }
        }
    }
}

impl Inode {
    pub(super) fn contents(&self) -> Vec<u8> {
        let mut contents = self.durable.clone();
        for change in &self.pending {
            change.apply(&mut contents);
        }
        contents
    }
}

impl Disk {
    /// Counts an operation, and fails it if it is to fail. Gives the fault that a write must look at.
    pub(super) fn begin(&mut self) -> io::Result<Option<Fault>> {
        if self.is_down {
            return Err(io::Error::other("the power is off"));
        }
        let at = self.operations;
        self.operations += 1;
        let fault = self.fault.filter(|(when, _)| *when == at).map(|(_, fault)| fault);
        match fault {
            Some(Fault::PowerCut) => {
                self.is_down = true;
                Err(io::Error::other("the power is off"))
            }
            fault => Ok(fault),
        }
    }

    /// As [`Disk::begin`], for what is no write: it fails whole or not at all.
    pub(super) fn begin_whole(&mut self) -> io::Result<()> {
        match self.begin()? {
            None | Some(Fault::Short) => Ok(()),
            Some(fault) => Err(fault.error()),
        }
    }

    pub(super) fn inode(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }
}

impl Fault {
    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Full => io::ErrorKind::StorageFull.into(),
            Self::PowerCut | Self::Io | Self::Short | Self::Torn => {
                io::Error::other("input/output error")
            }
        }
    }
}
