//! What is in one broker of a store?

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::broker::{Broker, Deletions};
use crate::cluster::Cluster;
use crate::commitlog::MessageView;
use crate::config::TopicConfig;
use crate::error::Result;
use crate::types::{BrokerName, GroupName, PhysicalOffset, QueueOffset, TopicName};

/// One broker of a store, to look at: [`Store::brokers`](super::Store::brokers) lists them. Keeps the store open.
#[derive(Clone)]
pub struct BrokerView {
    cluster: Arc<Cluster>,
    broker: Arc<Broker>,
}

impl fmt::Debug for BrokerView {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BrokerView").field("name", self.name()).finish_non_exhaustive()
    }
}

impl BrokerView {
    pub(super) fn new(cluster: &Arc<Cluster>, broker: &Arc<Broker>) -> Self {
        Self { cluster: Arc::clone(cluster), broker: Arc::clone(broker) }
    }

    /// Returns how many messages wait for a time of their own, those that were recalled or come round once more counted.
    #[must_use]
    pub fn pending_timers(&self) -> u64 {
        self.broker.pending_timers()
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &BrokerName {
        self.broker.name()
    }

    /// Returns the folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.broker.dir()
    }

    /// Returns the bytes of the commit log: from the first that exists to the end.
    #[must_use]
    pub fn log_range(&self) -> Range<PhysicalOffset> {
        let (start, end) = self.broker.log_range();
        start..end
    }

    /// Returns what retention has deleted since the store was opened.
    #[must_use]
    pub fn deletions(&self) -> Deletions {
        self.broker.deletions()
    }

    /// Returns every topic with its queues and permissions, RocketMQ's own among them.
    #[must_use]
    pub fn topic_configs(&self) -> Vec<(TopicName, TopicConfig)> {
        let topics = self.broker.topics().into_iter().filter(|topic| topic.is_listed());
        topics.map(|topic| (topic.name().clone(), topic.config())).collect()
    }

    /// Returns every committed position: group, topic, queue number, and the next offset to consume.
    #[must_use]
    pub fn committed_positions(&self) -> Vec<(GroupName, TopicName, u32, QueueOffset)> {
        let all = self.broker.positions().all().into_iter();
        all.map(|(key, offset)| (key.group, key.topic, key.queue_id, offset)).collect()
    }

    /// Returns every queue that exists, with its places: from the first that exists to the one that the next message
    /// gets.
    #[must_use]
    pub fn queues(&self) -> Vec<(TopicName, u32, Range<QueueOffset>)> {
        let list = self.broker.queue_list().into_iter();
        list.filter_map(|(topic, id)| {
            let (min, max) = self.broker.queue_range(&topic, id)?;
            Some((topic, id, min..max))
        })
        .collect()
    }

    /// Returns the message at a place of a queue, if there is one.
    ///
    /// # Errors
    ///
    /// `Closed`, `Corrupt`, `Io`.
    pub fn message_in(
        &self,
        topic: &TopicName,
        queue_id: u32,
        at: QueueOffset,
    ) -> Result<Option<MessageView>> {
        self.cluster.check_open()?;
        self.broker.message_in(topic, queue_id, at)
    }

    /// Finds messages of a topic by key, newest first.
    ///
    /// # Errors
    ///
    /// `Closed`, `Corrupt`, `Io`.
    pub fn query_by_key(&self, topic: &TopicName, key: &str, limit: usize) -> Result<Vec<MessageView>> {
        self.cluster.check_open()?;
        self.broker.query_by_key(topic, key, i64::MIN..=i64::MAX, limit)
    }
}
