//! How are many messages sent as one? One behind the other in one queue and one log file, with one receipt.

use std::borrow::Borrow;
use std::ops::Range;
use std::sync::Arc;

use super::{Producer, SendMode, SendReceipt, check_kind, check_topic, put_message, wait_of};
use crate::broker::PutMessage;
use crate::cluster::RouteQueue;
use crate::error::{Error, Result};
use crate::message::Message;
use crate::message::ids::offset_id;
use crate::types::{MessageQueue, to_u64};

/// Bytes that RocketMQ's client spends on each message of a batch besides its body and properties.
const FRAME_LEN: usize = 22;
/// More than a record has besides its body, its topic and the texts of its properties: fields, ids, names, checksum.
const RECORD_REST: u64 = 256;

impl Producer {
    /// Sends messages of one topic as one: they get consecutive places in one queue. All are checked before anything
    /// is stored, and all or none are stored as long as the machine lives; a power loss can leave the first few of a
    /// batch that was not flushed yet. The queue is chosen as by [`send`](Self::send).
    ///
    /// The receipt is that of the first message; its [`batch`](SendReceipt::batch) has the ids of all.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send); `InvalidArgument` for no messages at all, for messages that differ in their
    /// topic, their order key or whether they wait for the flush, and for a retry topic; `MessageTooLarge` where all
    /// together exceed the limit for one.
    ///
    /// ```
    /// use pocketmq::{Message, Store};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let messages = ["one", "two", "three"].map(|body| Message::new("orders", body));
    /// let receipt = store.producer("shop")?.send_batch(&messages)?;
    /// assert_eq!(receipt.batch().len(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "MessageBatch")]
    pub fn send_batch<M: Borrow<Message>>(
        &self,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<SendReceipt> {
        let batch: Vec<M> = messages.into_iter().collect();
        self.send_batch_in(SendMode::Sync, &batch)
    }

    pub(super) fn send_batch_in<M: Borrow<Message>>(
        &self,
        mode: SendMode,
        batch: &[M],
    ) -> Result<SendReceipt> {
        let (batch, first) = self.check_batch(batch)?;
        self.check_room(mode, first)?;
        let bound = (mode, first.order_key_text());
        self.deliver(first.topic(), |route| {
            check_kind(route, first)?;
            self.spread(route, bound, |to| self.put_batch(to, mode, &batch))
        })
    }

    /// Sends messages as one to this queue, otherwise as [`send_batch`](Self::send_batch).
    ///
    /// # Errors
    ///
    /// Those of [`send_batch`](Self::send_batch) and [`send_to`](Self::send_to).
    pub fn send_batch_to<M: Borrow<Message>>(
        &self,
        queue: &MessageQueue,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<SendReceipt> {
        let batch: Vec<M> = messages.into_iter().collect();
        let (batch, first) = self.check_batch(&batch)?;
        check_topic(queue, first.topic())?;
        self.deliver(first.topic(), |route| {
            check_kind(route, first)?;
            self.put_batch(route.write_queue(queue)?, SendMode::Sync, &batch)
        })
    }

    /// Checks everything about a batch that does not depend on where it goes, and returns its first message too.
    fn check_batch<'a, M: Borrow<Message>>(
        &self,
        messages: &'a [M],
    ) -> Result<(Vec<&'a Message>, &'a Message)> {
        let batch: Vec<&Message> = messages.iter().map(Borrow::borrow).collect();
        let wrong = |reason: &str| Err(Error::argument("batch", reason));
        let Some(first) = batch.first().copied() else {
            return wrong("has no message: send at least one");
        };
        if first.topic().starts_with("%RETRY%") {
            return wrong("goes to a retry topic: send its messages one by one");
        }
        for message in &batch {
            self.check(message)?;
            if message.is_delayed() {
                return wrong("has a message with a delay: send that one alone");
            }
            if message.replies_to().is_some() {
                return wrong("has a reply: send that one alone");
            }
            if belong_together(first, message) {
                continue;
            }
            if message.topic() != first.topic() {
                return wrong("has messages of several topics: send one batch a topic");
            }
            if message.waits() != first.waits() {
                return wrong("has messages that wait for the flush and some that do not: choose one");
            }
            return wrong("has messages of several order keys, and goes to one queue: send one batch a key");
        }
        Ok((batch, first))
    }

    /// Returns how long a batch may be, as [`batch_len`] counts it.
    pub(super) fn batch_len_max(&self) -> u64 {
        let cluster = &self.member.cluster;
        let files = cluster.brokers().iter().map(|broker| broker.record_size_max());
        files.chain([u64::from(cluster.config().message_size_max)]).min().unwrap_or(u64::MAX)
    }

    /// Puts a batch into a queue, with the producer's hooks around it.
    fn put_batch(&self, to: &RouteQueue, mode: SendMode, batch: &[&Message]) -> Result<SendReceipt> {
        self.with_hooks(to, (mode, batch), || self.put_all(to, mode, batch))
    }

    fn put_all(&self, to: &RouteQueue, mode: SendMode, batch: &[&Message]) -> Result<SendReceipt> {
        let cluster = &self.member.cluster;
        let now = cluster.clock().wall_millis();
        let (mut encoded, mut parts) = (Vec::new(), Vec::with_capacity(batch.len()));
        for message in batch {
            let (id, start) = (cluster.next_id(now), encoded.len());
            message.append_properties(&id, &mut encoded);
            parts.push((id, start..encoded.len()));
        }
        check_len(batch, &encoded, cluster.config().message_size_max)?;
        let properties = |range: &Range<usize>| encoded.get(range.clone()).unwrap_or_default();
        let puts: Vec<PutMessage<'_>> = batch
            .iter()
            .zip(&parts)
            .map(|(message, (id, range))| put_message(message, (now, id), properties(range)))
            .collect();
        // Before anything is stored: what fails now has stored nothing.
        let sizes = puts.iter().map(|put| to.broker.stored_size(&to.topic, put).map(u64::from));
        let sizes = sizes.collect::<Result<Vec<_>>>()?;
        let Some((first, (id, _))) = batch.first().zip(parts.first()) else {
            return Err(Error::argument("batch", "has no message"));
        };
        let stored = to.broker.put_batch(&to.topic, to.queue().queue_id(), &puts, wait_of(first, mode))?;
        let mut at = stored.physical_offset;
        let mut ids = Vec::with_capacity(puts.len());
        for (size, (id, _)) in sizes.into_iter().zip(&parts) {
            ids.push((*id, offset_id(to.broker.host(), at)));
            at = at.plus(size);
        }
        let receipt = SendReceipt::new(&stored, Arc::clone(&to.place), *id, first.joined_keys());
        Ok(receipt.with_batch(ids))
    }
}

/// Tells whether two messages may be in one batch.
pub(super) fn belong_together(first: &Message, other: &Message) -> bool {
    [first, other].iter().all(|message| !message.is_delayed())
        && other.topic() == first.topic()
        && other.waits() == first.waits()
        && other.order_key_text() == first.order_key_text()
}

/// Returns more bytes than a message takes in a batch, in RocketMQ's encoding and in the log.
pub(super) fn batch_len(message: &Message) -> u64 {
    let own = [
        message.topic(),
        message.joined_keys(),
        message.tag_text().unwrap_or_default(),
        message.order_key_text().unwrap_or_default(),
    ];
    let texts: usize = own.iter().map(|text| text.len()).sum();
    let properties: usize = message.properties().map(|(name, value)| name.len() + value.len() + 2).sum();
    to_u64(message.body().len().saturating_add(texts).saturating_add(properties)).saturating_add(RECORD_REST)
}

/// Refuses a batch that RocketMQ's encoding of it would make too large.
fn check_len(batch: &[&Message], properties: &[u8], max: u32) -> Result<()> {
    let bodies: usize = batch.iter().map(|message| message.body().len().saturating_add(FRAME_LEN)).sum();
    let (len, max) = (to_u64(bodies.saturating_add(properties.len())), u64::from(max));
    if len > max { Err(Error::MessageTooLarge { len, max }) } else { Ok(()) }
}
