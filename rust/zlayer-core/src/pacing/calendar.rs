//! The coming beats: a ring of cells, each with the number of beats that are due in it.
//!
//! A cell is as wide as `room` beats at the cap, so a calendar that is full everywhere is exactly
//! the cap. Cells come in groups of 8; a group's fair share of the fleet's beats is its quota, by
//! which beats are kept even where the cap alone would let them bunch.

use std::ops::RangeInclusive;

use super::room::RoomMap;
use crate::time::MonoMs;

/// Most cells in a ring. Chosen: 4.7 MiB. The defaults take 32,768 (150 KiB); only where the cap
/// allows more than a million beats within the longest TTL are cells wider, with room for more.
const CELLS_MAX: u64 = 1 << 20;
/// Width of a cell where no cap gives it, in milliseconds. Chosen: that of the default cap.
const CELL_MS_UNCAPPED: u64 = 20;
/// Cells in a group. Chosen: 160 ms at the default cap, so that no second is off by much.
const GROUP: u64 = 8;
/// Groups that a search for a fair place looks at. Bounds its cost; 10 s at the default cap.
const GROUPS_MAX: u64 = 64;

/// Cells by their number since time 0. Cell `i` is `(time(i - 1), time(i)]`; its beats are due at
/// its end, so that as many cells end within any TTL as the cap has room for.
pub(super) type Span = RangeInclusive<u64>;

/// What an even spread of the whole fleet's beats gives to each stretch of time.
#[derive(Clone, Copy)]
pub(super) struct Share {
    /// Beats…
    pub(super) beats: u64,
    /// …in this many milliseconds.
    pub(super) per_ms: u64,
    /// Whether a fair place may be in a cell that is full under the cap.
    pub(super) above_cap: bool,
}

pub(super) struct Calendar {
    /// Width of a cell is `width_ms / width_parts` milliseconds, at least 1.
    width_ms: u64,
    width_parts: u64,
    /// Beats that a cell may hold under the cap.
    room: u32,
    /// First cell whose end is still to come.
    base: u64,
    /// Ring, by cell number modulo its length, a power of two.
    counts: Box<[u32]>,
    groups: Box<[u32]>,
    with_room: RoomMap,
    reserved: usize,
}

impl Calendar {
    /// An empty calendar over `horizon_ms` for `cap` beats a second; 0 is no cap.
    pub(super) fn new(horizon_ms: u64, cap: u64) -> Self {
        let (width_ms, width_parts, room) = if cap == 0 {
            (CELL_MS_UNCAPPED.max(horizon_ms.div_ceil(CELLS_MAX - 2)), 1, u32::MAX)
        } else {
            let beats = u128::from(horizon_ms) * u128::from(cap) / 1000;
            let room = (beats.div_ceil(u128::from(CELLS_MAX - 2)) as u64).max(cap.div_ceil(1000));
            (room * 1000, cap, room.min(u64::from(u32::MAX) - 1) as u32)
        };
        let cells = u128::from(horizon_ms) * u128::from(width_parts) / u128::from(width_ms);
        // One more, for where a horizon that is not whole cells ends.
        let len = (cells as usize + 1).next_power_of_two().max(64);
        Self {
            width_ms,
            width_parts,
            room,
            base: 0,
            counts: vec![0; len].into(),
            groups: vec![0; len / GROUP as usize].into(),
            with_room: RoomMap::new(len),
            reserved: 0,
        }
    }

    /// Forgets the cells that ended at `now` or before. Amortised O(1) a cell; a `now` that goes
    /// back is ignored.
    pub(super) fn advance(&mut self, now: MonoMs) {
        let to = self.cell_of(now.plus(1));
        if to <= self.base {
            return;
        }
        let len = self.counts.len() as u64;
        for cell in self.base..to.min(self.base + len) {
            if self.reserved == 0 {
                break;
            }
            let position = self.position(cell);
            let count = std::mem::take(&mut self.counts[position]);
            if count > 0 {
                self.groups[position / GROUP as usize] -= count;
                self.reserved -= count as usize;
                self.with_room.set(position, true);
            }
        }
        self.base = to;
    }

    /// The cells that end after the newest `now` and no later than `limit`; if there is none since
    /// they are wider than that, the first one.
    pub(super) fn span(&self, limit: MonoMs) -> Span {
        let low = self.base;
        let last = self.cell_of(limit);
        let high = if self.time_of(last) > limit { last.saturating_sub(1) } else { last };
        low..=high.max(low)
    }

    /// The cell that `time` lies in, or the end of `span` that is nearer.
    pub(super) fn cell_near(&self, time: MonoMs, span: &Span) -> u64 {
        self.cell_of(time).clamp(*span.start(), *span.end())
    }

    /// Last cell with room at or before `aim`, or else the first one after it.
    pub(super) fn room_near(&self, aim: u64, span: &Span) -> Option<u64> {
        let len = self.counts.len() as u64;
        let (low, high) = (*span.start(), *span.end());
        // The ring's end may lie within either part; each is then searched in two pieces.
        let seam = |from: u64| from - self.position(from) as u64;
        let earlier = {
            let seam = seam(aim);
            let near = self.last_with_room(low.max(seam), aim);
            if near.is_none() && low < seam { self.last_with_room(low, seam - 1) } else { near }
        };
        earlier.or_else(|| {
            let seam = seam(aim) + len;
            let near = self.first_with_room(aim, high.min(seam - 1));
            if near.is_none() && high >= seam { self.first_with_room(seam, high) } else { near }
        })
    }

    /// Latest cell at or before `aim` in a group that has had less than its share and `more`.
    /// Looks back over a quarter of the span at most, so that a TTL is never cut by more.
    ///
    /// A beat in its own phase is allowed one more: TTLs are not whole groups, so that from TTL to
    /// TTL the share of a group differs by one, and a fleet in phase must not be stirred by that.
    pub(super) fn fair_before(
        &self,
        aim: u64,
        span: &Span,
        share: Share,
        more: u64,
    ) -> Option<u64> {
        let reach = ((span.end() - span.start()) / 4).min(GROUPS_MAX * GROUP);
        let low = aim.saturating_sub(reach).max(*span.start());
        let mut groups = (low / GROUP..=aim / GROUP).rev();
        groups.find_map(|group| self.fair_in(group, low, aim, share, more))
    }

    /// Cell nearest to `aim`, earlier ones first, in a group that has had less than its share.
    pub(super) fn fair_around(&self, aim: u64, span: &Span, share: Share) -> Option<u64> {
        let (low, high) = (*span.start(), *span.end());
        let group = aim / GROUP;
        let mut earlier = (low / GROUP..=group).rev().take(GROUPS_MAX as usize);
        let mut later = (group..=high / GROUP).take(GROUPS_MAX as usize);
        earlier
            .find_map(|group| self.fair_in(group, low, aim, share, 0))
            .or_else(|| later.find_map(|group| self.fair_in(group, aim, high, share, 0)))
    }

    /// The cell with the fewest beats among those shortly before `aim`, the latest of them.
    pub(super) fn least_before(&self, aim: u64, span: &Span) -> u64 {
        let low = aim.saturating_sub(GROUPS_MAX - 1).max(*span.start());
        (low..=aim).rev().min_by_key(|&cell| self.counts[self.position(cell)]).unwrap_or(aim)
    }

    /// Counts one more beat in `cell` and returns when it is due: at the cell's end, but after `now`
    /// and no later than `limit`.
    pub(super) fn reserve(&mut self, cell: u64, now: MonoMs, limit: MonoMs) -> MonoMs {
        let position = self.position(cell);
        let count = self.counts[position];
        self.counts[position] += 1;
        self.groups[position / GROUP as usize] += 1;
        self.reserved += 1;
        self.with_room.set(position, count + 1 < self.room);
        self.time_of(cell).min(limit).max(now.plus(1))
    }

    /// Takes one beat out of the cell that `slot` lies in, unless that has ended.
    pub(super) fn release(&mut self, slot: MonoMs) {
        let cell = self.cell_of(slot);
        let position = self.position(cell);
        let ahead = cell >= self.base && cell - self.base < self.counts.len() as u64;
        if ahead && self.counts[position] > 0 {
            self.counts[position] -= 1;
            self.groups[position / GROUP as usize] -= 1;
            self.reserved -= 1;
            self.with_room.set(position, self.counts[position] < self.room);
        }
    }

    /// Beats that the cap has room for in any stretch of `ms`; `None` without a cap.
    pub(super) fn room_in(&self, ms: u64) -> Option<u128> {
        let cells = u128::from(ms) * u128::from(self.width_parts) / u128::from(self.width_ms);
        (self.room != u32::MAX).then(|| cells * u128::from(self.room))
    }

    /// Beats in all cells.
    pub(super) fn reserved(&self) -> usize {
        self.reserved
    }

    /// Panics unless sums and bits agree with the cells.
    pub(super) fn check_invariants(&self) {
        let sum: usize = self.counts.iter().map(|count| *count as usize).sum();
        assert_eq!(sum, self.reserved, "beats in all cells");
        for (group, cells) in self.counts.chunks(GROUP as usize).enumerate() {
            assert_eq!(cells.iter().sum::<u32>(), self.groups[group], "beats in group {group}");
        }
        for (position, &count) in self.counts.iter().enumerate() {
            assert_eq!(self.with_room.get(position), count < self.room, "room at {position}");
        }
    }

    /// The latest of the least filled cells of `group` in `low..=high`, if the group has had less
    /// than its share and `more`.
    fn fair_in(&self, group: u64, low: u64, high: u64, share: Share, more: u64) -> Option<u64> {
        // Differences of one rising sum, so that the shares of any stretch add up.
        let sum_until = |group: u64| {
            let ms = u128::from(group) * u128::from(GROUP * self.width_ms);
            ms * u128::from(share.beats.min(1 << 40))
                / (u128::from(self.width_parts) * u128::from(share.per_ms))
        };
        let taken = u128::from(self.groups[self.position(group * GROUP) / GROUP as usize]);
        if taken >= sum_until(group + 1) - sum_until(group) + u128::from(more) {
            return None;
        }
        let cells = (group * GROUP).max(low)..=(group * GROUP + GROUP - 1).min(high);
        let count = |cell: &u64| self.counts[self.position(*cell)];
        cells.rev().min_by_key(count).filter(|cell| share.above_cap || count(cell) < self.room)
    }

    fn last_with_room(&self, low: u64, high: u64) -> Option<u64> {
        let found = self.with_room.last_in(self.position(low), self.position(high))?;
        Some(low + (found - self.position(low)) as u64)
    }

    fn first_with_room(&self, low: u64, high: u64) -> Option<u64> {
        let found = self.with_room.first_in(self.position(low), self.position(high))?;
        Some(low + (found - self.position(low)) as u64)
    }

    fn position(&self, cell: u64) -> usize {
        cell as usize & (self.counts.len() - 1)
    }

    /// The cell that `time` lies in.
    fn cell_of(&self, time: MonoMs) -> u64 {
        let ms = u128::from(time.0);
        (ms * u128::from(self.width_parts)).div_ceil(u128::from(self.width_ms)) as u64
    }

    /// The last millisecond of a cell.
    fn time_of(&self, cell: u64) -> MonoMs {
        let ms = u128::from(cell) * u128::from(self.width_ms) / u128::from(self.width_parts);
        MonoMs(ms as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10 s at 50 beats a second: cells of 20 ms, 512 in the ring, from `now` on.
    fn calendar(now: MonoMs) -> Calendar {
        let mut calendar = Calendar::new(10_000, 50);
        calendar.advance(now);
        assert_eq!((calendar.counts.len(), calendar.room), (512, 1));
        calendar
    }

    fn fill(calendar: &mut Calendar, cells: impl Iterator<Item = u64>) {
        for cell in cells {
            let time = calendar.time_of(cell);
            assert_eq!(calendar.reserve(cell, MonoMs(time.0 - 1), time), time);
        }
    }

    #[test]
    fn a_span_has_the_room_of_its_ttl_wherever_it_starts() {
        for now in 1_000_000..1_000_100 {
            let mut calendar = calendar(MonoMs(now));
            let span = calendar.span(MonoMs(now + 10_000));
            assert_eq!(span.clone().count(), 500);
            assert!(calendar.time_of(*span.start()).0 > now);
            assert!(calendar.time_of(*span.end()).0 <= now + 10_000);
            assert_eq!(calendar.room_in(10_000), Some(500));
            // Shorter than a cell: the first one, at the limit.
            let span = calendar.span(MonoMs(now + 1));
            assert_eq!(span.clone().count(), 1);
            let time = calendar.reserve(*span.start(), MonoMs(now), MonoMs(now + 1));
            assert_eq!(time, MonoMs(now + 1));
        }
    }

    #[test]
    fn cells_and_times_agree_for_widths_that_are_no_whole_milliseconds() {
        for cap in [3, 7, 49, 333, 999, 1_000, 1_001, 7_777] {
            let calendar = Calendar::new(600_000, cap);
            for cell in (0..3_000).chain(9_999_999_000..9_999_999_100) {
                let (start, end) = (calendar.time_of(cell), calendar.time_of(cell + 1));
                assert!(start < end, "cap {cap}: cell {cell} is empty");
                assert_eq!(calendar.cell_of(end), cell + 1);
                assert_eq!(calendar.cell_of(start.plus(1)), cell + 1);
            }
        }
    }

    #[test]
    fn the_nearest_room_is_found_across_the_seam_of_the_ring() {
        // Every place of the seam within the span, and holes on both sides of the aim.
        for start in (0..512).step_by(5) {
            let mut calendar = calendar(MonoMs((10_240 + start) * 20));
            let span = calendar.span(MonoMs((10_240 + start) * 20 + 10_000));
            let (low, high) = (*span.start(), *span.end());
            let aim = low + 250;
            fill(&mut calendar, low..=high);
            assert_eq!(calendar.room_near(aim, &span), None);
            let hole = |calendar: &mut Calendar, cell| calendar.release(calendar.time_of(cell));
            for later in [high, low + 300] {
                hole(&mut calendar, later);
                assert_eq!(calendar.room_near(aim, &span), Some(later), "start {start}");
            }
            for earlier in [low, low + 100, aim] {
                hole(&mut calendar, earlier);
                assert_eq!(calendar.room_near(aim, &span), Some(earlier), "start {start}");
            }
            calendar.check_invariants();
        }
    }

    #[test]
    fn a_slot_that_has_passed_takes_no_other_one_with_it() {
        let mut calendar = calendar(MonoMs(0));
        let passed = calendar.reserve(9, MonoMs(0), MonoMs(10_000));
        calendar.advance(MonoMs(5_000));
        assert_eq!(calendar.reserved(), 0);
        // The same place in the ring, one turn later.
        calendar.reserve(9 + 512, MonoMs(5_000), MonoMs(15_000));
        calendar.release(passed);
        assert_eq!(calendar.reserved(), 1);
        // As little one that nobody has, within the ring and beyond it.
        calendar.release(MonoMs(6_000));
        calendar.release(MonoMs((9 + 1_024) * 20));
        assert_eq!(calendar.reserved(), 1);
        calendar.check_invariants();
    }

    #[test]
    fn a_fair_place_is_no_more_than_a_quarter_of_the_span_early() {
        let mut calendar = calendar(MonoMs(0));
        let span = calendar.span(MonoMs(10_000));
        let aim = *span.end();
        // One beat in each group is its share, to within one; the last quarter has it.
        let share = Share { beats: 62, per_ms: 10_000, above_cap: false };
        fill(&mut calendar, (aim - 125..=aim).filter(|cell| cell % GROUP == 0));
        assert_eq!(calendar.fair_before(aim, &span, share, 0), None);
        assert_eq!(calendar.fair_before(aim, &span, share, 1), Some(aim));
        // A fresh session may go anywhere.
        let earlier = calendar.fair_around(aim, &span, share);
        assert!(earlier.is_some_and(|cell| cell < aim - 124), "{earlier:?}");
        calendar.release(calendar.time_of(aim / GROUP * GROUP - 80));
        assert_eq!(
            calendar.fair_before(aim, &span, share, 0),
            Some(aim / GROUP * GROUP - 80 + GROUP - 1)
        );
    }

    #[test]
    fn a_full_cell_is_fair_only_above_the_cap() {
        let mut calendar = calendar(MonoMs(0));
        let span = calendar.span(MonoMs(10_000));
        // The only cell of its group that may be looked at.
        let aim = 160;
        fill(&mut calendar, 160..=160);
        let many = Share { beats: 10_000, per_ms: 10_000, above_cap: true };
        assert_eq!(calendar.fair_before(aim, &span, many, 0), Some(160));
        let capped = Share { above_cap: false, ..many };
        assert_eq!(calendar.fair_before(aim, &span, capped, 0), Some(159));
    }

    #[test]
    fn the_least_filled_cell_is_the_latest_of_its_kind() {
        let mut calendar = calendar(MonoMs(0));
        let span = calendar.span(MonoMs(10_000));
        fill(&mut calendar, 1..=300);
        fill(&mut calendar, (1..=300).filter(|cell| cell % 10 != 0));
        assert_eq!(calendar.least_before(299, &span), 290);
        assert_eq!(calendar.least_before(1, &span), 1);
    }
}
