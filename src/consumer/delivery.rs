//! What does an application hold while it handles a message?

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::lane::{Lane, Taken, Ticket};
use super::member::Member;
use super::retry::Failure;
use crate::broker::JoinedAck;
use crate::cluster::{AckInOneStep, Acknowledge};
use crate::commitlog::MessageView;
use crate::delay::NextAttempt;
use crate::error::{Error, Result};
use crate::types::{MessageQueue, QueueOffset};

/// A message that was handed out and waits to be acknowledged.
///
/// It reads like the [`MessageView`] that it holds. Dropping it without [`ack`](Self::ack) is a failed attempt: the
/// message comes back after 10 s, 30 s, 1 min and so on (RocketMQ's retry ladder), and the one that fails for the 17th
/// time goes to the dead letters. A copy is stored first, in the group's retry topic; until then the group's committed
/// position does not pass the message. From an orderly consumer it comes back after a second, before everything behind
/// it; from a broadcasting one it does not come back.
///
/// When another member takes the queue over, it waits for this for a while
/// ([`handover_timeout`](super::ConsumerBuilder::handover_timeout)); after that the message is handed out again, and what
/// is said of this one counts for nothing.
#[must_use = "dropping a delivery without ack() is a failed attempt, and the message comes back"]
pub struct Delivery {
    member: Arc<Member>,
    lane: Arc<Lane>,
    /// `None` once something has been said of it.
    ticket: Option<Ticket>,
    /// It is being acknowledged by sending another message, after which the group is there.
    joining: Option<(Ticket, QueueOffset)>,
    attempt: u32,
    message: MessageView,
}

impl Delivery {
    pub(super) fn new(member: Arc<Member>, lane: Arc<Lane>, taken: Taken) -> Self {
        let Taken { message, ticket } = taken;
        Self { member, lane, attempt: ticket.attempt, ticket: Some(ticket), joining: None, message }
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
        match self.ticket.take() {
            Some(ticket) => self.member.ack(&self.lane, &ticket),
            None => Ok(()),
        }
    }

    /// Says that the attempt failed, and why: the reason is kept with the message. It comes back as a dropped one does.
    /// Blocks as a send does.
    ///
    /// # Errors
    ///
    /// Those of a send: the copy could not be stored, and the message comes back from here 5 s later.
    #[doc(alias = "RECONSUME_LATER")]
    pub fn fail(mut self, reason: impl AsRef<str>) -> Result<()> {
        self.settle(NextAttempt::AsPolicySays, reason.as_ref())
    }

    /// Says that the attempt failed, and that the message is to come back after `wait`, rounded up to a delay level. From
    /// an orderly consumer its whole queue waits, exactly so long. Blocks as a send does.
    ///
    /// # Errors
    ///
    /// Those of [`fail`](Self::fail).
    #[doc(alias = "delayLevelWhenNextConsume")]
    #[doc(alias = "changeInvisibleDuration")]
    pub fn retry_after(mut self, wait: Duration) -> Result<()> {
        self.settle(NextAttempt::After(wait), "")
    }

    /// Gives the message up: a copy goes to the dead letters of the group, with the reason, and the message counts as
    /// handled. From a broadcasting consumer it is only dropped. Blocks as a send does.
    ///
    /// # Errors
    ///
    /// Those of [`fail`](Self::fail).
    #[doc(alias = "forwardMessageToDeadLetterQueue")]
    pub fn dead_letter(mut self, reason: impl AsRef<str>) -> Result<()> {
        self.settle(NextAttempt::DeadLetter, reason.as_ref())
    }

    fn settle(&mut self, next: NextAttempt, reason: &str) -> Result<()> {
        let Some(ticket) = self.ticket.take() else { return Ok(()) };
        let taken = Taken { message: self.message.clone(), ticket };
        self.member.fail(&self.lane, taken, Failure { next, reason })
    }

    /// Returns the number of this attempt, from 1.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns the queue that the message came from.
    #[must_use]
    pub fn queue(&self) -> &MessageQueue {
        &self.lane.queue
    }

    /// Returns the message.
    #[must_use]
    pub const fn view(&self) -> &MessageView {
        &self.message
    }
}

impl Acknowledge for Delivery {
    fn begin(&mut self) -> Result<JoinedAck> {
        let late = || Error::InvalidReceipt("of a message of which something has been said already".into());
        let ticket = self.ticket.as_ref().ok_or_else(late)?;
        let ack = self.member.begin_join(&self.lane, ticket)?;
        self.joining = self.ticket.take().map(|ticket| (ticket, ack.next));
        Ok(ack)
    }

    fn end(mut self) -> Result<()> {
        match self.joining.take() {
            Some((ticket, next)) => self.member.end_join(&self.lane, &ticket, next),
            None => Ok(()),
        }
    }
}

impl AckInOneStep for Delivery {}

impl Deref for Delivery {
    type Target = MessageView;

    fn deref(&self) -> &MessageView {
        &self.message
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        // Where no copy can be stored, the message comes back from here.
        if self.ticket.is_some() {
            let _ = self.settle(NextAttempt::AsPolicySays, "");
        } else if let Some((ticket, _)) = self.joining.take() {
            let taken = Taken { message: self.message.clone(), ticket };
            let failure = Failure { next: NextAttempt::AsPolicySays, reason: "" };
            let _ = self.member.fail_join(&self.lane, &taken, failure);
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Delivery");
        shown
            .field("queue", self.queue())
            .field("attempt", &self.attempt())
            .field("message", &self.message)
            .finish()
    }
}
