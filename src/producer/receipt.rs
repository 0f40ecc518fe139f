//! What does a sender learn about a message that was stored?

use std::fmt;
use std::sync::Arc;

use crate::broker::{Stored, wheel_second};
use crate::cluster::QueuePlace;
use crate::commitlog::FlushWait;
use crate::message::ids::offset_id;
use crate::message::{MessageId, RecallHandle};
use crate::types::{MessageQueue, PhysicalOffset, QueueOffset};

/// Bytes of a key that a receipt holds without memory of its own: sending must not allocate.
const KEY_INLINE: usize = 46;

/// How a send went (RocketMQ's `SendStatus`). Every one of them means that the message is stored; only `SendOk` means
/// that it is as safe as the store's settings ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SendStatus {
    /// As safe as the settings ask for.
    #[doc(alias = "SEND_OK")]
    SendOk,
    /// Stored; the flush was not done within `sync_flush_timeout` and may still be.
    #[doc(alias = "FLUSH_DISK_TIMEOUT")]
    FlushDiskTimeout,
    /// Stored; the replicas did not confirm in time.
    #[doc(alias = "FLUSH_SLAVE_TIMEOUT")]
    FlushSlaveTimeout,
    /// Stored; fewer replicas than asked for could be reached.
    #[doc(alias = "SLAVE_NOT_AVAILABLE")]
    SlaveNotAvailable,
}

/// How safe a message was when its send returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// In the commit log: it survives the death of the process by any means, not that of the operating system.
    Stored,
    /// On disk: it survives power loss, if the device honours flushes.
    Flushed,
}

/// What a send returned: where the message lies, what it is called, and how safe it is (RocketMQ's `SendResult`).
///
/// For a batch the receipt speaks of the first message; [`batch`](Self::batch) has the ids of all.
///
/// Its text is meant for a log: it names the key, so that a message can be found again by either.
#[derive(Clone)]
#[doc(alias = "SendResult")]
pub struct SendReceipt {
    status: SendStatus,
    durability: Durability,
    message_id: MessageId,
    place: Arc<QueuePlace>,
    queue_offset: QueueOffset,
    physical_offset: PhysicalOffset,
    /// The byte behind the record, or behind the last one of a batch.
    end: PhysicalOffset,
    key: Key,
    /// When the message is due, if it waits for a time of its own.
    due_millis: Option<i64>,
    batch: Box<[(MessageId, MessageId)]>,
}

impl SendReceipt {
    pub(super) fn new(stored: &Stored, place: Arc<QueuePlace>, message_id: MessageId, key: &str) -> Self {
        let (status, durability) = outcome(stored.flushed, stored.waited);
        Self {
            status,
            durability,
            message_id,
            place,
            queue_offset: stored.queue_offset,
            physical_offset: stored.physical_offset,
            end: stored.end,
            key: Key::new(key),
            due_millis: None,
            batch: Box::default(),
        }
    }

    /// Returns the receipt of a message that waits for its time.
    pub(super) fn due_at(self, due_millis: Option<i64>) -> Self {
        Self { due_millis, ..self }
    }

    /// Returns the receipt after a wait for the flush.
    pub(super) fn settled(self, flushed: FlushWait) -> Self {
        let (status, durability) = outcome(flushed, true);
        Self { status, durability, ..self }
    }

    /// Returns the byte behind everything that was stored.
    pub(super) const fn end(&self) -> PhysicalOffset {
        self.end
    }

    pub(super) fn with_batch(self, batch: Vec<(MessageId, MessageId)>) -> Self {
        Self { batch: batch.into_boxed_slice(), ..self }
    }

    /// Returns how the send went.
    #[must_use]
    pub const fn status(&self) -> SendStatus {
        self.status
    }

    /// Returns how safe the message was when the send returned. It may be safer by now.
    #[must_use]
    pub const fn durability(&self) -> Durability {
        self.durability
    }

    /// Returns the unique id that the message was given (RocketMQ's `msgId`).
    #[must_use]
    #[doc(alias = "msgId")]
    pub const fn message_id(&self) -> MessageId {
        self.message_id
    }

    /// Returns the id that says where the message lies (RocketMQ's `offsetMsgId`).
    #[must_use]
    #[doc(alias = "offsetMsgId")]
    pub fn offset_id(&self) -> MessageId {
        offset_id(self.place.host, self.physical_offset)
    }

    /// Returns the queue.
    #[must_use]
    pub fn queue(&self) -> &MessageQueue {
        &self.place.queue
    }

    /// Returns the place in the queue.
    #[must_use]
    pub const fn queue_offset(&self) -> QueueOffset {
        self.queue_offset
    }

    /// Returns the byte of the broker's commit log at which the message lies.
    #[must_use]
    pub const fn physical_offset(&self) -> PhysicalOffset {
        self.physical_offset
    }

    /// Returns the keys of the message, separated by blanks; the empty text where it has none.
    #[must_use]
    pub fn key(&self) -> &str {
        self.key.as_str()
    }

    /// Returns what takes the message back with [`Producer::recall`](crate::Producer::recall); `None` unless it waits for a
    /// time of its own ([`Message::delay`](crate::Message::delay), [`Message::deliver_at`](crate::Message::deliver_at)).
    #[must_use]
    #[doc(alias = "getRecallHandle")]
    pub fn recall_handle(&self) -> Option<RecallHandle> {
        let queue = &self.place.queue;
        let (topic, broker) = (queue.topic().clone(), queue.broker().clone());
        self.due_millis.map(|due| RecallHandle::new(topic, broker, wheel_second(due), self.message_id))
    }

    /// Returns of each message of a batch the unique id and the offset id, in order. Empty where one message was sent.
    #[must_use]
    pub fn batch(&self) -> &[(MessageId, MessageId)] {
        &self.batch
    }
}

impl fmt::Display for SendReceipt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, durability, message_id, place, queue_offset, .. } = self;
        write!(formatter, "{status:?} ({durability:?}) {message_id} in {} at {queue_offset}", place.queue)?;
        if !self.batch.is_empty() {
            write!(formatter, ", first of {}", self.batch.len())?;
        }
        if !self.key().is_empty() {
            write!(formatter, ", key {}", self.key())?;
        }
        Ok(())
    }
}

impl fmt::Debug for SendReceipt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SendReceipt")
            .field("status", &self.status)
            .field("durability", &self.durability)
            .field("message_id", &self.message_id)
            .field("offset_id", &self.offset_id())
            .field("queue", &self.place.queue)
            .field("queue_offset", &self.queue_offset)
            .field("physical_offset", &self.physical_offset)
            .field("key", &self.key())
            .field("batch", &self.batch)
            .finish()
    }
}

const fn outcome(flushed: FlushWait, waited: bool) -> (SendStatus, Durability) {
    match (flushed, waited) {
        (FlushWait::TimedOut, _) => (SendStatus::FlushDiskTimeout, Durability::Stored),
        (FlushWait::Flushed, true) => (SendStatus::SendOk, Durability::Flushed),
        (FlushWait::Flushed, false) => (SendStatus::SendOk, Durability::Stored),
    }
}

/// The keys of a message, without an allocation where they are short.
#[derive(Clone)]
enum Key {
    None,
    Inline(u8, [u8; KEY_INLINE]),
    Long(Box<str>),
}

impl Key {
    fn new(text: &str) -> Self {
        if text.is_empty() {
            return Self::None;
        }
        let mut bytes = [0; KEY_INLINE];
        match (u8::try_from(text.len()), bytes.get_mut(..text.len())) {
            (Ok(len), Some(place)) => {
                place.copy_from_slice(text.as_bytes());
                Self::Inline(len, bytes)
            }
            _ => Self::Long(text.into()),
        }
    }

    fn as_str(&self) -> &str {
        match self {
            Self::None => "",
            Self::Long(text) => text,
            Self::Inline(len, bytes) => {
                let text = bytes.get(..usize::from(*len)).unwrap_or_default();
                std::str::from_utf8(text).unwrap_or_default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{BrokerName, TopicName};

    fn receipt(flushed: FlushWait, waited: bool, key: &str) -> SendReceipt {
        let stored = Stored {
            queue_offset: QueueOffset::new(7),
            physical_offset: PhysicalOffset::new(124),
            end: PhysicalOffset::new(300),
            flushed,
            waited,
        };
        let queue =
            MessageQueue::new(TopicName::new("orders").unwrap(), BrokerName::new("broker-a").unwrap(), 1);
        let id = "7F00000100002A9F000000000000007C".parse().unwrap();
        let host = "127.0.0.1:10911".parse().unwrap();
        SendReceipt::new(&stored, Arc::new(QueuePlace { queue, host }), id, key)
    }

    #[test]
    fn t_a34_a_status_says_what_became_of_the_flush() {
        let cases = [
            (FlushWait::Flushed, false, SendStatus::SendOk, Durability::Stored),
            (FlushWait::Flushed, true, SendStatus::SendOk, Durability::Flushed),
            (FlushWait::TimedOut, true, SendStatus::FlushDiskTimeout, Durability::Stored),
        ];
        for (flushed, waited, status, durability) in cases {
            let receipt = receipt(flushed, waited, "");
            assert_eq!((receipt.status(), receipt.durability()), (status, durability));
        }
    }

    #[test]
    fn f38_the_text_of_a_receipt_names_the_key_however_long() {
        for len in [0, 1, KEY_INLINE, KEY_INLINE + 1, 300, 40_000] {
            let key = "k".repeat(len);
            assert_eq!(receipt(FlushWait::Flushed, true, &key).key(), key);
        }
        let text = receipt(FlushWait::Flushed, true, "order-42").to_string();
        let expected =
            "SendOk (Flushed) 7F00000100002A9F000000000000007C in orders@broker-a:1 at 7, key order-42";
        assert_eq!(text, expected);
    }
}
