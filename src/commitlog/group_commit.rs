//! How do many senders share one flush?
//!
//! The first sender that finds no flush running leads: it flushes everything that is in the log by then and wakes
//! the others. Who is covered by that returns; of the rest one leads the next round. So the number of flushes depends
//! on how long a flush takes, not on how many senders there are.

use std::time::Instant;

use crate::error::Result;
use crate::sync::{Condvar, Mutex};
use crate::types::PhysicalOffset;

/// How a wait for a flush ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlushWait {
    /// The message is on disk.
    Flushed,
    /// The time was up first; the message may get to disk later.
    TimedOut,
}

/// The meeting point of the senders that wait for a flush.
#[derive(Debug, Default)]
pub(crate) struct GroupCommit {
    leading: Mutex<bool>,
    round_over: Condvar,
}

/// A round that is led; it ends however the flush ends.
struct Round<'a>(&'a GroupCommit);

impl Drop for Round<'_> {
    fn drop(&mut self) {
        *self.0.leading.lock() = false;
        // Everybody wakes: a leader that left quietly would leave the others asleep for ever.
        self.0.round_over.notify_all();
    }
}

impl GroupCommit {
    /// Waits until `covered` says so, leading a flush where nobody else does.
    ///
    /// `flush` does everything that must be done before a sender may return, and returns up to where that holds.
    pub(crate) fn wait(
        &self,
        end: PhysicalOffset,
        deadline: Option<Instant>,
        covered: impl Fn() -> PhysicalOffset,
        flush: impl Fn() -> Result<PhysicalOffset>,
    ) -> Result<FlushWait> {
        let mut leading = self.leading.lock();
        loop {
            if covered() >= end {
                return Ok(FlushWait::Flushed);
            }
            if !*leading {
                *leading = true;
                drop(leading);
                let _round = Round(self);
                return flush().map(|_| FlushWait::Flushed);
            }
            match deadline {
                Some(deadline) if self.round_over.wait_until(&mut leading, deadline).timed_out() => {
                    return Ok(if covered() >= end { FlushWait::Flushed } else { FlushWait::TimedOut });
                }
                Some(_) => {}
                None => self.round_over.wait(&mut leading),
            }
        }
    }
}
