//! Who is told when the log has been flushed, without a thread that waits for it?
//!
//! An asynchronous sender leaves a call with the end of its record. Whoever flushes next (a sender that leads, the
//! flush thread, a store that closes) makes the calls of everything that is on disk then, in the order in which they
//! were left.

use std::fmt;
use std::task::Waker;
use std::time::Instant;

use super::Broker;
use crate::commitlog::FlushWait;
use crate::config::Background;
use crate::error::{Error, Outcome, Result};
use crate::sync::{AtomicUsize, Mutex, Ordering, deadline_in, fence};
use crate::types::PhysicalOffset;

/// What is done once it is known what became of a flush. It runs under a lock, so it may hand something over and no
/// more; it returns whom to wake afterwards.
pub(crate) type FlushCall = Box<dyn FnOnce(Result<()>) -> Option<Waker> + Send>;

/// The calls that wait for a flush.
#[derive(Default)]
pub(super) struct FlushCalls {
    count: AtomicUsize,
    calls: Mutex<Vec<(PhysicalOffset, FlushCall)>>,
}

impl fmt::Debug for FlushCalls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FlushCalls").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Broker {
    /// Says what became of the flush of everything before `end`; `None` while nobody knows.
    pub(crate) fn flush_outcome(&self, end: PhysicalOffset) -> Option<Result<()>> {
        if self.log.flushed() >= end && self.check_open().is_ok() {
            // Between the flush and the units: whoever asks sees to it that what is on disk is visible (V2).
            self.dispatch_or_note(end);
        }
        self.known(end, self.log.flushed())
    }

    /// Tells what is known, if everything before `flushed` is on disk.
    fn known(&self, end: PhysicalOffset, flushed: PhysicalOffset) -> Option<Result<()>> {
        if self.dispatched().max(flushed) >= end {
            return Some(Ok(()));
        }
        let durable_offset = self.log.failed().or_else(|| {
            // Nobody flushes a folder that has been given up: the next opening decides.
            let given_up = self.check_open().is_err() && self.lock.lock().is_none();
            given_up.then(|| self.log.flushed().get())
        })?;
        Some(Err(Error::FlushFailed { durable_offset, outcome: Outcome::MayExist }))
    }

    /// Waits until everything before `end` is on disk and visible, flushing it where nobody else does. The one who
    /// flushes waits until the disk answers, the others until `deadline`.
    pub(crate) fn wait_for_flush(&self, end: PhysicalOffset, deadline: Option<Instant>) -> Result<FlushWait> {
        if self.check_open().is_err() {
            // A close that is under way ends first: it flushes, and afterwards the folder is not ours any more.
            let _writing = self.writing.lock();
            if let Some(outcome) = self.flush_outcome(end) {
                return outcome.map(|()| FlushWait::Flushed);
            }
            return self.flush_for_senders().map(|_| FlushWait::Flushed);
        }
        self.group_commit.wait(end, deadline, || self.dispatched(), || self.flush_for_senders())
    }

    /// Returns until when a sender waits for a flush that another one runs. Driven by hand, it runs the flush itself.
    pub(crate) fn flush_deadline(&self) -> Option<Instant> {
        match self.config.background {
            Background::Threads => deadline_in(self.config.sync_flush_timeout),
            Background::Manual => None,
        }
    }

    /// Tells whether nothing happens but what a caller does.
    #[cfg(feature = "async")]
    pub(crate) fn is_driven_by_hand(&self) -> bool {
        self.config.background == Background::Manual
    }

    /// Flushes the log and makes the calls that wait for it, for a store that is driven by hand.
    pub(crate) fn flush_for_callbacks(&self) {
        if self.check_open().is_ok() {
            // A failure is told to every sender by its own call.
            let _ = self.flush_for_senders();
        }
    }

    fn flush_for_senders(&self) -> Result<PhysicalOffset> {
        let flushed = self.flush_log().inspect(|flushed| self.dispatch_or_note(*flushed));
        self.tell_flushed();
        flushed
    }

    /// Leaves a call that is made once it is known what became of the flush of everything before `end`, and asks for
    /// a flush. It may be made before this returns, in this thread.
    pub(crate) fn when_flushed(&self, end: PhysicalOffset, call: FlushCall) {
        let FlushCalls { count, calls } = &self.flush_calls;
        let mut all = calls.lock();
        all.push((end, call));
        count.store(all.len(), Ordering::Relaxed);
        drop(all);
        // Ordering: partner of the fence in `tell_flushed`: either that sees the call, or this sees the flush.
        fence(Ordering::SeqCst);
        if self.flush_outcome(end).is_some() {
            self.tell_now();
        } else {
            self.kick_flush();
        }
    }

    /// Makes the calls of everything that is decided by now. Call it after every flush, however that ended.
    pub(super) fn tell_flushed(&self) {
        self.settle_positions();
        // Ordering: stands between the flush and the look for calls; `when_flushed` has its partner.
        fence(Ordering::SeqCst);
        if self.flush_calls.count.load(Ordering::Relaxed) > 0 {
            self.tell_now();
        }
    }

    #[cold]
    fn tell_now(&self) {
        // What is told is visible: another one may have flushed more than was made visible.
        let flushed = self.log.flushed();
        if self.check_open().is_ok() {
            self.dispatch_or_note(flushed);
        }
        let FlushCalls { count, calls } = &self.flush_calls;
        let mut all = calls.lock();
        let mut wakers = Vec::new();
        let mut waiting = Vec::with_capacity(all.len());
        // Under the lock, so that calls of two flushes do not overtake each other.
        for (end, call) in all.drain(..) {
            match self.known(end, flushed) {
                Some(outcome) => wakers.extend(call(outcome)),
                None => waiting.push((end, call)),
            }
        }
        *all = waiting;
        count.store(all.len(), Ordering::Relaxed);
        drop(all);
        // A waker runs code that is not ours.
        wakers.into_iter().for_each(Waker::wake);
    }
}
