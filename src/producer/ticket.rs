//! How does a sender learn later what became of a message that it did not wait for?
//!
//! The message is in the log when the ticket is handed out, so a ticket waits for nothing but the flush; under async
//! flush it has its answer from the start.

use std::fmt;
#[cfg(feature = "async")]
use std::future::Future;
#[cfg(feature = "async")]
use std::pin::Pin;
use std::sync::Arc;
#[cfg(feature = "async")]
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::SendReceipt;
use crate::broker::Broker;
use crate::commitlog::FlushWait;
use crate::error::{Error, Result};
#[cfg(feature = "async")]
use crate::sync::Mutex;
use crate::sync::deadline_in;

/// What became of a message that was sent asynchronously, or will become of it.
///
/// Ask it in one of three ways: [`wait`](Self::wait) blocks; with the feature `async` the ticket is a `Future`, for any
/// runtime and none; and [`Producer::send_then`](super::Producer::send_then) takes a callback instead of handing out a
/// ticket. Several tickets of one thread share a flush: keep as many as you like in flight, then wait for them.
///
/// Dropping a ticket gives up the answer, not the message: where it has been stored, it stays.
#[must_use = "a ticket says what became of the message, and nothing else does"]
pub struct SendTicket {
    /// `None` once it has been told.
    answer: Option<Result<SendReceipt>>,
    /// Who flushes the message, where that is still to be waited for.
    flush: Option<Arc<Broker>>,
    #[cfg(feature = "async")]
    bed: Option<Arc<Mutex<Option<Waker>>>>,
}

impl SendTicket {
    /// Makes a ticket for a send that has its answer.
    pub(super) fn told(answer: Result<SendReceipt>) -> Self {
        Self {
            answer: Some(answer),
            flush: None,
            #[cfg(feature = "async")]
            bed: None,
        }
    }

    /// Makes a ticket for a message that is stored and not flushed yet.
    pub(super) fn unflushed(receipt: SendReceipt, broker: Arc<Broker>) -> Self {
        let mut ticket = Self::told(Ok(receipt));
        ticket.flush = Some(broker);
        ticket
    }

    /// Waits for the answer. Blocks until the message is as safe as the store's settings ask for, under sync flush at most
    /// `sync_flush_timeout` for a flush that another one runs; a flush that is due it runs itself, for all messages that
    /// are in the log by then.
    ///
    /// # Errors
    ///
    /// What [`Producer::send`](super::Producer::send) would have returned; [`Error::StoreBusy`] where too many
    /// messages were in flight, and nothing was stored.
    pub fn wait(mut self) -> Result<SendReceipt> {
        let deadline = self.flush.as_ref().and_then(|broker| broker.flush_deadline());
        self.wait_until(deadline)
    }

    /// Waits for the answer, for a flush that another one runs at most so long. If that is not enough, the receipt says
    /// `FlushDiskTimeout`: the message is stored, and its flush may still be done.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait).
    pub fn wait_timeout(mut self, timeout: Duration) -> Result<SendReceipt> {
        let limit = self.flush.as_ref().and_then(|broker| broker.flush_deadline());
        let own = deadline_in(timeout);
        self.wait_until(limit.into_iter().chain(own).min())
    }

    fn wait_until(&mut self, deadline: Option<Instant>) -> Result<SendReceipt> {
        let Some(broker) = self.flush.take() else { return self.take() };
        let receipt = self.take()?;
        let flushed = broker.wait_for_flush(receipt.end(), deadline)?;
        Ok(receipt.settled(flushed))
    }

    /// Tells whether the answer is there, so that [`wait`](Self::wait) would not block.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match (&self.flush, &self.answer) {
            (Some(broker), Some(Ok(receipt))) => broker.flush_outcome(receipt.end()).is_some(),
            _ => true,
        }
    }

    /// Hands the answer over when it is there, in the order in which messages are flushed. `then` may only hand it on.
    pub(super) fn then(mut self, then: impl FnOnce(Result<SendReceipt>) + Send + 'static) {
        let broker = self.flush.take();
        match (broker, self.take()) {
            (Some(broker), Ok(receipt)) => broker.when_flushed(
                receipt.end(),
                Box::new(move |outcome| {
                    then(outcome.map(|()| receipt.settled(FlushWait::Flushed)));
                    None
                }),
            ),
            (_, answer) => then(answer),
        }
    }

    fn take(&mut self) -> Result<SendReceipt> {
        let told = || Err(Error::argument("ticket", "it has told its answer: ask it once"));
        self.answer.take().unwrap_or_else(told)
    }
}

#[cfg(feature = "async")]
impl Future for SendTicket {
    type Output = Result<SendReceipt>;

    /// Is ready when the message is as safe as the store's settings ask for. No thread waits meanwhile, and a future has no
    /// time limit: a sync cannot be called off. A store that is driven by hand flushes here.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ticket = &mut *self;
        let (Some(broker), Some(Ok(receipt))) = (&ticket.flush, &ticket.answer) else {
            return Poll::Ready(ticket.take());
        };
        let (broker, end) = (Arc::clone(broker), receipt.end());
        if broker.is_driven_by_hand() {
            return Poll::Ready(ticket.wait_until(None));
        }
        if broker.flush_outcome(end).is_none() {
            let listed = ticket.bed.is_some();
            let bed = Arc::clone(ticket.bed.get_or_insert_default());
            *bed.lock() = Some(context.waker().clone());
            if !listed {
                broker.when_flushed(end, Box::new(move |_| bed.lock().take()));
            }
        }
        // Once more after the waker lies there: a flush that came before it has woken nobody.
        let Some(outcome) = broker.flush_outcome(end) else { return Poll::Pending };
        ticket.flush = None;
        let receipt = ticket.take();
        Poll::Ready(outcome.and_then(|()| Ok(receipt?.settled(FlushWait::Flushed))))
    }
}

impl Drop for SendTicket {
    fn drop(&mut self) {
        // Under sync flush a message becomes visible with its flush, which nobody else may ask for.
        if let Some(broker) = &self.flush
            && !self.is_done()
        {
            broker.kick_flush();
        }
    }
}

impl fmt::Debug for SendTicket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SendTicket")
            .field("done", &self.is_done())
            .field("answer", &self.answer)
            .finish_non_exhaustive()
    }
}
