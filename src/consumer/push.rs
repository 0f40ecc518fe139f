//! How does an application have messages brought to it?

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::dispatch;
use super::listener::Handler;
use super::member::Member;
use super::work::{CLOSE_WAIT, Work};
use crate::config::Background;
use crate::error::Result;
use crate::types::{GroupName, MessageQueue, QueueOffset};

/// A consumer that calls a handler for its messages, in threads of its own (RocketMQ's `DefaultMQPushConsumer`).
///
/// [`ConsumerBuilder::listen`](super::ConsumerBuilder::listen) makes one. A clone is the same consumer; dropping the
/// last one ends it as [`shutdown`](Self::shutdown) does, within 10 s. It keeps the store open; closing the store ends
/// it too.
///
/// In a store that is driven by hand ([`Background::Manual`]) it has no threads: [`Store::step`](crate::Store::step)
/// calls the handler for everything that is there.
#[derive(Clone)]
#[must_use = "dropping a push consumer ends it"]
#[doc(alias = "DefaultMQPushConsumer")]
pub struct PushConsumer {
    handle: Arc<Handle>,
}

/// What ends the work with the last clone.
struct Handle {
    work: Arc<Work>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Nobody is left to tell; handlers that still run find that they are too late.
        let _ = self.work.end(CLOSE_WAIT);
    }
}

impl PushConsumer {
    /// Starts to call the handler.
    pub(super) fn start(member: Member, threads: usize, batch: usize, handler: Handler) -> Result<Self> {
        let member = Arc::new(member);
        let work = Arc::new(Work::new(Arc::clone(&member), batch, handler));
        let consumer = Self { handle: Arc::new(Handle { work: Arc::clone(&work) }) };
        let driven = Arc::downgrade(&work);
        member.group.cluster.drive(driven);
        if member.background() == Background::Threads {
            dispatch::start(&work, threads)?;
        }
        Ok(consumer)
    }

    fn member(&self) -> &Member {
        &self.handle.work.member
    }

    /// Returns the group.
    #[must_use]
    pub fn group(&self) -> &GroupName {
        self.member().group_name()
    }

    /// Returns the name of this member, unlike all others of its group.
    #[must_use]
    #[doc(alias = "instanceName")]
    pub fn instance(&self) -> &str {
        &self.member().id
    }

    /// Returns the queues that this member has now, sorted. Never blocks.
    ///
    /// # Errors
    ///
    /// `Closed` if the store is closed or the consumer has ended; what looking at a changed topic fails with.
    #[doc(alias = "fetchSubscribeMessageQueues")]
    pub fn assignment(&self) -> Result<Vec<MessageQueue>> {
        self.member().assignment()
    }

    /// Returns the names of all members of the group, sorted.
    #[must_use]
    pub fn members(&self) -> Vec<String> {
        self.member().group.members()
    }

    /// Hands out nothing more until [`resume`](Self::resume). What has been handed out already is handled. The member
    /// keeps its queues.
    #[doc(alias = "suspend")]
    pub fn pause(&self) {
        self.member().pause();
    }

    /// Goes on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.member().resume();
    }

    /// Tells whether the consumer is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.member().is_paused()
    }

    /// Returns the position that the group has committed in a queue. `None` if it has none there.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the store has no broker of the queue's name, and `Closed`.
    pub fn committed(&self, queue: &MessageQueue) -> Result<Option<QueueOffset>> {
        self.member().committed(queue)
    }

    /// Returns what getting messages failed with last, `None` while all is well: nobody else is told, because the
    /// consumer tries again by itself every 3 s.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.handle.work.trouble()
    }

    /// Ends the consumer: hands out nothing more, waits for the handlers that run, syncs the positions, and leaves the
    /// group, so that others have its queues at once. Blocks at most `timeout`, and never for the handler that calls it.
    /// Calling it again does nothing.
    ///
    /// # Errors
    ///
    /// `Timeout` if handlers still run: their messages go to other members after `handover_timeout`. `Io` if positions
    /// could not be synced. The consumer has left the group all the same.
    pub fn shutdown(&self, timeout: Duration) -> Result<()> {
        self.handle.work.end(timeout)
    }
}

impl fmt::Debug for PushConsumer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PushConsumer")
            .field("group", self.group())
            .field("instance", &self.instance())
            .finish_non_exhaustive()
    }
}
