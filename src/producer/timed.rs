//! How is a message sent that is to be delivered at a time of its own, and how is it taken back?

use super::{Producer, SendReceipt};
use crate::broker::{PutMessage, Stored, Timed, WaitForFlush};
use crate::cluster::RouteQueue;
use crate::commitlog::FlushWait;
use crate::config::FlushPolicy;
use crate::delay::Recall;
use crate::error::{Error, Result};
use crate::message::outgoing::When;
use crate::message::{Message, MessageId, RecallHandle};

impl Producer {
    /// Takes a message back that waits for its time: once this has returned, it is not delivered. Returns its id. Taking it
    /// back twice is no error. Give it what [`SendReceipt::recall_handle`] returns, or the handle read from its text.
    ///
    /// Blocks while messages are delivered that are due, and under sync flush for the flush.
    ///
    /// # Errors
    ///
    /// [`TooLate`](Error::TooLate) where the message is due, or none of its id waits; `InvalidArgument` where there is no
    /// handle, because the message has no time of its own, or where it names no broker of the store; `Timeout` where the
    /// flush was not done in time: the message is taken back unless the power fails; those of [`send`](Self::send).
    #[doc(alias = "recallMessage")]
    pub fn recall(&self, handle: impl Into<Option<RecallHandle>>) -> Result<MessageId> {
        let cluster = &self.member.cluster;
        cluster.check_open()?;
        let handle = handle.into().ok_or_else(|| {
            let reason =
                "there is none: only messages with Message::delay or Message::deliver_at can be recalled";
            Error::argument("recall_handle", reason)
        })?;
        let id = handle.message_id();
        let text = id.to_string();
        let recall = Recall { topic: handle.topic(), id: &text, group: self.group() };
        if let Some((broker, stored)) = cluster.recall(handle.broker(), &recall)?
            && cluster.config().flush == FlushPolicy::Sync
            && broker.wait_for_flush(stored.end, broker.flush_deadline())? == FlushWait::TimedOut
        {
            return Err(Error::Timeout);
        }
        Ok(id)
    }

    /// Puts a message that has a time of its own; at once where that has passed.
    pub(super) fn put_timed(
        &self,
        to: &RouteQueue,
        put: &PutMessage<'_>,
        (message, wait): (&Message, WaitForFlush),
    ) -> Result<(Stored, Option<i64>)> {
        match self.due_of(message)? {
            None => to.broker.put_into(&to.topic, to.slot()?, put, wait).map(|stored| (stored, None)),
            Some(due_millis) => {
                let timed = Timed { due_millis, wait };
                let stored = to.broker.put_timed(&to.topic, to.queue().queue_id(), put, timed)?;
                Ok((stored, Some(due_millis)))
            }
        }
    }

    /// Returns when a message is due, `None` where that is now or was before.
    pub(super) fn due_of(&self, message: &Message) -> Result<Option<i64>> {
        let cluster = &self.member.cluster;
        if message.when() == When::Now {
            return Ok(None);
        }
        cluster.config().check_timers()?;
        let now = cluster.due_now();
        let (field, due) = match message.when() {
            When::Now => return Ok(None),
            // Rounded up: never early.
            When::After(time) => {
                let millis = i64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
                ("delay", now.saturating_add(millis))
            }
            When::At(millis) => ("deliver_at", millis),
        };
        let longest = cluster.config().timer_delay_max;
        let limit = now.saturating_add(i64::try_from(longest.as_millis()).unwrap_or(i64::MAX));
        if due > limit {
            let reason = format!(
                "lies further ahead than the store allows, which is {longest:?}: see timer_delay_max"
            );
            return Err(Error::argument(field, reason));
        }
        Ok(Some(due).filter(|due| *due > now))
    }
}

impl SendReceipt {
    /// Returns the receipt of a message that was found, with its time.
    pub(super) fn found_due(self, out_millis: Option<i64>) -> Self {
        self.due_at(out_millis.map(|out| out.saturating_add(1)))
    }
}
