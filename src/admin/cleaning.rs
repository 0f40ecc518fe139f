//! What can be removed, and what becomes of it?

use super::Admin;
use super::topics::{queue_count, queue_ids};
use crate::broker::PositionKey;
use crate::error::{Error, Result};
use crate::events;
use crate::lease::forget_group;
use crate::types::{GroupName, MessageQueue, TopicName};

/// What was removed because nobody can use it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cleaned {
    /// Positions in topics and queues that do not exist: group, topic, queue number.
    pub positions: Vec<(GroupName, TopicName, u32)>,
    /// Retry topics of groups that consume nothing, with nothing in them.
    pub topics: Vec<TopicName>,
}

/// What was removed with a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeletedGroup {
    /// How many positions it had.
    pub positions: usize,
    /// Whether its retry topic is gone. Its dead letters stay: delete `%DLQ%group` when they have been looked at.
    pub retry_topic: Option<TopicName>,
}

impl Admin {
    /// Removes all messages of a topic and all positions in it; the topic stays, its queues begin at 0 again. It stays
    /// so whatever happens once this has returned. Running consumers go on with what comes next. A send at this very
    /// moment may be refused with `TopicNotFound`: send again.
    ///
    /// The log gives the bytes back when retention takes its files.
    ///
    /// # Errors
    ///
    /// `TopicNotFound`; `InvalidArgument` for a topic that RocketMQ keeps for itself; `Unsupported` on a store that was
    /// opened read-only; `Closed`; `StoreFull`; `Io`.
    pub fn purge_topic(&self, name: impl AsRef<str>) -> Result<()> {
        self.cluster.purge_topic(&TopicName::new(name.as_ref())?)
    }

    /// Deletes a topic, as [`Store::delete_topic`](crate::Store::delete_topic) does. Retry topics and dead letters can be
    /// deleted too.
    ///
    /// # Errors
    ///
    /// Those of [`Store::delete_topic`](crate::Store::delete_topic).
    #[doc(alias = "deleteTopic")]
    pub fn delete_topic(&self, name: impl AsRef<str>) -> Result<()> {
        self.cluster.delete_topic(&TopicName::new(name.as_ref())?)
    }

    /// Deletes a queue that its topic does not have any more, with its messages and all positions in it. They stay gone
    /// whatever happens once this has returned. Should the topic get the queue back, its numbers go on where they
    /// ended. Returns how many messages went. A RocketMQ broker that opens the folder finds those whose files are there
    /// still.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a queue that does not exist, and for one that its topic still has: lower the topic's
    /// numbers with [`Store::update_topic`](crate::Store::update_topic) first; `TopicNotFound`; `Unsupported` on a store
    /// that was opened read-only; `Closed`; `StoreFull`; `Io`.
    ///
    /// ```
    /// use pocketmq::{Message, Store, TopicConfig};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// store.create_topic("orders", TopicConfig::queues(2))?;
    /// let last = store.queues("orders")?.remove(1);
    /// store.producer("shop")?.send_to(&last, Message::new("orders", "hello"))?;
    /// store.update_topic("orders", TopicConfig::queues(1))?;
    /// assert_eq!(store.admin().delete_queue(&last)?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "cleanExpiredConsumeQueue")]
    pub fn delete_queue(&self, queue: &MessageQueue) -> Result<u64> {
        let broker = self.cluster.broker_of(queue)?;
        let topic = self.known_topic(queue.topic().as_str())?;
        if queue.queue_id() < queue_count(broker, &topic) {
            let reason =
                format!("{topic} still has {queue}: lower its numbers of queues with update_topic first");
            return Err(Error::argument("queue", reason));
        }
        let gone = broker.delete_queue(&topic, queue.queue_id())?;
        self.cluster.tell_moved(&topic);
        if let Some(messages) = &gone {
            events::queue_deleted(queue, messages);
        }
        gone.ok_or_else(|| Error::argument("queue", format!("there is no {queue}")))
    }

    /// Deletes a group: its positions in every topic, and its retry topic. It starts anew if a consumer of it is built
    /// again. Its dead letters stay.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a text that is no group's name, and while a consumer of the group runs; `Unsupported` on a
    /// store that was opened read-only; `Closed`; `StoreFull`; `Io`.
    #[doc(alias = "deleteSubGroup")]
    #[doc(alias = "deleteSubscriptionGroup")]
    pub fn delete_group(&self, group: impl AsRef<str>) -> Result<DeletedGroup> {
        let group = self.resting_group(group.as_ref())?;
        let mut deleted = DeletedGroup::default();
        for broker in self.cluster.brokers() {
            broker.check_writable()?;
            forget_group(broker, &group)?;
            deleted.positions = deleted
                .positions
                .saturating_add(broker.remove_positions(&|key: &PositionKey| key.group == group)?);
        }
        let retry = TopicName::retry_of(&group);
        if self.known_topic(retry.as_str()).is_ok() {
            self.cluster.delete_topic(&retry)?;
            deleted.retry_topic = Some(retry);
        }
        events::group_deleted(&group, &deleted.positions);
        Ok(deleted)
    }

    /// Removes what nobody can use any more: positions in topics and queues that do not exist, empty retry topics of
    /// groups that consume nothing. A queue that its topic does not have any more stays as long as it has messages:
    /// [`delete_queue`](Self::delete_queue) removes them.
    ///
    /// # Errors
    ///
    /// `Unsupported` on a store that was opened read-only; `Closed`; `StoreFull`; `Io`.
    #[doc(alias = "cleanUnusedTopic")]
    pub fn clean_unused(&self) -> Result<Cleaned> {
        self.cluster.check_open()?;
        let mut cleaned = Cleaned::default();
        for broker in self.cluster.brokers() {
            broker.check_writable()?;
            let exists = |key: &PositionKey| queue_ids(broker, &key.topic).contains(&key.queue_id);
            // A running group may wait for a topic that does not exist yet.
            let is_unused = |key: &PositionKey| !exists(key) && !self.cluster.has_consumer(&key.group);
            let unused: Vec<_> =
                broker.positions().all().into_iter().map(|(key, _)| key).filter(is_unused).collect();
            if !unused.is_empty() {
                broker.remove_positions(&is_unused)?;
            }
            cleaned.positions.extend(unused.into_iter().map(|key| (key.group, key.topic, key.queue_id)));
        }
        self.clean_retry_topics(&mut cleaned)?;
        Ok(cleaned)
    }

    fn clean_retry_topics(&self, cleaned: &mut Cleaned) -> Result<()> {
        let groups = self.groups()?;
        for info in self.topics()?.into_iter().filter(|info| info.topic.is_retry() && info.messages() == 0) {
            let is_of = |group: &GroupName| TopicName::retry_of(group) == info.topic;
            let consumes_other = groups
                .iter()
                .any(|group| is_of(&group.group) && group.topics.iter().any(|topic| *topic != info.topic));
            let runs = self.cluster.consuming_groups().iter().any(is_of);
            if !consumes_other && !runs {
                self.cluster.delete_topic(&info.topic)?;
                cleaned.topics.push(info.topic);
            }
        }
        Ok(())
    }
}
