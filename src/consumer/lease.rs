//! What does an application hold of a message that it has leased, and what makes a receipt?

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::desk::{Desk, Given};
use super::retry::Retries;
use super::simple::Shared;
use crate::commitlog::MessageView;
use crate::error::{Error, Result};
use crate::lease::Token;
use crate::types::{BrokerName, MessageQueue, QueueOffset, TopicName};

/// What stands in place of a token where it is not to be seen.
const HIDDEN: &str = "…";

/// A message that is leased: nobody else gets it until its invisible time is over.
///
/// It reads like the [`MessageView`] that it holds. Dropping it says nothing: the message comes again when its time is
/// over. Who wants to acknowledge it elsewhere, or later, keeps the [`receipt`](Self::receipt).
#[must_use = "a lease that is dropped without ack() ends with its time, and the message comes again"]
pub struct Lease {
    shared: Arc<Shared>,
    retries: Retries,
    receipt: Receipt,
    attempt: u32,
    message: MessageView,
}

impl Lease {
    pub(super) fn new(shared: &Arc<Shared>, desk: &Desk, given: Given, retries: &Retries) -> Self {
        let Given { message, attempt, token } = given;
        let (queue, offset) = (desk.queue().clone(), message.queue_offset());
        let receipt = Receipt { queue, offset, token };
        Self { shared: Arc::clone(shared), retries: retries.clone(), receipt, attempt, message }
    }

    /// Says that the message has been handled, as [`SimpleConsumer::ack`](super::SimpleConsumer::ack) does.
    ///
    /// # Errors
    ///
    /// Those of [`SimpleConsumer::ack`](super::SimpleConsumer::ack).
    pub fn ack(self) -> Result<()> {
        self.shared.ack(&self.receipt)
    }

    /// Leases the message for another time from now on (up to 12 h); with zero it comes again at once. Receipts that were
    /// taken of it before are not good any more.
    ///
    /// # Errors
    ///
    /// Those of [`SimpleConsumer::change_invisible`](super::SimpleConsumer::change_invisible).
    #[doc(alias = "changeInvisibleDuration")]
    pub fn change_invisible(&mut self, invisible: Duration) -> Result<()> {
        self.receipt = self.shared.change(&self.receipt, invisible)?;
        Ok(())
    }

    /// Gives the message up, as [`SimpleConsumer::dead_letter`](super::SimpleConsumer::dead_letter) does.
    ///
    /// # Errors
    ///
    /// Those of [`SimpleConsumer::dead_letter`](super::SimpleConsumer::dead_letter).
    pub fn dead_letter(self, reason: impl AsRef<str>) -> Result<()> {
        self.shared.dead_letter(&self.receipt, reason.as_ref(), &self.retries)
    }

    /// Returns what it takes to acknowledge the message.
    #[must_use]
    #[doc(alias = "receiptHandle")]
    pub const fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// Returns the number of this attempt, from 1.
    #[must_use]
    #[doc(alias = "deliveryAttempt")]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns the queue that the message came from.
    #[must_use]
    pub const fn queue(&self) -> &MessageQueue {
        &self.receipt.queue
    }

    /// Returns the message.
    #[must_use]
    pub const fn view(&self) -> &MessageView {
        &self.message
    }
}

impl Deref for Lease {
    type Target = MessageView;

    fn deref(&self) -> &MessageView {
        &self.message
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Lease");
        shown.field("queue", self.queue()).field("attempt", &self.attempt).field("message", &self.message);
        shown.finish()
    }
}

/// What it takes to acknowledge a message that was leased (RocketMQ's receipt handle).
///
/// It holds 16 bytes that nobody can guess, is good once, and only until the lease ends. As a text
/// ([`Display`](fmt::Display), [`FromStr`]) it may be kept anywhere; it is good after a restart too.
#[derive(Clone, PartialEq, Eq)]
#[doc(alias = "receiptHandle")]
#[doc(alias = "POP_CK")]
pub struct Receipt {
    queue: MessageQueue,
    offset: QueueOffset,
    token: Token,
}

impl Receipt {
    /// Returns the queue of the message.
    #[must_use]
    pub const fn queue(&self) -> &MessageQueue {
        &self.queue
    }

    /// Returns the place of the message in its queue.
    #[must_use]
    pub const fn offset(&self) -> QueueOffset {
        self.offset
    }

    pub(super) const fn place(&self) -> (QueueOffset, Token) {
        (self.offset, self.token)
    }

    pub(super) fn with(&self, token: Token) -> Self {
        Self { queue: self.queue.clone(), offset: self.offset, token }
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (topic, broker, queue) = (self.queue.topic(), self.queue.broker(), self.queue.queue_id());
        write!(formatter, "{topic}/{broker}/{queue}/{}/", self.offset)?;
        self.token.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// Without what makes it good: a log is read by many.
impl fmt::Debug for Receipt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Receipt");
        shown.field("queue", &self.queue).field("offset", &self.offset).field("token", &HIDDEN).finish()
    }
}

impl FromStr for Receipt {
    type Err = Error;

    /// Reads what [`Display`](fmt::Display) has written.
    ///
    /// # Errors
    ///
    /// `InvalidReceipt` for a text that is none.
    fn from_str(text: &str) -> Result<Self> {
        parse(text)
            .ok_or_else(|| Error::InvalidReceipt("of a text that is none: keep it as it was shown".into()))
    }
}

fn parse(text: &str) -> Option<Receipt> {
    let mut parts = text.split('/');
    let topic = TopicName::new(parts.next()?).ok()?;
    let broker = BrokerName::new(parts.next()?).ok()?;
    let queue_id = parts.next()?.parse().ok()?;
    let offset = QueueOffset::new(parts.next()?.parse().ok()?);
    let digits = parts.next()?.as_bytes();
    if parts.next().is_some() || digits.len() != 32 {
        return None;
    }
    let mut token = [0; 16];
    for (byte, pair) in token.iter_mut().zip(digits.chunks(2)) {
        if !pair.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(Receipt { queue: MessageQueue::new(topic, broker, queue_id), offset, token: Token(token) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a25_a_receipt_is_read_as_it_was_shown_and_no_other_text_is_one() {
        let queue = MessageQueue::new(TopicName::new("t").unwrap(), BrokerName::new("broker-a").unwrap(), 3);
        let receipt = Receipt { queue, offset: QueueOffset::new(17), token: Token([0xa5; 16]) };
        let text = receipt.to_string();
        assert_eq!(text, "t/broker-a/3/17/a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5");
        assert_eq!(text.parse::<Receipt>().unwrap(), receipt);
        assert!(!format!("{receipt:?}").contains("a5"), "a token is not shown");
        for place in 0..text.len() {
            assert!(text[..place].parse::<Receipt>().is_err());
        }
        for wrong in [
            "",
            "/",
            "t/b/3/17/é5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5",
            &text.replace('3', "-3"),
            &format!("{text}/"),
        ] {
            assert!(matches!(wrong.parse::<Receipt>(), Err(Error::InvalidReceipt(_))), "{wrong}");
        }
    }
}
