//! A disk in memory that keeps exactly what was synced, and fails where it is told to.
//!
//! Contents are what is durable plus the changes since the last sync, names likewise. A power cut keeps the
//! durable part and, of the rest, what [`Survive`] says; a killed process loses nothing but its locks. A sync that
//! fails drops the changes, as Linux marks the pages clean: a second sync succeeds and makes nothing durable.

mod disk;
mod survive;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{File, Fs, Lock, LockError};
pub use disk::Fault;
use disk::{Change, Disk, Inode, NameChange};
use survive::Coin;
pub use survive::Survive;

/// A simulated disk. Clones share it; [`SimFs::copy`] does not.
#[derive(Debug, Clone, Default)]
pub struct SimFs {
    disk: Arc<Mutex<Disk>>,
}

struct SimFile {
    fs: SimFs,
    inode: u64,
}

struct SimLock {
    fs: SimFs,
    path: PathBuf,
}

impl SimFs {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(disk: Disk) -> Self {
        Self { disk: Arc::new(Mutex::new(disk)) }
    }

    /// A disk of its own with the same on it, also what is not synced.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self::of(self.disk().clone())
    }

    /// Lets the operation with this number fail. Numbers count from 0 over the disk's life.
    pub fn set_fault(&self, operation: usize, fault: Fault) {
        self.disk().fault = Some((operation, fault));
    }

    /// Operations so far.
    pub fn operations(&self) -> usize {
        self.disk().operations
    }

    /// The disk as the next process finds it when this one was killed.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let mut disk = self.disk().clone();
        disk.locks.clear();
        disk.fault = None;
        disk.is_down = false;
        Self::of(disk)
    }

    /// The disk as it is found after a power cut.
    #[must_use]
    pub fn after_power_cut(&self, survive: Survive) -> Self {
        let old = self.disk();
        let mut coin = Coin(match survive {
            Survive::Coin(seed) => seed,
            _ => 0,
        });
        let mut disk = Disk {
            durable_names: old.durable_names.clone(),
            dirs: old.dirs.clone(),
            next_inode: old.next_inode,
            ..Disk::default()
        };
        for change in &old.pending_names {
            if coin.keeps_whole(survive) {
                change.apply(&mut disk.durable_names);
            }
        }
        for (number, inode) in &old.inodes {
            let is_last = old.last_written == Some(*number);
            let durable = coin.survivor(survive, inode, is_last);
            disk.inodes.insert(*number, Inode { durable, pending: Vec::new() });
        }
        disk.names = disk.durable_names.clone();
        Self::of(disk)
    }

    /// Turns bits of a file over, durably: damage that no crash makes.
    ///
    /// # Panics
    /// Where there is no such file, or no such byte in it.
    pub fn damage(&self, path: &Path, offset: usize) {
        let mut disk = self.disk();
        let inode = disk.names.get(path).copied();
        let inode = inode.and_then(|number| disk.inodes.get_mut(&number));
        let Some(inode) = inode else { panic!("there is no {}", path.display()) };
        inode.durable[offset] ^= 0x5a;
    }
}

impl Fs for SimFs {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.begin_whole()?;
        disk.dirs.insert(dir.to_owned());
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut disk = self.disk();
        disk.begin_whole()?;
        let within = disk.names.keys().filter(|path| path.parent() == Some(dir));
        let names = within.filter_map(|path| path.file_name()?.to_str());
        Ok(names.map(ToOwned::to_owned).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut disk = self.disk();
        disk.begin_whole()?;
        if disk.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = disk.next_inode;
        disk.next_inode += 1;
        disk.inodes.insert(inode, Inode::default());
        disk.change_name(NameChange::Add { path: path.to_owned(), inode });
        Ok(Box::new(SimFile { fs: self.clone(), inode }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut disk = self.disk();
        disk.begin_whole()?;
        let inode = disk.inode(path)?;
        Ok(Box::new(SimFile { fs: self.clone(), inode }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut disk = self.disk();
        disk.begin_whole()?;
        let inode = disk.inode(path)?;
        Ok(disk.inodes.get(&inode).map(Inode::contents).unwrap_or_default())
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(self.read(path)?.len() as u64)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.begin_whole()?;
        let inode = disk.inode(from)?;
        disk.change_name(NameChange::Rename { from: from.to_owned(), to: to.to_owned(), inode });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.begin_whole()?;
        disk.inode(path)?;
        disk.change_name(NameChange::Remove { path: path.to_owned() });
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let disk = &mut *disk;
        let done = disk.begin_whole();
        if disk.is_down {
            return done;
        }
        // A sync that fails loses what it should have saved, here as with contents.
        for change in std::mem::take(&mut disk.pending_names) {
            if done.is_ok() {
                change.apply(&mut disk.durable_names);
            }
        }
        done
    }

    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn Lock>, LockError> {
        let mut disk = self.disk();
        disk.begin_whole().map_err(LockError::Io)?;
        if let Some(holder) = disk.locks.get(path) {
            return Err(LockError::Held(holder.clone()));
        }
        disk.locks.insert(path.to_owned(), holder.to_owned());
        Ok(Box::new(SimLock { fs: self.clone(), path: path.to_owned() }))
    }
}

impl File for SimFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.fs.disk();
        let fault = disk.begin()?;
        let taken = match fault {
            Some(Fault::Io | Fault::Full | Fault::PowerCut) => 0,
            Some(Fault::Short | Fault::Torn) => bytes.len().div_ceil(2),
            None => bytes.len(),
        };
        let change = Change::Write { offset: offset as usize, bytes: bytes[..taken].to_vec() };
        disk.last_written = Some(self.inode);
        if let Some(inode) = disk.inodes.get_mut(&self.inode) {
            inode.pending.push(change);
        }
        match fault {
            None | Some(Fault::Short) => Ok(taken),
            Some(fault) => Err(fault.error()),
        }
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let mut disk = self.fs.disk();
        let done = disk.begin_whole();
        let is_down = disk.is_down;
        if let Some(inode) = disk.inodes.get_mut(&self.inode).filter(|_| !is_down) {
            let contents = inode.contents();
            inode.pending.clear();
            if done.is_ok() {
                inode.durable = contents;
            }
        }
        done
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        let mut disk = self.fs.disk();
        disk.begin_whole()?;
        if let Some(inode) = disk.inodes.get_mut(&self.inode) {
            inode.pending.push(Change::Cut { len: len as usize });
        }
        Ok(())
    }
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.fs.disk().locks.remove(&self.path);
    }
}
