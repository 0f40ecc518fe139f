//! What is due next in the second that is being delivered, in order?
//!
//! A second may have millions of entries. At most 65,536 of them are looked at together, those that are due first; when
//! they are done, the chain is walked once more for the next ones. So memory does not grow with what waits.

use std::collections::{HashSet, VecDeque};

use crate::types::QueueOffset;

/// Entries that are sorted at a time.
pub(super) const WINDOW_MAX: usize = 1 << 16;

/// One entry that is to be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due {
    pub(super) due_millis: i64,
    /// Its place in the timers' queue: of those that are due together, the one that was sent first comes first.
    pub(super) place: QueueOffset,
    /// Its position in the timer log.
    pub(super) position: u64,
}

impl Due {
    pub(super) const fn key(&self) -> (i64, QueueOffset) {
        (self.due_millis, self.place)
    }
}

/// The first entries of a second.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// In order.
    entries: VecDeque<Due>,
    /// Whether later ones were left out.
    more: bool,
    /// Unique ids of messages that are not to be delivered.
    cancelled: HashSet<Box<str>>,
}

impl Window {
    /// Keeps the first ones of what was found.
    pub(super) fn of(mut found: Vec<Due>, more: bool, cancelled: HashSet<Box<str>>) -> Self {
        let more = trim(&mut found, WINDOW_MAX) || more;
        found.sort_unstable();
        Self { entries: found.into(), more, cancelled }
    }

    pub(super) fn first(&self) -> Option<Due> {
        self.entries.front().copied()
    }

    pub(super) fn drop_first(&mut self) {
        self.entries.pop_front();
    }

    pub(super) const fn has_more(&self) -> bool {
        self.more
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds one that has come since.
    pub(super) fn add(&mut self, due: Due) {
        if self.entries.len() >= 2 * WINDOW_MAX {
            self.entries.truncate(WINDOW_MAX);
            self.more = true;
        }
        if self.more && self.entries.back().is_none_or(|last| *last < due) {
            // It is found when the chain is walked again.
            return;
        }
        let place = self.entries.partition_point(|other| *other < due);
        self.entries.insert(place, due);
    }

    pub(super) fn cancel(&mut self, id: &str) {
        self.cancelled.insert(id.into());
    }

    pub(super) fn is_cancelled(&self, id: &str) -> bool {
        !self.cancelled.is_empty() && self.cancelled.contains(id)
    }
}

/// Keeps the `count` first ones, in any order, and says whether there were more.
pub(super) fn trim(found: &mut Vec<Due>, count: usize) -> bool {
    let more = found.len() > count;
    if more {
        found.select_nth_unstable(count);
        found.truncate(count);
    }
    more
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(millis: i64, place: u64) -> Due {
        Due { due_millis: millis, place: QueueOffset::new(place), position: 0 }
    }

    #[test]
    fn what_comes_later_is_put_in_its_place_and_what_was_left_out_stays_out() {
        let mut window = Window::of(vec![due(3, 1), due(1, 2), due(1, 1)], false, HashSet::new());
        window.add(due(2, 9));
        window.add(due(7, 9));
        assert_eq!(window.len(), 5);
        let mut order = Vec::new();
        while let Some(first) = window.first() {
            order.push((first.due_millis, first.place.get()));
            window.drop_first();
        }
        assert_eq!(order, [(1, 1), (1, 2), (2, 9), (3, 1), (7, 9)]);
        let many: Vec<Due> = (0..=WINDOW_MAX).rev().map(|n| due(i64::try_from(n).unwrap(), 0)).collect();
        let mut window = Window::of(many, false, HashSet::new());
        assert!(window.has_more());
        assert_eq!((window.len(), window.first()), (WINDOW_MAX, Some(due(0, 0))));
        window.add(due(i64::MAX, 0));
        window.add(due(0, 1));
        assert_eq!(window.len(), WINDOW_MAX + 1);
    }
}
