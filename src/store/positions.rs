//! How far is a group, how far behind, and how is it sent back or forward?

use std::time::Duration;

use super::Store;
use crate::broker::PullRequest;
use crate::cluster::{Route, RouteQueue, position_key};
use crate::consumer::StartFrom;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::types::{GroupName, MessageQueue, QueueOffset, millis_of, to_u64};

/// Messages that are counted in one go.
const PAGE: usize = 256;

/// How far a group is behind in one queue (a line of RocketMQ's `consumerProgress`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueLag {
    /// The queue.
    pub queue: MessageQueue,
    /// The next offset that the group will consume.
    pub committed: QueueOffset,
    /// The offset that the next message will get.
    pub end: QueueOffset,
    /// How many messages lie in between, whether the group wants them or not. Messages that were deleted before they
    /// were consumed do not count.
    pub messages: u64,
    /// How long ago the first of them was stored; `None` where there is none.
    pub age: Option<Duration>,
}

impl Store {
    /// Says how far a group is behind in every queue in which it has a position, sorted; its retry topic among them.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a text that is no group's name; `Closed`; `Io`.
    ///
    /// ```
    /// # fn main() -> pocketmq::Result<()> {
    /// use pocketmq::{Message, testing::TestStore};
    ///
    /// let store = TestStore::new();
    /// let consumer = store.consumer("billing").subscribe("orders", "*").build()?;
    /// store.producer("shop")?.send(Message::new("orders", "hello"))?;
    /// consumer.recv()?.ack()?;
    /// store.producer("shop")?.send(Message::new("orders", "again"))?;
    /// assert_eq!(store.lag("billing")?.iter().map(|lag| lag.messages).sum::<u64>(), 1);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "consumerProgress")]
    #[doc(alias = "getConsumeStats")]
    pub fn lag(&self, group: impl AsRef<str>) -> Result<Vec<QueueLag>> {
        self.cluster().check_open()?;
        let group = GroupName::new(group.as_ref())?;
        let now = self.cluster().clock().wall_millis();
        let mut lags = Vec::new();
        for broker in self.cluster().brokers() {
            for (key, committed) in broker.positions().all() {
                if key.group != group {
                    continue;
                }
                let (min, end) = broker.queue_range(&key.topic, key.queue_id).unwrap_or_default();
                let first = committed.max(min);
                let waiting =
                    if first < end { broker.message_in(&key.topic, key.queue_id, first)? } else { None };
                let age = waiting.map(|first| now.saturating_sub(first.store_millis()).max(0));
                lags.push(QueueLag {
                    queue: MessageQueue::new(key.topic, broker.name().clone(), key.queue_id),
                    committed,
                    end,
                    messages: end.since(first),
                    age: age.and_then(|millis| u64::try_from(millis).ok()).map(Duration::from_millis),
                });
            }
        }
        lags.sort_by(|one, other| one.queue.cmp(&other.queue));
        Ok(lags)
    }

    /// Counts the messages of a topic that a filter wants and that the group has not consumed. Reads each of them that
    /// may be wanted, so it takes its time where there are many.
    ///
    /// # Errors
    ///
    /// `TopicNotFound`; `InvalidArgument` for a text that is no name; `Closed`; `Io`; `Corrupt`.
    pub fn lag_matching(
        &self,
        group: impl AsRef<str>,
        topic: impl AsRef<str>,
        filter: &Filter,
    ) -> Result<u64> {
        filter.check()?;
        let group = GroupName::new(group.as_ref())?;
        let route = self.cluster().existing_route(topic.as_ref())?;
        let mut count = 0_u64;
        for entry in &route.read {
            let Some(position) = entry.broker.positions().get(&position_key(&group, entry)) else { continue };
            count = count.saturating_add(count_from(entry, position.get(), filter)?);
        }
        Ok(count)
    }

    /// Sends a group to another place in all queues of a topic: back to what it has consumed already, forward over what
    /// it has not, or to a time. Returns where it is now. Members that run go on from there at once; what they have under
    /// way at that moment may be handled once more, and is not committed.
    ///
    /// It survives the death of the process when this returns, and power loss within `offset_persist_interval`.
    ///
    /// # Errors
    ///
    /// `TopicNotFound`; `InvalidArgument` for a text that is no name; `PermissionDenied`; `Unsupported` on a store that
    /// was opened read-only; `Closed`; `Io`. After the last one some queues may have been reset: call again.
    #[doc(alias = "resetOffsetByTime")]
    #[doc(alias = "skipAccumulatedMessage")]
    pub fn reset_offsets(
        &self,
        group: impl AsRef<str>,
        topic: impl AsRef<str>,
        to: StartFrom,
    ) -> Result<Vec<(MessageQueue, QueueOffset)>> {
        let group = GroupName::new(group.as_ref())?;
        let route = self.writable_route(topic.as_ref())?;
        let moves =
            route.read.iter().map(|entry| Ok((entry, place_of(entry, to)?))).collect::<Result<Vec<_>>>()?;
        self.cluster().reset_positions(&group, &route.topic, &moves)?;
        Ok(moves.into_iter().map(|(entry, offset)| (entry.queue().clone(), offset)).collect())
    }

    /// Sends a group to an offset of one queue, forward or back. Otherwise as [`reset_offsets`](Self::reset_offsets).
    ///
    /// # Errors
    ///
    /// Those of [`reset_offsets`](Self::reset_offsets), and `InvalidArgument` for an offset that lies outside the queue.
    #[doc(alias = "resetOffset")]
    pub fn reset_offset(
        &self,
        group: impl AsRef<str>,
        queue: &MessageQueue,
        offset: QueueOffset,
    ) -> Result<()> {
        let group = GroupName::new(group.as_ref())?;
        let route = self.writable_route(queue.topic().as_str())?;
        let entry = route.read_queue(queue)?;
        let range = entry.broker.queue_range(queue.topic(), queue.queue_id());
        let (min, end) = range.unwrap_or_default();
        if !(min..=end).contains(&offset) {
            let reason = format!("{offset} lies outside of {queue}, which goes from {min} to {end}");
            return Err(Error::argument("offset", reason));
        }
        self.cluster().reset_positions(&group, queue.topic(), &[(entry, offset)])
    }

    /// Gives a group the positions of another one in a topic, as if it had consumed the same. Returns them; queues in
    /// which the other group has none are left alone. Otherwise as [`reset_offsets`](Self::reset_offsets).
    ///
    /// # Errors
    ///
    /// Those of [`reset_offsets`](Self::reset_offsets).
    #[doc(alias = "cloneGroupOffset")]
    pub fn clone_offsets(
        &self,
        from_group: impl AsRef<str>,
        to_group: impl AsRef<str>,
        topic: impl AsRef<str>,
    ) -> Result<Vec<(MessageQueue, QueueOffset)>> {
        let from = GroupName::new(from_group.as_ref())?;
        let group = GroupName::new(to_group.as_ref())?;
        let route = self.writable_route(topic.as_ref())?;
        let mut moves = Vec::new();
        for entry in &route.read {
            if let Some(position) = entry.broker.positions().get(&position_key(&from, entry)) {
                moves.push((entry, position.get()));
            }
        }
        self.cluster().reset_positions(&group, &route.topic, &moves)?;
        Ok(moves.into_iter().map(|(entry, offset)| (entry.queue().clone(), offset)).collect())
    }

    fn writable_route(&self, topic: &str) -> Result<std::sync::Arc<Route>> {
        let route = self.cluster().existing_route(topic)?;
        route.check_readable()?;
        self.cluster().brokers().iter().try_for_each(|broker| broker.check_writable())?;
        Ok(route)
    }
}

/// Returns the place in a queue that somebody asks for.
fn place_of(entry: &RouteQueue, to: StartFrom) -> Result<QueueOffset> {
    let (topic, queue_id) = (entry.queue().topic(), entry.queue().queue_id());
    let (min, end) = entry.broker.queue_range(topic, queue_id).unwrap_or_default();
    Ok(match to {
        StartFrom::Earliest => min,
        StartFrom::Latest => end,
        StartFrom::Time(time) => entry.broker.offset_at(topic, queue_id, millis_of(time))?,
    })
}

/// Counts what a filter wants from an offset on.
fn count_from(entry: &RouteQueue, from: QueueOffset, filter: &Filter) -> Result<u64> {
    let (topic, queue_id) = (entry.queue().topic(), entry.queue().queue_id());
    let (min, end) = entry.broker.queue_range(topic, queue_id).unwrap_or_default();
    let mut offset = from.max(min);
    let mut count = 0_u64;
    while offset < end {
        let request = PullRequest { topic, queue_id, offset, count_max: PAGE, filter };
        let pulled = entry.broker.pull(&request)?;
        count = count.saturating_add(to_u64(pulled.messages.len()));
        if pulled.next_offset <= offset {
            break;
        }
        offset = pulled.next_offset;
    }
    Ok(count)
}
