//! The words that renewals write: lock-free, shared by every thread that renews.
//!
//! A word is `generation:24 | key:40`. The key is the deadline in milliseconds after the table's
//! origin, plus 1; key 0 marks a vacant slot, whose generation is the next lease's. Every change is
//! one compare-and-swap of the whole word, so a renewal either comes before the expiry and saves
//! the lease, or finds another generation: there is no third outcome.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{LeaseError, LeaseHandle};
use crate::time::MonoMs;

/// Width of the key in a word.
const KEY_BITS: u32 = 40;
/// Largest key: a deadline 34.8 years after the origin. Later ones are held at it.
pub(super) const KEY_MAX: u64 = (1 << KEY_BITS) - 1;
/// Largest generation.
const GENERATION_MAX: u32 = (1 << (64 - KEY_BITS)) - 1;
/// Slots of the first chunk, as a power of two; each further chunk doubles. Chosen: 32 KiB.
const FIRST_CHUNK_BITS: u32 = 12;
/// Enough doubling chunks for `LEASES_MAX` slots.
const CHUNKS: usize = 19;
/// Handles that `renew_many` looks at before it writes any. Chosen: about what one core can have in
/// flight to memory at once.
const BATCH: usize = 16;

/// The renewable half of a lease table. Chunks are added as the table grows and never move.
pub struct LeaseSlots {
    /// Time of key 1. Set at the first grant, later only raised by shifts.
    origin: AtomicU64,
    capacity: u32,
    chunks: [OnceLock<Box<[AtomicU64]>>; CHUNKS],
}

impl LeaseSlots {
    pub(super) fn new(capacity: u32) -> Self {
        Self { origin: AtomicU64::new(0), capacity, chunks: [const { OnceLock::new() }; CHUNKS] }
    }

    /// Moves a lease's deadline to `now + window_ms` and returns the deadline it now has.
    ///
    /// A deadline never moves backwards: when the lease already holds a later one, that stays and
    /// is returned, since its holder was promised it. A lease that is overdue but not yet expired
    /// is saved. A renewal that races a shift is moved by it as well: later, never earlier.
    /// Deadlines are held at 34.8 years after the table's first grant.
    ///
    /// Lock-free: one load and one compare-and-swap unless others renew the same lease.
    ///
    /// # Errors
    /// [`LeaseError::Stale`] when the lease expired, was revoked, or never was.
    #[inline]
    pub fn renew(
        &self,
        handle: LeaseHandle,
        now: MonoMs,
        window_ms: u64,
    ) -> Result<MonoMs, LeaseError> {
        let stale = LeaseError::Stale(handle);
        let cell = self.cell(handle.slot()).ok_or(stale)?;
        let mut word = cell.load(Ordering::Acquire);
        // Read after the word: whoever sees a granted word sees the origin it was granted with.
        let origin = self.origin.load(Ordering::Acquire);
        let asked = key_at(origin, now.plus(window_ms));
        loop {
            let held = key_of(word);
            if generation_of(word) != handle.generation() || held == 0 {
                return Err(stale);
            }
            if asked <= held {
                return Ok(time_at(origin, held));
            }
            match cell.compare_exchange_weak(
                word,
                word - held + asked,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(time_at(origin, asked)),
                Err(found) => word = found,
            }
        }
    }

    /// Renews every handle of a batch, each one as [`Self::renew`] would; appends those that are
    /// stale to `failed` and returns how many were renewed.
    pub fn renew_many(
        &self,
        handles: &[u64],
        now: MonoMs,
        window_ms: u64,
        failed: &mut Vec<u64>,
    ) -> usize {
        let failed_before = failed.len();
        for batch in handles.chunks(BATCH) {
            // A compare-and-swap waits for its own cache line alone. Looking at the whole batch
            // first lets the misses overlap.
            let seen = batch.iter().fold(0, |seen, handle| seen | self.word(*handle as u32));
            std::hint::black_box(seen);
            for &handle in batch {
                if self.renew(LeaseHandle::from_u64(handle), now, window_ms).is_err() {
                    failed.push(handle);
                }
            }
        }
        handles.len() - (failed.len() - failed_before)
    }

    /// When the lease is due, or `None` if it is stale.
    #[must_use]
    pub fn deadline(&self, handle: LeaseHandle) -> Option<MonoMs> {
        let word = self.cell(handle.slot())?.load(Ordering::Acquire);
        let live = generation_of(word) == handle.generation() && key_of(word) != 0;
        live.then(|| time_at(self.origin.load(Ordering::Acquire), key_of(word)))
    }

    /// Leases that the table can hold.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }
}

/// What only the table, the one owner, may do.
impl LeaseSlots {
    /// Fixes the time of key 1, before the first grant.
    pub(super) fn set_origin(&self, origin: MonoMs) {
        self.origin.store(origin.0, Ordering::Release);
    }

    /// Makes every deadline later by `ms`, and every later renewal's key earlier by as much.
    pub(super) fn shift(&self, ms: u64) {
        let shifted = self.origin.load(Ordering::Acquire).saturating_add(ms);
        self.origin.store(shifted, Ordering::Release);
    }

    /// Key of a deadline at `time`.
    pub(super) fn key_at(&self, time: MonoMs) -> u64 {
        key_at(self.origin.load(Ordering::Acquire), time)
    }

    /// Largest key that is due at `now`; 0 if none can be.
    pub(super) fn key_due(&self, now: MonoMs) -> u64 {
        let origin = self.origin.load(Ordering::Acquire);
        if now.0 < origin { 0 } else { key_at(origin, now) }
    }

    /// The inverse of [`Self::key_at`].
    pub(super) fn time_at(&self, key: u64) -> MonoMs {
        time_at(self.origin.load(Ordering::Acquire), key)
    }

    /// Key of the lease in `slot`, 0 when it is vacant.
    pub(super) fn key(&self, slot: u32) -> u64 {
        key_of(self.word(slot))
    }

    /// Handle of the lease in `slot`, if there is one.
    pub(super) fn handle(&self, slot: u32) -> Option<LeaseHandle> {
        let word = self.word(slot);
        (key_of(word) != 0).then(|| LeaseHandle::new(slot, generation_of(word)))
    }

    /// Puts a lease into a vacant slot, adding a chunk if it is the first one there.
    pub(super) fn occupy(&self, slot: u32, key: u64) -> LeaseHandle {
        let (chunk, offset) = place_of(slot);
        let cells = self.chunks[chunk].get_or_init(|| {
            let first = (1_u32 << FIRST_CHUNK_BITS << chunk) - (1 << FIRST_CHUNK_BITS);
            let len = (1_u32 << FIRST_CHUNK_BITS << chunk).min(self.capacity - first);
            (0..len).map(|_| AtomicU64::new(word_of(1, 0))).collect()
        });
        let generation = generation_of(cells[offset].load(Ordering::Acquire));
        cells[offset].store(word_of(generation, key), Ordering::Release);
        LeaseHandle::new(slot, generation)
    }

    /// Ends the lease in `slot` if its key is still `key`, and returns its handle.
    pub(super) fn vacate_at(&self, slot: u32, key: u64) -> Option<LeaseHandle> {
        let cell = self.cell(slot)?;
        let word = cell.load(Ordering::Acquire);
        if key_of(word) != key {
            return None;
        }
        let generation = generation_of(word);
        cell.compare_exchange(word, vacant_after(generation), Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
            .then(|| LeaseHandle::new(slot, generation))
    }

    /// Ends a lease whatever its deadline; false if it is stale.
    pub(super) fn vacate(&self, handle: LeaseHandle) -> bool {
        while self.handle(handle.slot()) == Some(handle) {
            let key = self.key(handle.slot());
            if self.vacate_at(handle.slot(), key).is_some() {
                return true;
            }
        }
        false
    }

    /// The word of a slot; a vacant one where there is none.
    #[inline]
    fn word(&self, slot: u32) -> u64 {
        self.cell(slot).map_or(0, |cell| cell.load(Ordering::Acquire))
    }

    #[inline]
    fn cell(&self, slot: u32) -> Option<&AtomicU64> {
        let (chunk, offset) = place_of(slot);
        self.chunks.get(chunk)?.get()?.get(offset)
    }
}

/// Chunk and offset of a slot. Chunk `c` starts at slot `(2^c - 1) * 2^FIRST_CHUNK_BITS`.
#[inline]
const fn place_of(slot: u32) -> (usize, usize) {
    let padded = slot as u64 + (1 << FIRST_CHUNK_BITS);
    let top = padded.ilog2();
    ((top - FIRST_CHUNK_BITS) as usize, (padded - (1 << top)) as usize)
}

const fn word_of(generation: u32, key: u64) -> u64 {
    (generation as u64) << KEY_BITS | key
}

const fn vacant_after(generation: u32) -> u64 {
    word_of(if generation == GENERATION_MAX { 1 } else { generation + 1 }, 0)
}

const fn key_of(word: u64) -> u64 {
    word & KEY_MAX
}

const fn generation_of(word: u64) -> u32 {
    (word >> KEY_BITS) as u32
}

#[inline]
fn key_at(origin: u64, time: MonoMs) -> u64 {
    time.0.saturating_sub(origin).saturating_add(1).min(KEY_MAX)
}

#[inline]
const fn time_at(origin: u64, key: u64) -> MonoMs {
    MonoMs(origin.saturating_add(key - 1))
}
