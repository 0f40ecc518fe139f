//! How does one look through a topic without a group, and without moving anybody's position?

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use super::Admin;
use super::topics::queue_ids;
use crate::broker::{Broker, PullRequest, PullStatus};
use crate::commitlog::MessageView;
use crate::error::Result;
use crate::filter::Filter;
use crate::types::{MessageQueue, QueueOffset, TopicName, millis_of};

/// Messages that are read at a time.
const PAGE: usize = 32;

/// What of a topic is to be looked through: [`Admin::browse`] makes one.
#[derive(Debug, Clone)]
#[must_use = "nothing is read before messages() is called"]
pub struct Browse {
    admin: Admin,
    topic: TopicName,
    queue: Option<MessageQueue>,
    from: QueueOffset,
    since: Option<SystemTime>,
    until: Option<SystemTime>,
    filter: Filter,
}

impl Browse {
    /// Looks through one queue only. Default: all, one after the other.
    pub fn queue(mut self, queue: &MessageQueue) -> Self {
        self.queue = Some(queue.clone());
        self
    }

    /// Begins at this place of each queue. Default: at the first message that exists.
    pub const fn from(mut self, offset: QueueOffset) -> Self {
        self.from = offset;
        self
    }

    /// Leaves out what was stored before this moment. Default: nothing.
    pub const fn since(mut self, time: SystemTime) -> Self {
        self.since = Some(time);
        self
    }

    /// Leaves out what was stored at this moment or later. Default: nothing.
    pub const fn until(mut self, time: SystemTime) -> Self {
        self.until = Some(time);
        self
    }

    /// Leaves out what the filter does not accept. Default: nothing.
    pub fn filter(mut self, filter: impl Into<Filter>) -> Self {
        self.filter = filter.into();
        self
    }

    /// Reads the messages, in queue order, up to what is there now. Each keeps its log file mapped.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a filter that no message can pass; `Closed`; `Corrupt`; `Io`.
    pub fn messages(self) -> Result<BrowseMessages> {
        self.filter.check()?;
        let mut left = VecDeque::new();
        for broker in self.admin.cluster.brokers() {
            for queue_id in queue_ids(broker, &self.topic) {
                let queue = MessageQueue::new(self.topic.clone(), broker.name().clone(), queue_id);
                if self.queue.as_ref().is_none_or(|wanted| *wanted == queue) {
                    left.extend(self.part(broker, queue_id)?);
                }
            }
        }
        Ok(BrowseMessages { topic: self.topic, filter: self.filter, left, page: VecDeque::new() })
    }

    fn part(&self, broker: &Arc<Broker>, queue_id: u32) -> Result<Option<Part>> {
        let Some((min, max)) = broker.queue_range(&self.topic, queue_id) else { return Ok(None) };
        let at_time = |time| broker.offset_at(&self.topic, queue_id, millis_of(time));
        let mut at = self.from.max(min);
        if let Some(since) = self.since {
            at = at.max(at_time(since)?);
        }
        let end = self.until.map_or(Ok(max), at_time)?.min(max);
        Ok((at < end).then(|| Part { broker: Arc::clone(broker), queue_id, at, end }))
    }
}

#[derive(Debug)]
struct Part {
    broker: Arc<Broker>,
    queue_id: u32,
    at: QueueOffset,
    end: QueueOffset,
}

/// The messages of a topic, one after the other. It ends after an error.
#[derive(Debug)]
pub struct BrowseMessages {
    topic: TopicName,
    filter: Filter,
    left: VecDeque<Part>,
    page: VecDeque<MessageView>,
}

impl BrowseMessages {
    /// Reads the next messages of the first queue that has some left. `false` at the end.
    fn read(&mut self) -> Result<bool> {
        let Some(part) = self.left.front_mut() else { return Ok(false) };
        part.broker.check_open()?;
        let pulled = part.broker.pull(&PullRequest {
            topic: &self.topic,
            queue_id: part.queue_id,
            offset: part.at,
            count_max: PAGE,
            filter: &self.filter,
        })?;
        let end = part.end;
        self.page.extend(pulled.messages.into_iter().filter(|message| message.queue_offset() < end));
        let is_over = pulled.status == PullStatus::NoNewMessage || pulled.next_offset <= part.at;
        part.at = pulled.next_offset;
        if is_over || part.at >= end {
            self.left.pop_front();
        }
        Ok(true)
    }
}

impl Iterator for BrowseMessages {
    type Item = Result<MessageView>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(message) = self.page.pop_front() {
                return Some(Ok(message));
            }
            match self.read() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.left.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}

impl Admin {
    /// Looks through a topic, any topic, without a group: nobody's position moves.
    ///
    /// ```
    /// use pocketmq::{Message, Store};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// store.producer("shop")?.send(Message::new("orders", "hello").tag("paid"))?;
    /// for message in store.admin().browse("orders")?.filter("paid").messages()? {
    ///     assert_eq!(message?.body_str()?, "hello");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `TopicNotFound`; `InvalidArgument` for a text that is no topic's name; `Closed`.
    #[doc(alias = "printMsg")]
    #[doc(alias = "printMsgByQueue")]
    pub fn browse(&self, topic: impl AsRef<str>) -> Result<Browse> {
        Ok(Browse {
            admin: self.clone(),
            topic: self.known_topic(topic.as_ref())?,
            queue: None,
            from: QueueOffset::ZERO,
            since: None,
            until: None,
            filter: Filter::all(),
        })
    }
}
