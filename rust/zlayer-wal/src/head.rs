//! The block at the start of every file of the log: what it is, whose it is, where it belongs.
//!
//! ```text
//! 0 magic 8 │ 8 format 4 │ 12 three numbers 8 each │ 36 node id 8 │ 44 length of the cluster id 2, its bytes │
//! zeros │ 4092 crc32c of all before 4
//! ```
//! Numbers are little-endian here and everywhere in these files.

use std::path::Path;

use crate::directory::Owner;
use crate::error::WalError;

/// Length of the block. A page, so that batches begin at one.
pub(crate) const HEAD_LEN: usize = 4096;

/// Format of segments and snapshots.
const FORMAT: u32 = 1;

/// Bytes of a cluster id.
pub(crate) const CLUSTER_ID_MAX: usize = 255;

const CRC_AT: usize = HEAD_LEN - 4;

/// What a file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Kind of file.
    pub(crate) magic: [u8; 8],
    /// Three numbers, by kind.
    pub(crate) numbers: [u64; 3],
}

/// Reads the `N` bytes at `offset`, or zeros where the text ends before.
pub(crate) fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes.get(offset..offset + N).and_then(|part| part.try_into().ok()).unwrap_or([0; N])
}

impl Head {
    pub(crate) fn encode(&self, owner: &Owner) -> Vec<u8> {
        let mut block = Vec::with_capacity(HEAD_LEN);
        block.extend(self.magic);
        block.extend(FORMAT.to_le_bytes());
        for number in self.numbers {
            block.extend(number.to_le_bytes());
        }
        block.extend(owner.node_id.to_le_bytes());
        let cluster = owner.cluster_id.as_bytes();
        block.extend((cluster.len() as u16).to_le_bytes());
        block.extend(cluster);
        block.resize(CRC_AT, 0);
        block.extend(crc32c::crc32c(&block).to_le_bytes());
        block
    }

    /// Reads the head of `file`.
    ///
    /// # Errors
    /// [`WalError::Corrupt`], [`WalError::Unsupported`] or [`WalError::WrongOwner`].
    pub(crate) fn decode(
        file: &Path,
        bytes: &[u8],
        magic: [u8; 8],
        owner: &Owner,
    ) -> Result<Self, WalError> {
        if bytes.len() < HEAD_LEN || field(bytes, 0) != magic {
            return Err(WalError::corrupt(file, 0, "this is not the head of such a file"));
        }
        let found = u32::from_le_bytes(field(bytes, 8));
        if found != FORMAT {
            return Err(WalError::Unsupported { file: file.to_owned(), found, known: FORMAT });
        }
        if crc32c::crc32c(&bytes[..CRC_AT]) != u32::from_le_bytes(field(bytes, CRC_AT)) {
            return Err(WalError::corrupt(file, 0, "the checksum of the head does not match"));
        }
        let length = usize::from(u16::from_le_bytes(field(bytes, 44))).min(CLUSTER_ID_MAX);
        let of = Owner {
            node_id: u64::from_le_bytes(field(bytes, 36)),
            cluster_id: String::from_utf8_lossy(&bytes[46..46 + length]).into_owned(),
        };
        if of != *owner {
            return Err(WalError::WrongOwner {
                file: file.to_owned(),
                expected: owner.to_string(),
                found: of.to_string(),
            });
        }
        let numbers = [12, 20, 28].map(|at| u64::from_le_bytes(field(bytes, at)));
        Ok(Self { magic, numbers })
    }
}
