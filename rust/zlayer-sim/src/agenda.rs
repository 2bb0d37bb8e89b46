//! What is going to happen, in order of time; what is due at one time, in the order in which it was put down.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::Ms;

/// The world's calendar.
pub(crate) struct Agenda<T> {
    heap: BinaryHeap<Item<T>>,
    put_down: u64,
}

struct Item<T> {
    at: Ms,
    number: u64,
    what: T,
}

impl<T> Agenda<T> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), put_down: 0 }
    }

    pub(crate) fn push(&mut self, at: Ms, what: T) {
        self.put_down += 1;
        self.heap.push(Item { at, number: self.put_down, what });
    }

    /// The next one, unless it is due after `end`.
    pub(crate) fn pop_until(&mut self, end: Ms) -> Option<(Ms, T)> {
        self.heap.peek().filter(|item| item.at <= end)?;
        self.heap.pop().map(|item| (item.at, item.what))
    }
}

// The heap gives its greatest first: the earliest one has to be that.
impl<T> Ord for Item<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<T> PartialOrd for Item<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Item<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Item<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_time_and_then_as_put_down() {
        let mut agenda = Agenda::new();
        for (at, what) in [(5, 'a'), (3, 'b'), (5, 'c'), (3, 'd'), (9, 'e')] {
            agenda.push(at, what);
        }
        let order: Vec<_> = std::iter::from_fn(|| agenda.pop_until(5)).collect();
        assert_eq!(order, [(3, 'b'), (3, 'd'), (5, 'a'), (5, 'c')]);
        assert_eq!(agenda.pop_until(9), Some((9, 'e')));
        assert_eq!(agenda.pop_until(9), None);
    }
}
