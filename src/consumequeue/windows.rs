//! Which parts of the queue files are mapped, and which queue gives up its maps when there are too many?
//!
//! A queue maps windows of 64 KiB and a page more, so that a unit never lies across the end of one, and of twice as much
//! each time it goes on where the last one ended: mapping waits for whoever else changes the address space of the
//! process. It has at most two: the one in which it is written, and the one that was read last. When all queues together have too many, a clock hand
//! goes round and takes those of a queue that has not been used since the hand last passed.

use std::sync::{Arc, Weak};

use super::ConsumeQueue;
use crate::storage::MappedFile;
use crate::sync::{AtomicUsize, Mutex, Ordering};
use crate::types::to_u64;

/// Bytes of the first window in which units start, and the unit of all.
pub(super) const WINDOW: u64 = 64 << 10;
/// The same of the largest.
const WINDOW_MAX: u64 = 1 << 20;
/// Bytes behind those, for the end of the last unit.
pub(super) const OVERLAP: u64 = 4_096;

/// A mapped window of a queue.
#[derive(Debug, Clone)]
pub(super) struct Window {
    /// The byte of the queue at which it starts.
    pub(super) start: u64,
    /// Bytes in which units start.
    pub(super) span: u64,
    pub(super) map: Arc<MappedFile>,
}

impl Window {
    /// Tells whether the unit that starts at a byte of the queue lies in it.
    pub(super) fn covers(&self, byte: u64) -> bool {
        byte.checked_sub(self.start).is_some_and(|inside| {
            inside < self.span && inside.saturating_add(super::UNIT_LEN) <= to_u64(self.map.len())
        })
    }

    /// Returns how long the window should be in which a byte lies, if this is the one that was used last.
    pub(super) fn next_span(&self, byte: u64) -> u64 {
        let end = self.start.saturating_add(self.span.min(to_u64(self.map.len())));
        let goes_on = byte.checked_sub(end).is_some_and(|behind| behind < super::UNIT_LEN);
        if goes_on { self.span.saturating_mul(2).min(WINDOW_MAX) } else { WINDOW }
    }
}

/// How many windows are mapped, and whose.
#[derive(Debug)]
pub(super) struct MapBudget {
    max: usize,
    count: AtomicUsize,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    queues: Vec<Weak<ConsumeQueue>>,
    hand: usize,
}

impl MapBudget {
    pub(super) fn new(max: usize) -> Self {
        Self { max, count: AtomicUsize::new(0), ring: Mutex::default() }
    }

    pub(super) fn add(&self, queue: &Arc<ConsumeQueue>) {
        self.ring.lock().queues.push(Arc::downgrade(queue));
    }

    /// Counts a window that is about to be mapped, taking others away where there are too many.
    pub(super) fn take_one(&self) {
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.max {
            self.evict();
        }
    }

    pub(super) fn give_back(&self, count: usize) {
        self.count.fetch_sub(count, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Goes round twice at most: the first time every queue may have been used.
    fn evict(&self) {
        let Some(mut ring) = self.ring.try_lock() else { return };
        let mut steps = ring.queues.len().saturating_mul(2);
        while steps > 0 && self.count.load(Ordering::Relaxed) > self.max {
            steps = steps.saturating_sub(1);
            let hand = if ring.hand < ring.queues.len() { ring.hand } else { 0 };
            ring.hand = hand.saturating_add(1);
            match ring.queues.get(hand).map(Weak::upgrade) {
                Some(Some(queue)) => queue.give_up_maps(),
                Some(None) => {
                    ring.queues.swap_remove(hand);
                    ring.hand = hand;
                }
                None => return,
            }
        }
    }
}
