//! Where each live slot is looked at next: a hierarchical timing wheel with intrusive lists.
//!
//! Four levels of 256 buckets count 256 ms ticks and so cover every key of 40 bits. A slot at level
//! `l` has the same tick digits (base 256) as the wheel's position above `l`, and a later one at
//! `l`; so all of level 0 comes before all of level 1, and so on. What the position has reached
//! sits in `due`, an ordered set, which is what makes the order exact inside a tick.
//!
//! Tick chosen: 256 ms makes 4 levels span a 40-bit key, and puts leases of the usual windows (20 s
//! to 10 min) into the two lowest levels. It bounds nothing else: expiry is exact to 1 ms.

use std::collections::BTreeSet;

const LEVELS: usize = 4;
const BUCKETS: usize = 256;
const DIGIT_BITS: u32 = 8;
/// log2 of the tick in milliseconds.
const TICK_BITS: u32 = 8;
/// End of a list.
const NIL: u32 = u32::MAX;
/// `prev` of the first slot in a bucket, with the bucket's number.
const FIRST: u32 = 1 << 30;
/// `prev` of a slot in `due`, with the upper bits of its key; `next` has the lower 32.
const DUE: u32 = 1 << 31;
/// `prev` of a slot that is nowhere.
const IDLE: u32 = u32::MAX;

/// What one slot remembers of its place. Eight bytes, so that a million leases cost 8 MB.
#[derive(Clone, Copy)]
struct Link {
    next: u32,
    prev: u32,
}

/// Slots by the time at which they must be looked at. Knows no words and no generations.
pub(super) struct Wheel {
    /// Tick that has been reached: every slot armed at or before it is in `due`.
    at: u32,
    heads: Box<[u32]>,
    /// One bit a bucket: not empty.
    occupied: [[u64; BUCKETS / 64]; LEVELS],
    links: Vec<Link>,
    due: BTreeSet<(u64, u32)>,
    len: usize,
}

impl Wheel {
    /// A wheel that has reached `key`.
    pub(super) fn new(key: u64) -> Self {
        Self {
            at: tick_of(key),
            heads: vec![NIL; LEVELS * BUCKETS].into(),
            occupied: [[0; BUCKETS / 64]; LEVELS],
            links: Vec::new(),
            due: BTreeSet::new(),
            len: 0,
        }
    }

    /// Slots that are armed.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Arms an idle slot: it will be in `due`, as `(key, slot)`, once the wheel is advanced to `key`.
    pub(super) fn arm(&mut self, slot: u32, key: u64) {
        let index = slot as usize;
        if index >= self.links.len() {
            self.links.resize(index + 1, Link { next: NIL, prev: IDLE });
        }
        self.len += 1;
        self.place(slot, key);
    }

    /// Takes a slot out, wherever it is. Nothing happens to an idle one.
    pub(super) fn disarm(&mut self, slot: u32) {
        let Some(&Link { next, prev }) = self.links.get(slot as usize) else { return };
        if prev == IDLE {
            return;
        }
        self.len -= 1;
        self.links[slot as usize] = Link { next: NIL, prev: IDLE };
        if prev & DUE != 0 {
            self.due.remove(&(u64::from(prev & !DUE) << 32 | u64::from(next), slot));
            return;
        }
        if prev & FIRST != 0 {
            let bucket = (prev & !FIRST) as usize;
            self.heads[bucket] = next;
            if next == NIL {
                self.occupied[bucket / BUCKETS][bucket % BUCKETS / 64] &= !(1 << (bucket % 64));
            }
        } else {
            self.links[prev as usize].next = next;
        }
        if next != NIL {
            self.links[next as usize].prev = prev;
        }
    }

    /// Moves an armed slot to another key.
    pub(super) fn rearm(&mut self, slot: u32, key: u64) {
        self.disarm(slot);
        self.arm(slot, key);
    }

    /// Advances to `key`: afterwards every slot whose key is at or below it is in `due`, as long as
    /// nobody renewed it meanwhile. `key_of` gives a slot's present key; a slot found renewed goes
    /// to its new place. Returns how many of those there were. Never goes back.
    pub(super) fn advance(&mut self, key: u64, key_of: impl Fn(u32) -> u64) -> u64 {
        let to = tick_of(key);
        let mut rearmed = 0;
        while let Some((level, bucket, start)) = self.first_bucket_from(0, 0) {
            if start > to {
                break;
            }
            self.at = start;
            let shift = level as u32 * DIGIT_BITS;
            let mut slot = std::mem::replace(&mut self.heads[level * BUCKETS + bucket], NIL);
            self.occupied[level][bucket / 64] &= !(1 << (bucket % 64));
            while slot != NIL {
                let next = self.links[slot as usize].next;
                let key = key_of(slot);
                rearmed += u64::from(tick_of(key) >> shift != start >> shift);
                self.place(slot, key);
                slot = next;
            }
        }
        self.at = self.at.max(to);
        rearmed
    }

    /// First of the slots that the wheel has reached, as it was armed.
    pub(super) fn first_due(&self) -> Option<(u64, u32)> {
        self.due.first().copied()
    }

    /// Slots that the wheel has reached and whose armed key is at or below `key`, in order.
    pub(super) fn due_until(&self, key: u64) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.due.range(..=(key, u32::MAX)).copied()
    }

    /// A key that no slot's present key is below, `due` aside; `None` when all else is empty.
    ///
    /// Exact as long as it is found by looking at no more than `looks_max` slots; otherwise the
    /// start of the first bucket that has slots, and that is at most one bucket's width early.
    pub(super) fn lower_bound(&self, looks_max: usize, key_of: impl Fn(u32) -> u64) -> Option<u64> {
        let mut best: Option<u64> = None;
        let mut looks = 0;
        let (mut level, mut bucket) = (0, 0);
        while let Some((at_level, at_bucket, start)) = self.first_bucket_from(level, bucket) {
            let start_key = u64::from(start) << TICK_BITS;
            if best.is_some_and(|best| best <= start_key) {
                break;
            }
            let mut slot = self.heads[at_level * BUCKETS + at_bucket];
            while slot != NIL {
                if looks == looks_max {
                    return Some(best.map_or(start_key, |best| best.min(start_key)));
                }
                looks += 1;
                let key = key_of(slot);
                best = Some(best.map_or(key, |best| best.min(key)));
                slot = self.links[slot as usize].next;
            }
            (level, bucket) = (at_level, at_bucket + 1);
        }
        best
    }

    /// Panics unless every list, bit and link agrees, and no slot is armed later than `key_of`.
    pub(super) fn check_invariants(&self, key_of: impl Fn(u32) -> u64) {
        let mut seen = 0;
        for level in 0..LEVELS {
            for bucket in 0..BUCKETS {
                seen += self.check_bucket(level, bucket, &key_of);
            }
        }
        for &(key, slot) in &self.due {
            let Link { next, prev } = self.links[slot as usize];
            assert_eq!(prev & !DUE, (key >> 32) as u32, "slot {slot}: upper bits of its due key");
            assert_eq!(next, key as u32, "slot {slot}: lower bits of its due key");
            assert!(prev & DUE != 0 && prev != IDLE, "slot {slot} is due without its mark");
            assert!(tick_of(key) <= self.at, "slot {slot} is due before the wheel got there");
            assert!(key <= key_of(slot), "slot {slot} would be looked at too late");
        }
        assert_eq!(seen + self.due.len(), self.len, "slots in the wheel");
        let armed = self.links.iter().filter(|link| link.prev != IDLE).count();
        assert_eq!(armed, self.len, "slots that think they are armed");
    }

    fn check_bucket(&self, level: usize, bucket: usize, key_of: &impl Fn(u32) -> u64) -> usize {
        let head = self.heads[level * BUCKETS + bucket];
        let marked = self.occupied[level][bucket / 64] >> (bucket % 64) & 1 == 1;
        assert_eq!(marked, head != NIL, "bit of bucket {level}/{bucket}");
        let start = self.start_of(level, bucket);
        let (mut seen, mut slot) = (0, head);
        let mut expected_prev = FIRST | (level * BUCKETS + bucket) as u32;
        while slot != NIL {
            assert!(start > self.at, "bucket {level}/{bucket} was passed over");
            assert!(start <= tick_of(key_of(slot)), "slot {slot} would be looked at too late");
            assert_eq!(self.links[slot as usize].prev, expected_prev, "slot {slot}: backward link");
            expected_prev = slot;
            slot = self.links[slot as usize].next;
            seen += 1;
        }
        seen
    }

    /// Puts a slot that is in no list where its key belongs.
    fn place(&mut self, slot: u32, key: u64) {
        let tick = tick_of(key);
        if tick <= self.at {
            self.links[slot as usize] = Link { next: key as u32, prev: DUE | (key >> 32) as u32 };
            self.due.insert((key, slot));
            return;
        }
        let level = ((tick ^ self.at).ilog2() / DIGIT_BITS) as usize;
        let bucket = (tick >> (level as u32 * DIGIT_BITS)) as usize % BUCKETS;
        let head = &mut self.heads[level * BUCKETS + bucket];
        let next = std::mem::replace(head, slot);
        if next == NIL {
            self.occupied[level][bucket / 64] |= 1 << (bucket % 64);
        } else {
            self.links[next as usize].prev = slot;
        }
        let prev = FIRST | (level * BUCKETS + bucket) as u32;
        self.links[slot as usize] = Link { next, prev };
    }

    /// First bucket with slots in it, in order of time, not before the given one; with its level,
    /// its number and its first tick.
    fn first_bucket_from(&self, level: usize, bucket: usize) -> Option<(usize, usize, u32)> {
        let mut from = bucket;
        for level in level..LEVELS {
            for word in from / 64..BUCKETS / 64 {
                let mask = if word == from / 64 { u64::MAX << (from % 64) } else { u64::MAX };
                let bits = self.occupied[level][word] & mask;
                if bits != 0 {
                    let bucket = word * 64 + bits.trailing_zeros() as usize;
                    return Some((level, bucket, self.start_of(level, bucket)));
                }
            }
            from = 0;
        }
        None
    }

    /// First tick of a bucket.
    fn start_of(&self, level: usize, bucket: usize) -> u32 {
        let shift = level as u32 * DIGIT_BITS;
        let above = u32::MAX.checked_shl(shift + DIGIT_BITS).unwrap_or(0);
        self.at & above | (bucket as u32) << shift
    }
}

const fn tick_of(key: u64) -> u32 {
    (key >> TICK_BITS) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wheel at key 0 with slot `i` armed at `keys[i]`.
    fn armed(keys: &[u64]) -> Wheel {
        let mut wheel = Wheel::new(0);
        for (slot, &key) in keys.iter().enumerate() {
            wheel.arm(slot as u32, key);
        }
        wheel
    }

    fn at(keys: &[u64]) -> impl Fn(u32) -> u64 + '_ {
        |slot| keys[slot as usize]
    }

    /// Keys at both sides of every level's edges.
    fn edges() -> Vec<u64> {
        let powers = (0..40).map(|power| 1_u64 << power);
        let around = powers.flat_map(|power| [power - 1, power, power + 1]);
        around.chain([(1 << 40) - 1]).filter(|&key| key > 0 && key < 1 << 40).collect()
    }

    #[test]
    fn everything_is_due_in_order_at_its_own_key() {
        let keys = edges();
        let mut wheel = armed(&keys);
        wheel.check_invariants(at(&keys));
        let mut order: Vec<(u64, u32)> = (0..).zip(&keys).map(|(slot, &key)| (key, slot)).collect();
        order.sort_unstable();
        for (key, slot) in order {
            let reached = wheel.first_due().map(|due| due.0);
            assert_eq!(reached.or_else(|| wheel.lower_bound(1_000, at(&keys))), Some(key));
            wheel.advance(key, at(&keys));
            assert_eq!(wheel.first_due(), Some((key, slot)));
            assert_eq!(wheel.due_until(key).next(), Some((key, slot)));
            wheel.disarm(slot);
            wheel.check_invariants(at(&keys));
        }
        assert_eq!(wheel.len(), 0);
    }

    #[test]
    fn one_long_advance_reaches_all() {
        let keys = edges();
        let mut wheel = armed(&keys);
        assert_eq!(wheel.advance((1 << 40) - 1, at(&keys)), 0);
        wheel.check_invariants(at(&keys));
        assert!(wheel.due_until(u64::MAX).is_sorted());
        assert_eq!(wheel.due_until(u64::MAX).count(), keys.len());
    }

    #[test]
    fn the_lower_bound_is_exact_while_it_may_look_at_all() {
        let keys = edges();
        let mut wheel = armed(&keys);
        for from in 0..40 {
            wheel.advance(1 << from, at(&keys));
            let ahead = keys.iter().copied().filter(|&key| tick_of(key) > wheel.at).min();
            assert_eq!(wheel.lower_bound(1_000, at(&keys)), ahead);
            if let Some(bound) = wheel.lower_bound(0, at(&keys)) {
                assert!(ahead.is_some_and(|ahead| bound <= ahead));
            }
        }
    }

    #[test]
    fn renewed_slots_go_to_their_new_place_and_are_counted() {
        let mut keys = vec![1_000, 1_000, 90_000, 90_000];
        let mut wheel = armed(&keys);
        keys[1] = 500_000;
        keys[3] = 90_001;
        assert_eq!(wheel.advance(1_000, at(&keys)), 1);
        assert_eq!(wheel.first_due(), Some((1_000, 0)));
        assert_eq!(wheel.due_until(u64::MAX).count(), 1);
        // Found in the same bucket: not moved, but due at the key that it has now.
        assert_eq!(wheel.advance(90_001, at(&keys)), 0);
        assert_eq!(
            wheel.due_until(u64::MAX).collect::<Vec<_>>(),
            [(1_000, 0), (90_000, 2), (90_001, 3)]
        );
        wheel.check_invariants(at(&keys));
    }

    #[test]
    fn slots_leave_from_any_place_in_a_list() {
        for leaving in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [1, 0, 2]] {
            let keys = [70_000; 3];
            let mut wheel = armed(&keys);
            for slot in leaving {
                wheel.disarm(slot);
                wheel.check_invariants(at(&keys));
                wheel.disarm(slot);
            }
            wheel.disarm(77);
            assert_eq!((wheel.len(), wheel.lower_bound(9, at(&keys))), (0, None));
        }
    }

    #[test]
    fn what_is_armed_behind_the_wheel_is_due_at_once() {
        let keys = [10, 5_000];
        let mut wheel = Wheel::new(0);
        wheel.advance(4_000, at(&keys));
        wheel.arm(0, 10);
        wheel.arm(1, 5_000);
        assert_eq!(wheel.first_due(), Some((10, 0)));
        wheel.advance(20, at(&keys));
        assert_eq!(wheel.due_until(u64::MAX).count(), 1, "a wheel never goes back");
        wheel.check_invariants(at(&keys));
    }

    #[test]
    #[should_panic(expected = "looked at too late")]
    fn a_deadline_that_moved_back_is_caught() {
        armed(&[70_000]).check_invariants(|_| 5_000);
    }
}
