//! Which keys have been put that the index has not been told of yet? So the indexer need not read from the log again what
//! the sender had in its hands: reading costs a cache miss or several for every record.

use crate::index::IndexKey;
use crate::types::PhysicalOffset;

/// Keys that are kept at most, 24 bytes each. What is put while it is full the indexer finds in the log.
pub(super) const KEYS_MAX: usize = 32 << 10;

/// The keys of a part of the log, in its order, without a gap.
#[derive(Debug, Default)]
pub(super) struct KeyRun {
    from: u64,
    to: u64,
    keys: Vec<IndexKey>,
}

impl KeyRun {
    /// Takes the keys of the record that was appended when the log ended at `before`, and after which it ends at `end`.
    pub(super) fn push(&mut self, before: u64, end: u64, keys: impl ExactSizeIterator<Item = IndexKey>) {
        if self.to != before {
            if !self.keys.is_empty() {
                // Full, or some records went by since it was: the run ends there until the indexer takes it.
                return;
            }
            self.from = before;
        }
        if self.keys.capacity() == 0 {
            self.keys.reserve_exact(KEYS_MAX);
        }
        if self.keys.len().saturating_add(keys.len()) <= KEYS_MAX {
            self.keys.extend(keys);
            self.to = end;
        }
    }

    /// Returns how many keys wait for the indexer.
    pub(super) const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Moves the run to `other`, whose memory is used again.
    pub(super) fn move_to(&mut self, other: &mut Self) {
        other.keys.clear();
        other.from = other.to;
        std::mem::swap(self, other);
    }

    /// Returns the byte of the log from which on it has every key.
    pub(super) const fn from(&self) -> u64 {
        self.from
    }

    /// Returns the byte of the log up to which it has every key.
    pub(super) const fn to(&self) -> u64 {
        self.to
    }

    /// Returns the keys of the records that start in a part of the log.
    pub(super) fn between(&self, from: u64, to: u64) -> &[IndexKey] {
        let place = |limit| self.keys.partition_point(|key| key.physical < PhysicalOffset::new(limit));
        self.keys.get(place(from)..place(to)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(at: u64) -> IndexKey {
        IndexKey { physical: PhysicalOffset::new(at), store_millis: 7, hash: 1 }
    }

    #[test]
    fn a_run_begins_with_the_first_record_and_goes_on_without_a_gap() {
        let mut run = KeyRun::default();
        run.push(100, 200, [key(100), key(100)].into_iter());
        run.push(200, 260, [].into_iter());
        // The first record of the next file: a blank record lies before it.
        run.push(260, 400, [key(300)].into_iter());
        assert_eq!((run.from(), run.to()), (100, 400));
        assert_eq!(run.between(0, 300), [key(100), key(100)]);
        assert_eq!(run.between(200, 999), [key(300)]);
    }

    #[test]
    fn a_full_run_takes_nothing_until_it_is_moved_and_says_where_it_ends() {
        let mut run = KeyRun::default();
        let many: Vec<_> = (0..KEYS_MAX).map(|_| key(0)).collect();
        run.push(0, 10, many.into_iter());
        assert_eq!(run.len(), KEYS_MAX);
        run.push(10, 20, [key(10)].into_iter());
        run.push(20, 30, [].into_iter());
        assert_eq!((run.to(), run.between(0, 99).len()), (10, KEYS_MAX));
        let mut taken = KeyRun::default();
        run.move_to(&mut taken);
        assert_eq!((taken.to(), run.between(0, 99).len()), (10, 0));
        run.push(30, 40, [key(30)].into_iter());
        assert_eq!((run.from(), run.to()), (30, 40));
    }
}
