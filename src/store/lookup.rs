//! How is a message found again: by key, by id, by its place in a queue, by time?

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::Store;
use crate::broker::{Broker, PullRequest, PullResult};
use crate::commitlog::MessageView;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::message::MessageId;
use crate::message::ids::parse_offset_id;
use crate::types::{MessageQueue, QueueOffset, TopicName, millis_of};

/// Messages that a lookup by key finds unless told otherwise (RocketMQ's default).
const LIMIT: usize = 32;

/// A lookup by key that has not been made yet: [`Store::query_by_key`] makes one, [`fetch`](Self::fetch) makes it.
#[derive(Debug, Clone)]
#[must_use = "a query finds nothing until it is fetched"]
pub struct KeyQuery<'a> {
    store: &'a Store,
    topic: String,
    key: String,
    since: i64,
    until: i64,
    limit: usize,
}

impl KeyQuery<'_> {
    /// Leaves out what was stored before this moment. Default: nothing.
    pub fn since(mut self, time: SystemTime) -> Self {
        self.since = millis_of(time);
        self
    }

    /// Leaves out what was stored after this moment. Default: nothing.
    pub fn until(mut self, time: SystemTime) -> Self {
        self.until = millis_of(time);
        self
    }

    /// Sets how many messages are found at most. Default 32, as RocketMQ.
    pub const fn limit(mut self, count: usize) -> Self {
        self.limit = count;
        self
    }

    /// Finds the messages, newest first: exactly those of the topic that have the key among their keys or as their
    /// unique id, among everything that was acknowledged before the call. Empty where there is none, and for a topic
    /// that does not exist. Does not block for more than reading; each found message keeps its log file mapped.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a text that is no topic's name, and for a key that is empty or has blanks, which no
    /// message can have; `Closed`; `Corrupt` and `Io`.
    pub fn fetch(self) -> Result<Vec<MessageView>> {
        let cluster = self.store.cluster();
        cluster.check_open()?;
        let topic = TopicName::new(&self.topic)?;
        if self.key.is_empty() || self.key.contains(' ') {
            let reason = "must have at least one character and no blank: RocketMQ separates keys by blanks, so \
                          look for one of the words";
            return Err(Error::argument("key", reason));
        }
        let mut found = Vec::new();
        for broker in cluster.brokers() {
            found.extend(broker.query_by_key(&topic, &self.key, self.since..=self.until, self.limit)?);
        }
        // Stable, so that what one broker stored in one millisecond stays newest first.
        found.sort_by_key(|message| std::cmp::Reverse(message.store_millis()));
        found.truncate(self.limit);
        Ok(found)
    }
}

impl Store {
    /// Looks messages of a topic up by key. Add a time window or another limit, then fetch.
    ///
    /// ```
    /// use pocketmq::{Message, Store};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// store.producer("shop")?.send(Message::new("orders", "hello").key("order-42"))?;
    /// let found = store.query_by_key("orders", "order-42").limit(10).fetch()?;
    /// assert_eq!(found[0].body_str()?, "hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "queryMessage")]
    pub fn query_by_key(&self, topic: impl Into<String>, key: impl Into<String>) -> KeyQuery<'_> {
        KeyQuery {
            store: self,
            topic: topic.into(),
            key: key.into(),
            since: i64::MIN,
            until: i64::MAX,
            limit: LIMIT,
        }
    }

    /// Finds a message by its id of either kind: the one that says where it lies, or the unique one that its producer
    /// gave it. An id of the first kind is found only where a record starts that names the same host, so it never
    /// gives another message. For the second kind every topic is looked through by its index; of several messages with
    /// one id, the newest of the first topic that has one is found.
    ///
    /// # Errors
    ///
    /// `Closed`, `Corrupt`, `Io`. An id that nothing has is `Ok(None)`; a text that is no id cannot become a
    /// [`MessageId`].
    #[doc(alias = "viewMessage")]
    pub fn message(&self, id: MessageId) -> Result<Option<MessageView>> {
        self.cluster().check_open()?;
        if let Some(found) = self.at_place(&id)? {
            return Ok(Some(found));
        }
        let text = id.to_string();
        // Half messages and delayed copies carry the id of the message that they stand for: look at them last.
        let (system, own): (BTreeSet<_>, BTreeSet<_>) =
            self.cluster().topic_names().into_iter().partition(TopicName::is_system);
        for topic in own.iter().chain(&system) {
            let mut newest: Option<MessageView> = None;
            for broker in self.cluster().brokers() {
                let found = broker.query_by_key(topic, &text, i64::MIN..=i64::MAX, 1)?;
                newest = newest.into_iter().chain(found).max_by_key(MessageView::store_millis);
            }
            if newest.is_some() {
                return Ok(newest);
            }
        }
        Ok(None)
    }

    /// Reads an id as a place and returns the message there, if it lies in its queue too: bytes inside a body that
    /// look like a record do not.
    fn at_place(&self, id: &MessageId) -> Result<Option<MessageView>> {
        let Some((_, at)) = parse_offset_id(id) else { return Ok(None) };
        for broker in self.cluster().brokers() {
            let Some(found) = broker.message_at(at).filter(|found| found.offset_id() == *id) else {
                continue;
            };
            let Ok(topic) = TopicName::new(found.topic()) else { continue };
            let listed = broker.message_in(&topic, found.queue_id(), found.queue_offset())?;
            if listed.is_some_and(|listed| listed.physical_offset() == at) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Returns the message at a place of a queue, if there is one.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` where the store has no broker of the queue's, `Closed`, `Corrupt`, `Io`.
    pub fn message_at(&self, queue: &MessageQueue, at: QueueOffset) -> Result<Option<MessageView>> {
        let broker = self.cluster().broker_of(queue)?;
        broker.message_in(queue.topic(), queue.queue_id(), at)
    }

    /// Returns the first place of a queue whose message was stored at this time or later: the first that exists if
    /// all were, the end if none was.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` where the store has no broker of the queue's, `Closed`, `Corrupt`, `Io`.
    #[doc(alias = "searchOffset")]
    pub fn offset_at(&self, queue: &MessageQueue, time: SystemTime) -> Result<QueueOffset> {
        let broker = self.cluster().broker_of(queue)?;
        broker.offset_at(queue.topic(), queue.queue_id(), millis_of(time))
    }

    /// Returns the places of a queue: from the first that exists to the one that the next message gets. `None` where
    /// the store has no such queue, or nothing was ever sent to it.
    #[doc(alias = "minOffset")]
    #[doc(alias = "maxOffset")]
    #[must_use]
    pub fn queue_offsets(&self, queue: &MessageQueue) -> Option<std::ops::Range<QueueOffset>> {
        let broker = self.cluster().broker(queue.broker())?;
        let (min, max) = broker.queue_range(queue.topic(), queue.queue_id())?;
        Some(min..max)
    }

    /// Pulls at most `count_max` messages that pass a filter from one place of a queue on, past any group. Never
    /// waits. A count of 0 counts as 1; how many come at once is limited by the size of the messages too.
    ///
    /// Under sync flush only messages that are flushed can be pulled.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` where the topic has no such queue to read from, and for a filter that no message can pass;
    /// `TopicNotFound`; `PermissionDenied`; `Closed`; `Corrupt`; `Io`. A place outside the queue is no error but
    /// [`PullStatus::OffsetIllegal`](crate::PullStatus::OffsetIllegal).
    #[doc(alias = "pullBlockIfNotFound")]
    pub fn pull(
        &self,
        queue: &MessageQueue,
        filter: &Filter,
        offset: QueueOffset,
        count_max: usize,
    ) -> Result<PullResult> {
        filter.check()?;
        let route = self.cluster().existing_route(queue.topic().as_str())?;
        let broker: &Broker = &route.read_queue(queue)?.broker;
        broker.pull(&PullRequest {
            topic: queue.topic(),
            queue_id: queue.queue_id(),
            offset,
            count_max,
            filter,
        })
    }
}
