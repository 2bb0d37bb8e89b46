//! How entries and snapshots become bytes: a format byte, then `MessagePack` with named fields, so that a later
//! version can add one.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zlayer_core::command::Entry;
use zlayer_core::state::State;

/// First byte of everything that is written here.
const FORMAT: u8 = 1;

/// One record of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Record {
    /// A command with its stamp.
    Entry(Box<Entry>),
    /// This node leads from here on.
    Elected {
        /// The term that begins.
        term: u64,
    },
}

/// An entry, without owning it.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum RecordRef<'a> {
    Entry(&'a Entry),
}

/// Body of a snapshot.
#[derive(Deserialize)]
pub(crate) struct SnapshotBody {
    /// Term when it was made.
    pub(crate) term: u64,
    /// The control state.
    pub(crate) state: State,
}

#[derive(Serialize)]
struct SnapshotRef<'a> {
    term: u64,
    state: &'a State,
}

/// Why bytes can't be read, or made.
pub(crate) type Why = String;

pub(crate) fn encode_entry(entry: &Entry) -> Result<Vec<u8>, Why> {
    encode(&RecordRef::Entry(entry))
}

pub(crate) fn encode_election(term: u64) -> Result<Vec<u8>, Why> {
    encode(&Record::Elected { term })
}

pub(crate) fn decode_record(bytes: &[u8]) -> Result<Record, Why> {
    decode(bytes)
}

pub(crate) fn encode_snapshot(term: u64, state: &State) -> Result<Vec<u8>, Why> {
    encode(&SnapshotRef { term, state })
}

pub(crate) fn decode_snapshot(bytes: &[u8]) -> Result<SnapshotBody, Why> {
    decode(bytes)
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, Why> {
    let mut bytes = vec![FORMAT];
    rmp_serde::encode::write_named(&mut bytes, value).map_err(|error| error.to_string())?;
    Ok(bytes)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Why> {
    match bytes.split_first() {
        Some((&FORMAT, body)) => rmp_serde::from_slice(body).map_err(|error| error.to_string()),
        Some((other, _)) => Err(format!("format {other}; this version reads format {FORMAT}")),
        None => Err("it is empty".into()),
    }
}
