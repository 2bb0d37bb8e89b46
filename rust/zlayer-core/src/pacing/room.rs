//! A two-level bitmap over a ring: which cells have room, and the nearest one that has.

/// One bit a cell, and one bit a word of those. A search touches at most two words and the upper
/// level, which is 16 words for the longest calendar.
pub(super) struct RoomMap {
    words: Box<[u64]>,
    summary: Box<[u64]>,
}

impl RoomMap {
    /// A map of `len` cells, all with room; `len` is a multiple of 64.
    pub(super) fn new(len: usize) -> Self {
        let words = len / 64;
        let mut map =
            Self { words: vec![0; words].into(), summary: vec![0; words.div_ceil(64)].into() };
        for position in 0..words * 64 {
            map.set(position, true);
        }
        map
    }

    /// Notes whether the cell at `position` has room.
    pub(super) fn set(&mut self, position: usize, has_room: bool) {
        let word = position / 64;
        if has_room {
            self.words[word] |= 1 << (position % 64);
            self.summary[word / 64] |= 1 << (word % 64);
        } else {
            self.words[word] &= !(1 << (position % 64));
            if self.words[word] == 0 {
                self.summary[word / 64] &= !(1 << (word % 64));
            }
        }
    }

    /// Whether the cell at `position` has room.
    pub(super) fn get(&self, position: usize) -> bool {
        self.words[position / 64] >> (position % 64) & 1 == 1
    }

    /// Last position with room in `low..=high`.
    pub(super) fn last_in(&self, low: usize, high: usize) -> Option<usize> {
        let word = high / 64;
        let bits = self.words[word] & (u64::MAX >> (63 - high % 64));
        let found = if bits == 0 { self.last_word_before(word) } else { Some((word, bits)) };
        let (word, bits) = found?;
        let position = word * 64 + bits.ilog2() as usize;
        (position >= low).then_some(position)
    }

    /// First position with room in `low..=high`.
    pub(super) fn first_in(&self, low: usize, high: usize) -> Option<usize> {
        let word = low / 64;
        let bits = self.words[word] & (u64::MAX << (low % 64));
        let found = if bits == 0 { self.first_word_after(word) } else { Some((word, bits)) };
        let (word, bits) = found?;
        let position = word * 64 + bits.trailing_zeros() as usize;
        (position <= high).then_some(position)
    }

    fn last_word_before(&self, word: usize) -> Option<(usize, u64)> {
        let mut mask = (1_u64 << (word % 64)) - 1;
        for upper in (0..=word / 64).rev() {
            let bits = self.summary[upper] & mask;
            if bits != 0 {
                let word = upper * 64 + bits.ilog2() as usize;
                return Some((word, self.words[word]));
            }
            mask = u64::MAX;
        }
        None
    }

    fn first_word_after(&self, word: usize) -> Option<(usize, u64)> {
        let mut mask = (u64::MAX << (word % 64)) & !(1 << (word % 64));
        for upper in word / 64..self.summary.len() {
            let bits = self.summary[upper] & mask;
            if bits != 0 {
                let word = upper * 64 + bits.trailing_zeros() as usize;
                return Some((word, self.words[word]));
            }
            mask = u64::MAX;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searches_agree_with_a_plain_scan() {
        const LEN: usize = 64 * 70;
        let mut map = RoomMap::new(LEN);
        let mut plain = vec![true; LEN];
        let mut seed = 1_u64;
        for round in 0..3_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
            let (a, b) = ((seed >> 33) as usize % LEN, (seed >> 45) as usize % LEN);
            let (low, high) = (a.min(b), a.max(b));
            // Whole stretches, so that words and upper words empty and fill again.
            for (position, has_room) in plain.iter_mut().enumerate().take(high + 1).skip(low) {
                map.set(position, round % 3 == 0);
                *has_room = round % 3 == 0;
            }
            map.set(b, true);
            plain[b] = true;
            let (from, to) = (low / 2, usize::midpoint(high, LEN));
            assert_eq!(map.last_in(from, to), (from..=to).rev().find(|&at| plain[at]));
            assert_eq!(map.first_in(from, to), (from..=to).find(|&at| plain[at]));
            assert_eq!(map.get(a), plain[a]);
        }
    }
}
