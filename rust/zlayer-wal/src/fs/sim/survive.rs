//! What a power cut leaves.

use super::disk::Inode;

/// What a power cut leaves of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survive {
    /// Nothing.
    Nothing,
    /// Everything.
    Everything,
    /// All but the latter half of the last write.
    FirstHalfOfLast,
    /// All but the first half of the last write.
    LatterHalfOfLast,
    /// Each sector of each write, and each change of a name, as a seeded coin falls.
    Coin(u64),
}

/// Decides what survives.
pub(super) struct Coin(pub(super) u64);

impl Coin {
    /// A step of `SplitMix64` (Steele, Lea, Flood 2014).
    fn flip(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (word ^ (word >> 31)) & 1 == 1
    }

    pub(super) fn keeps_whole(&mut self, survive: Survive) -> bool {
        match survive {
            Survive::Nothing => false,
            Survive::Coin(_) => self.flip(),
            Survive::Everything | Survive::FirstHalfOfLast | Survive::LatterHalfOfLast => true,
        }
    }

    pub(super) fn survivor(&mut self, survive: Survive, inode: &Inode, is_last: bool) -> Vec<u8> {
        let mut contents = inode.durable.clone();
        let count = inode.pending.len();
        for (at, change) in inode.pending.iter().enumerate() {
            let is_last = is_last && at + 1 == count;
            let kept = change.sectors(|sector, of| match survive {
                Survive::FirstHalfOfLast if is_last => sector < of / 2,
                Survive::LatterHalfOfLast if is_last => sector >= of.div_ceil(2),
                _ => self.keeps_whole(survive),
            });
            for change in &kept {
                change.apply(&mut contents);
            }
        }
        contents
    }
}
