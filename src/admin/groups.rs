//! Who consumes what, and how far behind is everybody?

use std::collections::BTreeMap;
use std::time::Duration;

use super::Admin;
use super::topics::queue_ids;
use crate::broker::{Broker, PositionKey, PullRequest};
use crate::error::Result;
use crate::filter::Filter;
use crate::types::{GroupName, MessageQueue, QueueOffset, TopicName, to_u64};

/// Messages that are counted in one go.
const PAGE: usize = 256;

/// A consumer group: one that has a position somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupInfo {
    /// The group.
    pub group: GroupName,
    /// Whether a consumer of it runs in this process.
    pub is_running: bool,
    /// The topics in which it has a position, its retry topic among them.
    pub topics: Vec<TopicName>,
}

/// How far a group is behind (RocketMQ's `consumerProgress`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[doc(alias = "ConsumeStats")]
pub struct GroupLag {
    /// The group.
    pub group: GroupName,
    /// Every queue of every topic that it consumes, its retry topic among them, sorted.
    pub queues: Vec<QueueProgress>,
}

impl GroupLag {
    /// Returns how many messages wait for the group. Those that its filter does not want are counted until the group
    /// has passed them.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.queues.iter().map(|queue| queue.messages).sum()
    }

    /// Returns how long ago the oldest message that waits was stored; zero where none does.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.queues.iter().map(|queue| queue.age).max().unwrap_or_default()
    }
}

/// How far a group is behind in one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[doc(alias = "OffsetWrapper")]
pub struct QueueProgress {
    /// The queue.
    pub queue: MessageQueue,
    /// The next place that the group will consume; `None` where it has committed nothing, and will begin at the first
    /// message.
    pub committed: Option<QueueOffset>,
    /// The place of the next message.
    pub max: QueueOffset,
    /// How many messages wait.
    pub messages: u64,
    /// How long ago the first of them was stored; zero where none waits.
    pub age: Duration,
}

impl Admin {
    /// Returns all groups that have consumed something, or were told where to begin, sorted.
    ///
    /// # Errors
    ///
    /// `Closed`.
    #[doc(alias = "subscriptionGroup")]
    pub fn groups(&self) -> Result<Vec<GroupInfo>> {
        self.cluster.check_open()?;
        let mut groups: BTreeMap<GroupName, Vec<TopicName>> = BTreeMap::new();
        for (key, _) in self.cluster.brokers().iter().flat_map(|broker| broker.positions().all()) {
            groups.entry(key.group).or_default().push(key.topic);
        }
        let info = |(group, mut topics): (GroupName, Vec<TopicName>)| {
            topics.sort();
            topics.dedup();
            GroupInfo { is_running: self.cluster.has_consumer(&group), group, topics }
        };
        Ok(groups.into_iter().map(info).collect())
    }

    /// Returns the groups that consume a topic, sorted.
    ///
    /// # Errors
    ///
    /// `TopicNotFound`; `InvalidArgument` for a text that is no topic's name; `Closed`.
    #[doc(alias = "queryTopicConsumeByWho")]
    pub fn consumers_of(&self, topic: impl AsRef<str>) -> Result<Vec<GroupInfo>> {
        let topic = self.known_topic(topic.as_ref())?;
        let mut groups = self.groups()?;
        groups.retain(|group| group.topics.contains(&topic));
        Ok(groups)
    }

    /// Returns how far a group is behind. A group that nobody knows is not behind: the list is empty. It is not behind
    /// either in a topic that did not exist when its consumer was built, until that has looked for messages once. Its dead letters do
    /// not count, they wait for a person.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a text that is no group's name; `Closed`; `Corrupt` and `Io`.
    #[doc(alias = "consumerProgress")]
    #[doc(alias = "examineConsumeStats")]
    pub fn lag(&self, group: impl AsRef<str>) -> Result<GroupLag> {
        self.lag_of(GroupName::new(group.as_ref())?)
    }

    /// The same of any group that has positions, RocketMQ's own and instances of broadcasting groups among them.
    pub(super) fn lag_of(&self, group: GroupName) -> Result<GroupLag> {
        self.cluster.check_open()?;
        let mut queues = Vec::new();
        for broker in self.cluster.brokers() {
            for topic in self.topics_of(&group) {
                for queue_id in queue_ids(broker, &topic) {
                    let key = PositionKey { topic: topic.clone(), group: group.clone(), queue_id };
                    queues.push(self.queue_lag(broker, &key)?);
                }
            }
        }
        queues.sort_by(|one, other| one.queue.cmp(&other.queue));
        Ok(GroupLag { group, queues })
    }

    /// Counts the messages of a topic that a filter wants and that the group has not consumed; none for a group that has
    /// no position in the topic. Reads each of them that may be wanted, so it takes its time where there are many.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a filter that cannot be read and a text that is no name; `TopicNotFound`; `Closed`;
    /// `Corrupt` and `Io`.
    #[doc(alias = "estimateMessageCount")]
    pub fn lag_matching(
        &self,
        group: impl AsRef<str>,
        topic: impl AsRef<str>,
        filter: &Filter,
    ) -> Result<u64> {
        filter.check()?;
        let group = GroupName::new(group.as_ref())?;
        let topic = self.known_topic(topic.as_ref())?;
        if !self.topics_of(&group).contains(&topic) {
            return Ok(0);
        }
        let mut count = 0_u64;
        for broker in self.cluster.brokers() {
            for queue_id in queue_ids(broker, &topic) {
                let key = PositionKey { topic: topic.clone(), group: group.clone(), queue_id };
                let from = broker.positions().get(&key).map(|position| position.get()).unwrap_or_default();
                count = count.saturating_add(count_from(broker, &key, from, filter)?);
            }
        }
        Ok(count)
    }

    /// Returns the topics that a group consumes: those in which it has a position on some broker.
    pub(super) fn topics_of(&self, group: &GroupName) -> Vec<TopicName> {
        let all = self.cluster.brokers().iter().flat_map(|broker| broker.positions().all());
        let own = all.filter(|(key, _)| key.group == *group && !key.topic.is_dead_letters());
        let mut topics: Vec<_> = own.map(|(key, _)| key.topic).collect();
        topics.sort();
        topics.dedup();
        topics
    }

    fn queue_lag(&self, broker: &Broker, key: &PositionKey) -> Result<QueueProgress> {
        let (min, max) = broker.queue_range(&key.topic, key.queue_id).unwrap_or_default();
        let committed = broker.positions().get(key).map(|position| position.get());
        let first = committed.unwrap_or(min).max(min);
        let messages = max.since(first);
        let waiting = if messages > 0 { broker.message_in(&key.topic, key.queue_id, first)? } else { None };
        let now = self.cluster.clock().wall_millis();
        let age = waiting.map_or(0, |message| now.saturating_sub(message.store_millis()));
        let queue = MessageQueue::new(key.topic.clone(), broker.name().clone(), key.queue_id);
        let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
        Ok(QueueProgress { queue, committed, max, messages, age })
    }
}

/// Counts what a filter wants in a queue from an offset on.
fn count_from(broker: &Broker, key: &PositionKey, from: QueueOffset, filter: &Filter) -> Result<u64> {
    let (topic, queue_id) = (&key.topic, key.queue_id);
    let (min, end) = broker.queue_range(topic, queue_id).unwrap_or_default();
    let mut offset = from.max(min);
    let mut count = 0_u64;
    while offset < end {
        let pulled = broker.pull(&PullRequest { topic, queue_id, offset, count_max: PAGE, filter })?;
        count = count.saturating_add(to_u64(pulled.messages.len()));
        if pulled.next_offset <= offset {
            break;
        }
        offset = pulled.next_offset;
    }
    Ok(count)
}
