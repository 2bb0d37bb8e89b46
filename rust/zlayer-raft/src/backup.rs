//! Backups: the control state in one file, for another place and another day.
//!
//! ```text
//! "ZLBACK\r" 0x01 | u32 length | header, JSON | body, as a snapshot's | crc32c of all before it
//! ```
//!
//! It holds no key and no token's line. What is restored begins another cluster, which trusts nobody of the old one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zlayer_core::record::LAST_SERVER_ID;
use zlayer_core::state::State;
use zlayer_core::time::UnixMs;
use zlayer_wal::{LogDir, Owner, WalError};

use crate::codec::{decode_snapshot, encode_snapshot};
use crate::error::OpenError;
use crate::options::{LogOptions, Machine};
use crate::single_voter::SingleVoter;

/// The last byte is the version of the form.
const MAGIC: [u8; 8] = *b"ZLBACK\r\x01";

/// Bytes of a header. Ours has some 200.
const HEADER_BYTES_MAX: u32 = 64 << 10;

const CRC_LEN: usize = 4;

/// The file that is restored from is read whole; what it becomes is of one term.
const TERM: u64 = 1;

/// What a backup says of itself. Fields are only ever added, with a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupHeader {
    /// Whose state it is.
    pub cluster_id: String,
    /// Entry that was applied last.
    pub applied_index: u64,
    /// Newest stamp of an entry.
    pub stamp_ms: UnixMs,
    /// [`State::hash`], 16 hex digits.
    pub hash: String,
    /// How many nodes.
    pub nodes: u64,
    /// When it was saved, by the server's wall clock.
    pub created_ms: UnixMs,
}

/// Why a backup could not be saved, read or restored. Each names the file.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The system says no.
    #[error("{path}: can't {what}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file is no backup, or not whole.
    #[error("{path}: {why}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The directory is in use.
    #[error("{path}: is not empty; a restore overwrites nothing")]
    NotEmpty {
        /// Which.
        path: PathBuf,
    },
    /// The new log could not be made.
    #[error(transparent)]
    Log(#[from] WalError),
    /// The new log could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl BackupError {
    fn io(what: &'static str, path: &Path, error: io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), error }
    }

    fn unreadable(path: &Path, why: impl Into<String>) -> Self {
        Self::Unreadable { path: path.to_owned(), why: why.into() }
    }
}

/// Saves a state in a new file, mode 0600, durably: it is there whole or not at all.
///
/// # Errors
/// [`BackupError::Io`], also where the file is there already.
pub fn save(path: &Path, state: &State, now: UnixMs) -> Result<BackupHeader, BackupError> {
    let header = BackupHeader {
        cluster_id: state.cluster_id().to_owned(),
        applied_index: state.applied_index(),
        stamp_ms: state.stamp(),
        hash: format!("{:016x}", state.hash()),
        nodes: state.node_count() as u64,
        created_ms: now,
    };
    let unreadable = |why: String| BackupError::unreadable(path, why);
    let head = serde_json::to_vec(&header).map_err(|error| unreadable(error.to_string()))?;
    let body = encode_snapshot(TERM, state).map_err(unreadable)?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend((head.len() as u32).to_le_bytes());
    bytes.extend(head);
    bytes.extend(body);
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    let part = beside(path);
    let written = write_new(&part, &bytes).and_then(|()| {
        // Unlike a rename this replaces nothing.
        fs::hard_link(&part, path).map_err(|error| BackupError::io("make", path, error))
    });
    // Of no use any more, or half written.
    let _ = fs::remove_file(&part);
    written?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| BackupError::io("sync the folder of", path, error))?;
    Ok(header)
}

/// A name of nobody's, in the same folder.
fn beside(path: &Path) -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    name.push(format!(".{}-{number}.part", std::process::id()));
    path.with_file_name(name)
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), BackupError> {
    let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = open.map_err(|error| BackupError::io("make", path, error))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|error| BackupError::io("write", path, error))
}

/// Reads a backup whole.
///
/// # Errors
/// [`BackupError::Io`] and [`BackupError::Unreadable`]: any byte that was changed is noticed.
pub fn read(path: &Path) -> Result<(BackupHeader, State), BackupError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(|error| BackupError::io("read", path, error))?;
    decode(&bytes).map_err(|why| BackupError::unreadable(path, why))
}

fn decode(bytes: &[u8]) -> Result<(BackupHeader, State), String> {
    let cut_short = || "it is cut short".to_owned();
    let is_other = "it is no backup of a control state, or one of a newer version";
    let rest = bytes.strip_prefix(&MAGIC).ok_or(is_other)?;
    let (content, crc) = bytes.split_at(bytes.len().saturating_sub(CRC_LEN));
    let crc = u32::from_le_bytes(crc.try_into().map_err(|_| cut_short())?);
    if crc32c::crc32c(content) != crc {
        return Err("it is damaged or cut short: its checksum does not match".into());
    }
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(cut_short)?;
    let length = u32::from_le_bytes(*length);
    if length > HEADER_BYTES_MAX {
        return Err("its header is too long".into());
    }
    let (head, rest) = rest.split_at_checked(length as usize).ok_or_else(cut_short)?;
    let body = rest.strip_suffix(&crc.to_le_bytes()).ok_or_else(cut_short)?;
    let header: BackupHeader = serde_json::from_slice(head).map_err(|error| error.to_string())?;
    let state = decode_snapshot(body)?.state;
    if format!("{:016x}", state.hash()) != header.hash {
        return Err("its state is not the one that its header names".into());
    }
    Ok((header, state))
}

/// Makes the control directory of a new cluster's first server out of a backup.
///
/// # Errors
/// [`BackupError`]; nothing is left of what was made then. Also where the backup is of that very cluster, whose
/// certificates must be of no use in the new one.
pub fn restore(
    path: &Path,
    dir: &Path,
    cluster_id: &str,
    node_id: u64,
) -> Result<BackupHeader, BackupError> {
    let (header, state) = read(path)?;
    if header.cluster_id == cluster_id {
        let why = format!("is of cluster {cluster_id} itself; the new one needs another id");
        return Err(BackupError::unreadable(path, why));
    }
    if !(1..=LAST_SERVER_ID).contains(&node_id) {
        let why = format!("a server's id is 1 to {LAST_SERVER_ID}, got {node_id}");
        return Err(BackupError::unreadable(path, why));
    }
    let state = state.restored(cluster_id.to_owned());
    let part = beside(dir);
    let made = make(&part, &state, cluster_id, node_id).and_then(|()| {
        // Moves where there is nothing, or an empty directory, and nowhere else.
        fs::rename(&part, dir).map_err(|error| match error.kind() {
            ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
                BackupError::NotEmpty { path: dir.to_owned() }
            }
            _ => BackupError::io("make", dir, error),
        })
    });
    if made.is_err() {
        // Made above, under a name of nobody's.
        let _ = fs::remove_dir_all(&part);
    }
    made.map(|()| header)
}

fn make(dir: &Path, state: &State, cluster_id: &str, node_id: u64) -> Result<(), BackupError> {
    let owner = Owner { cluster_id: cluster_id.to_owned(), node_id };
    let body = encode_snapshot(TERM, state).map_err(|why| BackupError::unreadable(dir, why))?;
    let ground = Machine::default();
    let log = LogDir::open(ground.fs, dir.to_owned(), owner)?;
    log.begin_behind(state.applied_index())?;
    log.snapshots().save(state.applied_index(), &body)?;
    drop(log);
    let options = LogOptions {
        dir: dir.to_owned(),
        cluster_id: cluster_id.to_owned(),
        node_id,
        snapshot_bytes: u64::MAX,
    };
    // Opened once, so that what is left is a log like any other.
    drop(SingleVoter::open(options)?);
    Ok(())
}
