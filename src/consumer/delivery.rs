//! What does an application hold while it handles a message?

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::lane::Taken;
use super::member::Member;
use crate::commitlog::MessageView;
use crate::error::Result;
use crate::types::MessageQueue;

/// A message that was handed out and waits to be acknowledged.
///
/// It reads like the [`MessageView`] that it holds. Dropping it without [`ack`](Self::ack) is a failed attempt: the
/// message comes back after 10 s, 30 s, 1 min and so on (RocketMQ's retry ladder), and until it is acknowledged the
/// group's committed position does not pass it.
#[must_use = "dropping a delivery without ack() is a failed attempt, and the message comes back"]
pub struct Delivery {
    member: Arc<Member>,
    /// The place of its queue among the member's.
    place: usize,
    queue: MessageQueue,
    taken: Option<Taken>,
    message: MessageView,
}

impl Delivery {
    pub(super) fn new(member: Arc<Member>, place: usize, queue: MessageQueue, taken: Taken) -> Self {
        let message = taken.message.clone();
        Self { member, place, queue, taken: Some(taken), message }
    }

    /// Says that the message has been handled. Once everything before it in its queue is acknowledged too, the group's
    /// committed position passes it: that survives the death of the process when this returns, and power loss after
    /// the next persist (5 s). Never blocks.
    ///
    /// # Errors
    ///
    /// `Closed` if the store is closed: the message will be handed out again after the next opening.
    #[doc(alias = "CONSUME_SUCCESS")]
    pub fn ack(mut self) -> Result<()> {
        match self.taken.take() {
            Some(taken) => self.member.ack(self.place, self.message.queue_offset(), taken.epoch),
            None => Ok(()),
        }
    }

    /// Returns the number of this attempt, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.taken.as_ref().map_or(1, |taken| taken.attempt)
    }

    /// Returns the queue that the message came from.
    #[must_use]
    pub const fn queue(&self) -> &MessageQueue {
        &self.queue
    }

    /// Returns the message.
    #[must_use]
    pub const fn view(&self) -> &MessageView {
        &self.message
    }
}

impl Deref for Delivery {
    type Target = MessageView;

    fn deref(&self) -> &MessageView {
        &self.message
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(Taken { message, attempt, epoch }) = self.taken.take() {
            self.member.fail(self.place, message, attempt, epoch);
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Delivery");
        shown
            .field("queue", &self.queue)
            .field("attempt", &self.attempt())
            .field("message", &self.message)
            .finish()
    }
}
