//! How does a person move a group to another place?
//!
//! Members that run are told and go on from there; what they have under way at that moment is not committed any more.

use std::time::SystemTime;

use super::Admin;
use super::topics::queue_ids;
use crate::broker::{Broker, PositionKey};
use crate::error::{Error, Result};
use crate::events;
use crate::lease::forget;
use crate::types::{GroupName, MessageQueue, QueueOffset, TopicName, millis_of};

/// A position that was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MovedPosition {
    /// The queue.
    pub queue: MessageQueue,
    /// Where the group was; `None` where it had no position.
    pub from: Option<QueueOffset>,
    /// Where it is now.
    pub to: QueueOffset,
}

impl Admin {
    /// Moves a group, in every queue of a topic, to the first message that was stored at this time or later, forwards or
    /// backwards. Members that run go on from there at once; what they have under way may be handled once more. The new
    /// positions are on disk when this returns, with where the group was. [`UNIX_EPOCH`](std::time::UNIX_EPOCH) is the
    /// first message that still exists; for the end of everything there is [`skip`](Self::skip).
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a text that is no name; `TopicNotFound`; `Unsupported` on a store that was opened read-only;
    /// `Closed`; `Corrupt`, `StoreFull` and `Io`. After the last three some queues may have been moved: call again.
    #[doc(alias = "resetOffsetByTime")]
    #[doc(alias = "resetOffsetByTimestamp")]
    pub fn reset_to_time(
        &self,
        group: impl AsRef<str>,
        topic: impl AsRef<str>,
        time: SystemTime,
    ) -> Result<Vec<MovedPosition>> {
        let millis = millis_of(time);
        self.move_in(group.as_ref(), topic.as_ref(), |broker, key| {
            broker.offset_at(&key.topic, key.queue_id, millis).map(Some)
        })
    }

    /// Moves a group behind everything that is in a topic now, so that what waits is never consumed.
    ///
    /// # Errors
    ///
    /// Those of [`reset_to_time`](Self::reset_to_time).
    #[doc(alias = "skipAccumulatedMessage")]
    pub fn skip(&self, group: impl AsRef<str>, topic: impl AsRef<str>) -> Result<Vec<MovedPosition>> {
        self.move_in(group.as_ref(), topic.as_ref(), |broker, key| {
            Ok(Some(broker.queue_range(&key.topic, key.queue_id).unwrap_or_default().1))
        })
    }

    /// Moves a group to one place of one queue. The place must lie in the queue, its end included.
    ///
    /// # Errors
    ///
    /// Those of [`reset_to_time`](Self::reset_to_time), and `InvalidArgument` for a place outside the queue.
    #[doc(alias = "resetOffsetByQueueId")]
    pub fn reset_to_offset(
        &self,
        group: impl AsRef<str>,
        queue: &MessageQueue,
        offset: QueueOffset,
    ) -> Result<MovedPosition> {
        let group = GroupName::new(group.as_ref())?;
        let broker = self.cluster.broker_of(queue)?;
        broker.check_writable()?;
        let topic = self.known_topic(queue.topic().as_str())?;
        if !queue_ids(broker, &topic).contains(&queue.queue_id()) {
            return Err(Error::argument("queue", format!("there is no {queue}")));
        }
        let (min, max) = broker.queue_range(&topic, queue.queue_id()).unwrap_or_default();
        if offset < min || offset > max {
            let reason = format!("{offset} lies outside of {queue}, which has the places {min} to {max}");
            return Err(Error::argument("offset", reason));
        }
        let key = PositionKey { topic, group, queue_id: queue.queue_id() };
        let moved = place(broker, &key, offset);
        self.cluster.tell_moved(&key.topic);
        broker.positions().sync()?;
        moved
    }

    /// Gives a group, in every queue of a topic, the position of another one. Queues in which that one has no position
    /// are left as they are.
    ///
    /// # Errors
    ///
    /// Those of [`reset_to_time`](Self::reset_to_time).
    #[doc(alias = "cloneGroupOffset")]
    pub fn clone_position(
        &self,
        from: impl AsRef<str>,
        to: impl AsRef<str>,
        topic: impl AsRef<str>,
    ) -> Result<Vec<MovedPosition>> {
        let from = GroupName::new(from.as_ref())?;
        self.move_in(to.as_ref(), topic.as_ref(), |broker, key| {
            let theirs = PositionKey { group: from.clone(), ..key.clone() };
            Ok(broker.positions().get(&theirs).map(|position| position.get()))
        })
    }

    fn move_in(
        &self,
        group: &str,
        topic: &str,
        place_of: impl Fn(&Broker, &PositionKey) -> Result<Option<QueueOffset>>,
    ) -> Result<Vec<MovedPosition>> {
        let topic = self.known_topic(topic)?;
        let group = GroupName::new(group)?;
        let brokers = self.cluster.brokers();
        brokers.iter().try_for_each(|broker| broker.check_writable())?;
        // All places first: who asks for one that cannot be found moves nothing.
        let mut moves = Vec::new();
        for broker in brokers {
            for key in keys(broker, &topic, &group) {
                if let Some(to) = place_of(broker, &key)? {
                    moves.push((broker, key, to));
                }
            }
        }
        let moved: Result<Vec<_>> = moves.iter().map(|(broker, key, to)| place(broker, key, *to)).collect();
        // Also after a failure: some queues were moved.
        self.cluster.tell_moved(&topic);
        let synced = brokers.iter().try_for_each(|broker| broker.positions().sync());
        synced.and(moved)
    }

    /// Returns a group of which no consumer runs.
    pub(super) fn resting_group(&self, group: &str) -> Result<GroupName> {
        self.cluster.check_open()?;
        let group = GroupName::new(group)?;
        if self.cluster.has_consumer(&group) {
            let reason = format!("a consumer of {group} runs: drop it first");
            return Err(Error::argument("group", reason));
        }
        Ok(group)
    }
}

fn keys(broker: &Broker, topic: &TopicName, group: &GroupName) -> Vec<PositionKey> {
    let key = |queue_id| PositionKey { topic: topic.clone(), group: group.clone(), queue_id };
    queue_ids(broker, topic).into_iter().map(key).collect()
}

fn place(broker: &Broker, key: &PositionKey, to: QueueOffset) -> Result<MovedPosition> {
    let from = broker.positions().get(key).map(|position| position.get());
    // Who replays wants what was acknowledged out of turn too. Crash: without the move, what is leased comes again early;
    // the other way round some of it would be passed over.
    forget(broker, &key.group, &key.topic, key.queue_id)?;
    broker.reset_position(key, to)?;
    let queue = MessageQueue::new(key.topic.clone(), broker.name().clone(), key.queue_id);
    events::position_moved(&key.group, &queue, &to);
    Ok(MovedPosition { queue, from, to })
}
