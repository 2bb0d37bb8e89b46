//! The file system as the log needs it, and no wider: so that a test can lose, tear and fail every operation.

mod real;
#[cfg(any(test, feature = "sim"))]
pub mod sim;

use std::io;
use std::path::Path;

pub use real::RealFs;

/// Files and directories. Names are durable only after [`Fs::sync_dir`], contents only after
/// [`File::sync_data`].
pub trait Fs: Send + Sync + 'static {
    /// Makes a directory and its parents, private to the user, and their names durable.
    ///
    /// # Errors
    /// What the system said.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Names in a directory, in no order.
    ///
    /// # Errors
    /// What the system said.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes an empty file, private to the user, that must not exist.
    ///
    /// # Errors
    /// What the system said.
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>>;

    /// Opens a file that exists, to write.
    ///
    /// # Errors
    /// What the system said.
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>>;

    /// Reads a whole file, from the disk rather than from memory where the system lets one ask: after a sync
    /// that failed, memory may hold what the disk lacks.
    ///
    /// # Errors
    /// What the system said.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Length of a file in bytes.
    ///
    /// # Errors
    /// What the system said.
    fn len(&self, path: &Path) -> io::Result<u64>;

    /// Renames a file, over another if there is one.
    ///
    /// # Errors
    /// What the system said.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the system said.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// What the system said.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes a lock file, and writes into it who did.
    ///
    /// # Errors
    /// [`LockError::Held`] while another lock of it lives, in any process.
    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn Lock>, LockError>;
}

/// An open file.
pub trait File: Send {
    /// Writes at an offset; may write less than all of it.
    ///
    /// # Errors
    /// What the system said.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes the contents durable, and the length that is needed to read them.
    ///
    /// # Errors
    /// What the system said. What is durable then is unknown, and asking again would tell nothing.
    fn sync_data(&mut self) -> io::Result<()>;

    /// Cuts the file.
    ///
    /// # Errors
    /// What the system said.
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

/// A lock, as long as it lives.
pub trait Lock: Send {}

/// Why a lock was not had.
#[derive(Debug)]
pub enum LockError {
    /// Another has it: what it wrote about itself.
    Held(String),
    /// The file system failed.
    Io(io::Error),
}

/// Writes all of `bytes`, however little each write takes.
pub(crate) fn write_all(file: &mut dyn File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
