//! Which topics are there, with which queues, and what is in them?

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Admin;
use crate::broker::Broker;
use crate::config::TopicConfig;
use crate::error::{Error, Result};
use crate::types::{MessageQueue, QueueOffset, TopicName};

/// A topic, over all brokers (RocketMQ's `topicStatus`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[doc(alias = "TopicStatsTable")]
pub struct TopicInfo {
    /// The topic.
    pub topic: TopicName,
    /// Its queues and permissions, as the first broker has them.
    pub config: TopicConfig,
    /// Its queues, sorted by broker and number: those that it has, and older ones that still hold messages.
    pub queues: Vec<QueueInfo>,
}

impl TopicInfo {
    /// Returns how many messages its queues hold.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.queues.iter().map(QueueInfo::messages).sum()
    }
}

/// One queue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[doc(alias = "TopicOffset")]
pub struct QueueInfo {
    /// The queue.
    pub queue: MessageQueue,
    /// The first place that exists.
    pub min: QueueOffset,
    /// The place of the next message; also how many it has ever had.
    pub max: QueueOffset,
    /// When its last message was stored; `None` where it has none.
    pub last_stored: Option<SystemTime>,
}

impl QueueInfo {
    /// Returns how many messages it holds.
    #[must_use]
    pub const fn messages(&self) -> u64 {
        self.max.since(self.min)
    }
}

impl Admin {
    /// Returns all topics, sorted, RocketMQ's own and those of groups (`%RETRY%`, `%DLQ%`) among them.
    ///
    /// # Errors
    ///
    /// `Closed`; `Corrupt` and `Io`.
    #[doc(alias = "topicList")]
    pub fn topics(&self) -> Result<Vec<TopicInfo>> {
        self.cluster.check_open()?;
        self.cluster.topic_names().iter().map(|name| self.topic_info(name)).collect()
    }

    /// Returns one topic.
    ///
    /// # Errors
    ///
    /// `TopicNotFound`; `InvalidArgument` for a text that is no topic's name; `Closed`; `Corrupt` and `Io`.
    #[doc(alias = "topicStatus")]
    #[doc(alias = "examineTopicStats")]
    pub fn topic(&self, name: impl AsRef<str>) -> Result<TopicInfo> {
        self.topic_info(&self.known_topic(name.as_ref())?)
    }

    /// Returns a topic's name if some broker has it.
    pub(super) fn known_topic(&self, name: &str) -> Result<TopicName> {
        self.cluster.check_open()?;
        let name = TopicName::new(name)?;
        if self.cluster.brokers().iter().any(|broker| broker.topic(name.as_str()).is_some()) {
            return Ok(name);
        }
        Err(Error::TopicNotFound(name.as_str().into()))
    }

    fn topic_info(&self, name: &TopicName) -> Result<TopicInfo> {
        let mut queues = Vec::new();
        let mut config = None;
        for broker in self.cluster.brokers() {
            let Some(topic) = broker.topic(name.as_str()) else { continue };
            config.get_or_insert(topic.config());
            for queue_id in queue_ids(broker, name) {
                queues.push(queue_info(broker, name, queue_id)?);
            }
        }
        let config = config.ok_or_else(|| Error::TopicNotFound(name.as_str().into()))?;
        Ok(TopicInfo { topic: name.clone(), config, queues })
    }
}

/// Returns how many queues a topic has on a broker.
pub(super) fn queue_count(broker: &Broker, name: &TopicName) -> u32 {
    let config = broker.topic(name.as_str()).map(|topic| topic.config());
    config.map_or(0, |config| config.read_queues.max(config.write_queues))
}

/// Returns the numbers of the queues that a topic has on a broker, or had and that still hold messages.
pub(super) fn queue_ids(broker: &Broker, name: &TopicName) -> Vec<u32> {
    let count = queue_count(broker, name);
    let holds_messages = |id: &u32| broker.queue_range(name, *id).is_some_and(|(min, max)| min < max);
    let mut ids: Vec<u32> = (0..count).collect();
    ids.extend(broker.queue_ids(name).into_iter().filter(|id| *id >= count).filter(holds_messages));
    ids
}

fn queue_info(broker: &Broker, name: &TopicName, queue_id: u32) -> Result<QueueInfo> {
    let (min, max) = broker.queue_range(name, queue_id).unwrap_or_default();
    let last = match max.get().checked_sub(1).filter(|last| *last >= min.get()) {
        Some(last) => broker.message_in(name, queue_id, QueueOffset::new(last))?,
        None => None,
    };
    let queue = MessageQueue::new(name.clone(), broker.name().clone(), queue_id);
    Ok(QueueInfo { queue, min, max, last_stored: last.map(|last| moment(last.store_millis())) })
}

/// Returns the moment of so many milliseconds since 1970.
pub(super) fn moment(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
