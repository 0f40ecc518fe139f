//! What became of one message, group by group?

use super::Admin;
use crate::broker::{Broker, PositionKey};
use crate::commitlog::MessageView;
use crate::error::{Error, Result};
use crate::types::{BrokerName, GroupName, MessageQueue, QueueOffset, TopicName};

/// What a group has done with a message (RocketMQ's `TrackType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[doc(alias = "TrackType")]
pub enum TrackState {
    /// The group has not come to it yet (`NOT_CONSUME_YET`).
    NotConsumed,
    /// The same, and no consumer of the group runs in this process (`NOT_ONLINE`).
    NotRunning,
    /// The group has passed it: consumed it, or did not want it (`CONSUMED`, `CONSUMED_BUT_FILTERED`).
    Consumed,
    /// It failed, and comes back.
    Retrying,
    /// It failed too often, and is among the group's dead letters.
    DeadLetter,
}

/// One message as one group sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageTrack {
    /// The group.
    pub group: GroupName,
    /// What it has done.
    pub state: TrackState,
    /// How far the group has come in the queue of the message; `None` where it has no position there yet.
    pub committed: Option<QueueOffset>,
}

impl Admin {
    /// Says what every group that consumes its topic has done with a message. Groups that have never consumed anything of
    /// the topic are not known.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` where the store has no such broker; `TopicNotFound`; `Closed`; `Corrupt` and `Io`.
    #[doc(alias = "messageTrackDetail")]
    pub fn message_track(&self, queue: &MessageQueue, offset: QueueOffset) -> Result<Vec<MessageTrack>> {
        let broker = self.cluster.broker_of(queue)?;
        let message = broker.message_in(queue.topic(), queue.queue_id(), offset)?;
        let Some(message) = message else {
            return Err(Error::argument("offset", format!("there is no message at {offset} of {queue}")));
        };
        let mut tracks = Vec::new();
        for group in self.consumers_of(queue.topic().as_str())? {
            let (topic, queue_id) = (queue.topic().clone(), queue.queue_id());
            let key = PositionKey { topic, group: group.group, queue_id };
            let committed = broker.positions().get(&key).map(|position| position.get());
            let is_passed = committed.is_some_and(|committed| committed > offset);
            let state = if is_passed {
                self.after_consumption(&key.group, &message)?
            } else if group.is_running {
                TrackState::NotConsumed
            } else {
                TrackState::NotRunning
            };
            tracks.push(MessageTrack { group: key.group, state, committed });
        }
        Ok(tracks)
    }

    /// Looks for copies that a group has sent back. They carry the same id.
    fn after_consumption(&self, group: &GroupName, message: &MessageView) -> Result<TrackState> {
        let id = message.message_id().to_string();
        let dead_letters = TopicName::dead_letters_of(group);
        let retry = TopicName::retry_of(group);
        for broker in self.cluster.brokers() {
            let behind = |copy: &MessageView, topic: &TopicName| {
                let key =
                    PositionKey { topic: topic.clone(), group: group.clone(), queue_id: copy.queue_id() };
                let committed = broker.positions().get(&key).map_or(QueueOffset::ZERO, |place| place.get());
                copy.queue_offset() >= committed
            };
            // What was redriven lies behind the group's position among its dead letters.
            if copies(broker, &dead_letters, &id)?.iter().any(|copy| behind(copy, &dead_letters)) {
                return Ok(TrackState::DeadLetter);
            }
            if copies(broker, &retry, &id)?.iter().any(|copy| behind(copy, &retry))
                || broker.waits_in_a_level(&retry, &id)?
            {
                return Ok(TrackState::Retrying);
            }
        }
        Ok(TrackState::Consumed)
    }

    /// Returns the broker's name of a message's queue: for who has found it by key or id.
    #[must_use]
    pub fn broker_of(&self, message: &MessageView) -> Option<BrokerName> {
        let at = message.physical_offset();
        let has_it = |broker: &&std::sync::Arc<Broker>| {
            broker.message_at(at).is_some_and(|found| found.offset_id() == message.offset_id())
        };
        self.cluster.brokers().iter().find(has_it).map(|broker| broker.name().clone())
    }
}

fn copies(broker: &Broker, topic: &TopicName, id: &str) -> Result<Vec<MessageView>> {
    broker.query_by_key(topic, id, i64::MIN..=i64::MAX, COPIES_MAX)
}

/// Copies of one message that are looked at: more than it can have attempts.
const COPIES_MAX: usize = 1_000;
