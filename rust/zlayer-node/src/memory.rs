//! Memory for the two buffers that HTTP/2 holds for each connection, so that only what is written to is resident.
//!
//! A quiet connection uses some hundred bytes of its 16 KiB write buffer. In a heap that costs one page at first;
//! after the fleet has reconnected once or twice the buffers lie where others have written, and cost all four. Here
//! each has a slot of its own, which is given back to the system when the connection ends.
//!
//! Lock-free, so that a fork in the middle of it leaves nothing locked.

// An allocator is made of it. Each block says why it may.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// What h2 starts its read buffer with.
const READ_BYTES: usize = 8 * 1024;

/// What h2 starts its write buffer with.
const WRITE_BYTES: usize = 16 * 1024;

/// Slots of each kind; more come from the system's allocator. Derived: well above the most connections by default.
const SLOTS: usize = 32 * 1024;

/// A page, or a divisor of one: what the address of a slot is a multiple of.
const SLOT_ALIGN: usize = 4096;

static READ_SLOTS: Region<READ_BYTES, SLOTS> = Region::new();
static WRITE_SLOTS: Region<WRITE_BYTES, SLOTS> = Region::new();

/// The system's allocator, with slots for the buffers of connections. For `#[global_allocator]` of the program that
/// serves them.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectionAlloc;

// SAFETY: every block comes from a slot or from `System`, and goes back to where its address says that it came from.
// A slot is at least as large and as aligned as what is asked of it, and is nobody else's until it is given back.
unsafe impl GlobalAlloc for ConnectionAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let slot = take(layout);
        // SAFETY: the layout is passed on as it came.
        if slot.is_null() { unsafe { System.alloc(layout) } } else { slot }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let slot = take(layout);
        // SAFETY: as above; a slot is all zeros when it is taken.
        if slot.is_null() { unsafe { System.alloc_zeroed(layout) } } else { slot }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !READ_SLOTS.give(block) && !WRITE_SLOTS.give(block) {
            // SAFETY: it lies in no region, so `System` made it with this layout.
            unsafe { System.dealloc(block, layout) }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !READ_SLOTS.holds(block) && !WRITE_SLOTS.holds(block) {
            // SAFETY: it lies in no region, so `System` made it with this layout.
            return unsafe { System.realloc(block, layout, new_size) };
        }
        // SAFETY: the caller promises that the size fits the alignment; both blocks are as large as is copied, and
        // differ, since the old one is given back last.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(block, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

/// A slot for a buffer of exactly one of the two sizes, or null.
fn take(layout: Layout) -> *mut u8 {
    match layout.size() {
        READ_BYTES if layout.align() <= SLOT_ALIGN => READ_SLOTS.take(),
        WRITE_BYTES if layout.align() <= SLOT_ALIGN => WRITE_SLOTS.take(),
        _ => null_mut(),
    }
}

/// A reserved stretch of addresses, cut into slots. Free slots are all zeros and cost no memory.
struct Region<const BYTES: usize, const COUNT: usize> {
    /// Where it begins; null before the first use, [`Self::NONE`] when the system has no room for it.
    base: AtomicPtr<u8>,
    /// Slots from here on have never been taken.
    fresh: AtomicU32,
    /// Newest of the slots that were given back: its number plus one, below a count that tells an old head from the
    /// same slot again.
    head: AtomicU64,
    /// For each slot that was given back, the one below it, as in `head`.
    below: [AtomicU32; COUNT],
}

impl<const BYTES: usize, const COUNT: usize> Region<BYTES, COUNT> {
    /// No address of a mapping.
    const NONE: *mut u8 = std::ptr::without_provenance_mut(1);

    const fn new() -> Self {
        Self {
            base: AtomicPtr::new(null_mut()),
            fresh: AtomicU32::new(0),
            head: AtomicU64::new(0),
            below: [const { AtomicU32::new(0) }; COUNT],
        }
    }

    fn holds(&self, block: *mut u8) -> bool {
        // Who has a block of it has seen its base. The other values of `base` lie below every block's address, and
        // no block lies within so many bytes of them.
        let base = self.base.load(Ordering::Relaxed);
        base > Self::NONE && block.addr().wrapping_sub(base.addr()) < BYTES * COUNT
    }

    /// A slot, or null when there is none.
    fn take(&self) -> *mut u8 {
        let base = self.base();
        if base == Self::NONE {
            return null_mut();
        }
        match self.pop().or_else(|| self.next_fresh()) {
            // SAFETY: slots are numbered below `COUNT`, and the mapping has so many.
            Some(slot) => unsafe { base.add(slot as usize * BYTES) },
            None => null_mut(),
        }
    }

    /// Takes a block back; false when it is none of this region.
    fn give(&self, block: *mut u8) -> bool {
        if !self.holds(block) {
            return false;
        }
        let base = self.base.load(Ordering::Relaxed);
        // SAFETY: it is the whole of one slot, and whoever held it has let go of it.
        unsafe {
            if madvise(block.cast(), BYTES, Advice::LinuxDontNeed).is_err() {
                block.write_bytes(0, BYTES);
            }
        }
        self.push(((block.addr() - base.addr()) / BYTES) as u32);
        true
    }

    /// Where it begins, reserved at the first call.
    fn base(&self) -> *mut u8 {
        let base = self.base.load(Ordering::Acquire);
        if base.is_null() { self.reserve() } else { base }
    }

    #[cold]
    fn reserve(&self) -> *mut u8 {
        let bytes = BYTES * COUNT;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // Counted when it is written to, not now.
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping, where the system likes, touches nothing that exists.
        let mapped = unsafe { mmap_anonymous(null_mut(), bytes, access, flags) };
        let mine = mapped.map_or(Self::NONE, <*mut _>::cast);
        if mine != Self::NONE {
            // A huge page would make 2 MiB resident for the first byte. Where the system has none this fails.
            // SAFETY: the mapping was made above and is nobody else's yet.
            let _ = unsafe { madvise(mine.cast(), bytes, Advice::LinuxNoHugepage) };
        }
        let set = self.base.compare_exchange(null_mut(), mine, Ordering::AcqRel, Ordering::Acquire);
        let Err(other) = set else { return mine };
        if mine != Self::NONE {
            // SAFETY: another thread was quicker, so nobody has a block of this mapping.
            let _ = unsafe { munmap(mine.cast(), bytes) };
        }
        other
    }

    fn next_fresh(&self) -> Option<u32> {
        let next = |slot: u32| ((slot as usize) < COUNT).then(|| slot + 1);
        self.fresh.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()
    }

    fn pop(&self) -> Option<u32> {
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let slot = (head as u32).checked_sub(1)?;
            // What is read may be outdated once another thread has taken the slot; the count in the head tells.
            let below = self.below[slot as usize].load(Ordering::Relaxed);
            let next = Self::counted(head, below);
            match self.head.compare_exchange_weak(head, next, Ordering::Acquire, Ordering::Acquire)
            {
                Ok(_) => return Some(slot),
                Err(newer) => head = newer,
            }
        }
    }

    fn push(&self, slot: u32) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            self.below[slot as usize].store(head as u32, Ordering::Relaxed);
            let next = Self::counted(head, slot + 1);
            match self.head.compare_exchange_weak(head, next, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(newer) => head = newer,
            }
        }
    }

    /// A head with this slot and the next count.
    fn counted(head: u64, slot: u32) -> u64 {
        (head >> 32).wrapping_add(1) << 32 | u64::from(slot)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    type Small = Region<READ_BYTES, 64>;

    #[test]
    fn slots_are_distinct_aligned_zeroed_and_taken_again() {
        static REGION: Small = Region::new();
        for _ in 0..3 {
            let slots: Vec<*mut u8> = (0..64).map(|_| REGION.take()).collect();
            assert!(REGION.take().is_null(), "one too many");
            let distinct: BTreeSet<usize> = slots.iter().map(|slot| slot.addr()).collect();
            assert_eq!(distinct.len(), 64);
            for slot in slots {
                assert!(REGION.holds(slot) && slot.addr().is_multiple_of(SLOT_ALIGN));
                // SAFETY: the slot is this test's until it is given back.
                let bytes = unsafe { std::slice::from_raw_parts_mut(slot, READ_BYTES) };
                assert!(bytes.iter().all(|byte| *byte == 0), "somebody else's words");
                bytes.fill(7);
                assert!(REGION.give(slot));
            }
        }
        let mut elsewhere = 0_u8;
        assert!(!REGION.give(&raw mut elsewhere));
        assert!(!Small::new().holds(&raw mut elsewhere));
    }

    #[test]
    fn no_slot_has_two_owners_however_many_threads_take_them() {
        static REGION: Small = Region::new();
        std::thread::scope(|scope| {
            for thread in 1..=4_u8 {
                scope.spawn(move || {
                    for round in 0..20_000_u32 {
                        let slot = REGION.take();
                        if slot.is_null() {
                            continue;
                        }
                        let mark = [thread, round as u8];
                        // SAFETY: the slot is this thread's until it is given back.
                        unsafe {
                            slot.cast::<[u8; 2]>().write_volatile(mark);
                            std::hint::spin_loop();
                            assert_eq!(slot.cast::<[u8; 2]>().read_volatile(), mark);
                        }
                        REGION.give(slot);
                    }
                });
            }
        });
        let all: BTreeSet<usize> = (0..64).map(|_| REGION.take().addr()).collect();
        assert_eq!(all.len(), 64, "a slot was lost");
    }

    #[test]
    fn only_the_two_sizes_come_from_slots_and_both_may_grow_and_shrink() {
        let layout = |bytes| Layout::from_size_align(bytes, 1).unwrap_or(Layout::new::<u8>());
        for (bytes, region) in [(READ_BYTES, true), (WRITE_BYTES, true), (4096, false)] {
            // SAFETY: each block is used within its size and given back once, with its layout.
            unsafe {
                let block = ConnectionAlloc.alloc(layout(bytes));
                assert_eq!(READ_SLOTS.holds(block) || WRITE_SLOTS.holds(block), region);
                block.write_bytes(7, bytes);
                let grown = ConnectionAlloc.realloc(block, layout(bytes), 3 * bytes);
                assert!(!READ_SLOTS.holds(grown) && !WRITE_SLOTS.holds(grown));
                assert!(std::slice::from_raw_parts(grown, bytes).iter().all(|byte| *byte == 7));
                let shrunk = ConnectionAlloc.realloc(grown, layout(3 * bytes), 100);
                assert!(std::slice::from_raw_parts(shrunk, 100).iter().all(|byte| *byte == 7));
                ConnectionAlloc.dealloc(shrunk, layout(100));
                let zeroed = ConnectionAlloc.alloc_zeroed(layout(bytes));
                assert!(std::slice::from_raw_parts(zeroed, bytes).iter().all(|byte| *byte == 0));
                ConnectionAlloc.dealloc(zeroed, layout(bytes));
            }
        }
    }
}
