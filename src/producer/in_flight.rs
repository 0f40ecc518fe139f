//! How many asynchronous sends may be under way, and what happens to one more?
//!
//! Two things are counted, each up to the same bound: messages that are stored and not flushed yet, and callbacks that
//! have not run yet. The second count is the bound of a channel, so putting a callback into it never waits.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::sync::{Condvar, Mutex, deadline_in, has_passed};
use crate::types::PhysicalOffset;

/// What an asynchronous send does when as many as may be are in flight (RocketMQ's `enableBackpressureForAsyncMode`,
/// off there; here one of the two always holds, because memory is always bounded).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum WhenBusy {
    /// It is refused with [`Error::StoreBusy`], and nothing is stored. The default: such a send never waits.
    #[default]
    Refuse,
    /// It waits for room, at most the producer's `send_timeout`, and is refused then. Under sync flush the sender
    /// that waits may run the flush itself. A callback that sends is refused at once: it would wait for itself.
    Wait,
}

/// How many may be in flight, and what happens to one more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) count_max: usize,
    /// Bytes of records that are not flushed yet.
    pub(super) bytes_max: u64,
    pub(super) when_busy: WhenBusy,
    pub(super) timeout: Duration,
}

/// The messages of a producer that are stored and not flushed yet.
#[derive(Default)]
pub(super) struct Unflushed(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// Oldest first.
    all: VecDeque<One>,
    bytes: u64,
}

/// One message or batch.
struct One {
    broker: Arc<Broker>,
    end: PhysicalOffset,
    bytes: u64,
}

impl Waiting {
    fn is_full(&self, limit: &Limit) -> bool {
        self.all.len() >= limit.count_max || self.bytes >= limit.bytes_max
    }
}

impl fmt::Debug for Unflushed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Unflushed").field(&self.0.lock().all.len()).finish()
    }
}

impl Unflushed {
    /// Sees to it that one more message may stay unflushed. Threads that ask at the same time may pass together, so the
    /// bound can be exceeded by one message a thread.
    pub(super) fn make_room(&self, limit: &Limit) -> Result<()> {
        let Some((mut broker, mut end)) = self.oldest_if_full(limit) else { return Ok(()) };
        let deadline = deadline_in(limit.timeout);
        let mut waits = limit.when_busy == WhenBusy::Wait;
        while waits {
            // Whatever it says concerns messages that are stored already; their own tickets tell it.
            let _ = broker.wait_for_flush(end, deadline);
            match self.oldest_if_full(limit) {
                None => return Ok(()),
                // Other threads were faster; the time is what ends this.
                Some(oldest) => (broker, end) = oldest,
            }
            waits = !deadline.is_some_and(has_passed);
        }
        broker.kick_flush();
        let (count, bytes) = {
            let waiting = self.0.lock();
            (waiting.all.len(), waiting.bytes)
        };
        Err(Error::StoreBusy(
            format!("{count} messages of {bytes} bytes wait for their flush; {CURE}").into(),
        ))
    }

    fn oldest_if_full(&self, limit: &Limit) -> Option<(Arc<Broker>, PhysicalOffset)> {
        let mut waiting = self.0.lock();
        if !waiting.is_full(limit) {
            return None;
        }
        waiting.all.retain(|one| one.broker.flush_outcome(one.end).is_none());
        waiting.bytes = waiting.all.iter().map(|one| one.bytes).sum();
        if !waiting.is_full(limit) {
            return None;
        }
        waiting.all.front().map(|one| (Arc::clone(&one.broker), one.end))
    }

    /// Notes what was stored in these bytes of the log and is not flushed yet.
    pub(super) fn add(&self, broker: &Arc<Broker>, bytes: Range<PhysicalOffset>) {
        let (end, bytes) = (bytes.end, bytes.end.since(bytes.start));
        let mut waiting = self.0.lock();
        waiting.bytes = waiting.bytes.saturating_add(bytes);
        waiting.all.push_back(One { broker: Arc::clone(broker), end, bytes });
    }
}

/// What may help where too much is in flight.
const CURE: &str = "wait for some of them, raise in_flight_max or in_flight_bytes_max, or build the producer with when_busy(WhenBusy::Wait)";

/// The callbacks of a producer that have not run yet.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: Mutex<usize>,
    freed: Condvar,
}

/// The place of one callback, free again when it has run.
#[derive(Debug)]
pub(super) struct Place(Arc<Places>);

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.0.taken.lock();
        *taken = taken.saturating_sub(1);
        drop(taken);
        self.0.freed.notify_one();
    }
}

impl Places {
    /// Takes a place if one is free.
    pub(super) fn try_take(self: &Arc<Self>, limit: &Limit) -> Option<Place> {
        let mut taken = self.taken.lock();
        if *taken >= limit.count_max {
            return None;
        }
        *taken = taken.saturating_add(1);
        Some(Place(Arc::clone(self)))
    }

    /// Takes a place as soon as one is free, waiting at most the limit's time.
    pub(super) fn wait(self: &Arc<Self>, limit: &Limit) -> Option<Place> {
        let deadline = deadline_in(limit.timeout);
        let mut taken = self.taken.lock();
        let mut late = false;
        // Under one lock from the look to the taking: whoever is woken may find that a newcomer was faster.
        while *taken >= limit.count_max {
            if late {
                return None;
            }
            match deadline {
                Some(deadline) => late = self.freed.wait_until(&mut taken, deadline).timed_out(),
                None => self.freed.wait(&mut taken),
            }
        }
        *taken = taken.saturating_add(1);
        Some(Place(Arc::clone(self)))
    }

    /// Returns the error of a send whose callback has no place.
    pub(super) fn busy(limit: &Limit) -> Error {
        let count = limit.count_max;
        Error::StoreBusy(format!("{count} callbacks have not run yet; {CURE}").into())
    }
}
