//! What a snapshot says: the state, and all that applying the log has left beside it.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use zlayer_core::state::State;

use crate::codec::Why;
use crate::replicated::form::{Position, StoredMembers, decode_named};
use crate::replicated::types::{LogId, SnapshotMeta, StoredMembership};

/// First byte. 1 is a snapshot of the single voter.
pub(crate) const FORMAT: u8 = 2;

/// What applying the log up to an entry has made, beside the state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// That entry.
    pub(crate) last: Option<LogId>,
    /// The newest membership up to it.
    pub(crate) members: StoredMembership,
    /// Servers that were members once and are not: their ids are never given again.
    pub(crate) retired: BTreeSet<u64>,
}

impl Applied {
    pub(crate) fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.last, last_membership: self.members.clone() }
    }
}

/// A snapshot that was read.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) applied: Applied,
    pub(crate) state: State,
}

#[derive(Deserialize)]
struct Body {
    last: Option<Position>,
    members: StoredMembers,
    #[serde(default)]
    retired: BTreeSet<u64>,
    state: State,
}

#[derive(Serialize)]
struct BodyRef<'a> {
    last: Option<Position>,
    members: StoredMembers,
    retired: &'a BTreeSet<u64>,
    state: &'a State,
}

pub(crate) fn encode(applied: &Applied, state: &State) -> Result<Bytes, Why> {
    let body = BodyRef {
        last: applied.last.as_ref().map(Position::of),
        members: StoredMembers::of(&applied.members),
        retired: &applied.retired,
        state,
    };
    let mut bytes = vec![FORMAT];
    rmp_serde::encode::write_named(&mut bytes, &body).map_err(|error| error.to_string())?;
    Ok(bytes.into())
}

/// Reads a snapshot of this cluster.
pub(crate) fn decode(bytes: &[u8], cluster_id: &str) -> Result<Image, Why> {
    let (format, body) = bytes.split_first().ok_or("it is empty")?;
    if *format != FORMAT {
        return Err(format!("format {format}; this version reads format {FORMAT}"));
    }
    let Body { last, members, retired, state } = decode_named(body)?;
    if state.cluster_id() != cluster_id {
        return Err(format!("it is of cluster {}", state.cluster_id()));
    }
    let last = last.map(Position::into_log_id);
    if last.is_none_or(|last| last.index < state.applied_index()) {
        return Err("its state is further than it says".into());
    }
    let applied = Applied { last, members: members.into_stored()?, retired };
    Ok(Image { applied, state })
}
