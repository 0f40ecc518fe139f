//! What does a consumer need to be told before it starts?

use std::sync::Arc;
use std::time::SystemTime;

use super::Consumer;
use super::member::{Member, Subscription};
use crate::cluster::{Cluster, GroupKind, RouteQueue};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::types::{GroupName, QueueOffset, TopicName};

/// Where a group starts in a queue in which it has no position yet (RocketMQ's `ConsumeFromWhere`).
///
/// It counts only once: from then on the group goes on where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
#[doc(alias = "ConsumeFromWhere")]
pub enum StartFrom {
    /// At the first message that exists. The default; RocketMQ's is the last, which on a young topic it takes for the
    /// first.
    #[default]
    Earliest,
    /// Behind the last message that exists when `build` runs.
    Latest,
    /// At the first message that was stored at this time or later.
    Time(SystemTime),
}

/// Builds a [`Consumer`].
#[derive(Debug)]
#[must_use = "a builder does nothing until build() is called"]
pub struct ConsumerBuilder {
    cluster: Arc<Cluster>,
    group: String,
    subscriptions: Vec<(String, Filter)>,
    start: StartFrom,
}

impl ConsumerBuilder {
    pub(crate) fn new(cluster: Arc<Cluster>, group: &str) -> Self {
        Self { cluster, group: group.to_owned(), subscriptions: Vec::new(), start: StartFrom::default() }
    }

    /// Subscribes a topic: the messages whose tags the filter accepts. `"*"` accepts all, `"created || paid"` two tags.
    /// Call it once for each topic.
    pub fn subscribe(mut self, topic: &str, filter: impl Into<Filter>) -> Self {
        self.subscriptions.push((topic.to_owned(), filter.into()));
        self
    }

    /// Says where the group starts in queues in which it has no position yet. Default: [`StartFrom::Earliest`].
    pub const fn start_from(mut self, start: StartFrom) -> Self {
        self.start = start;
        self
    }

    /// Makes the consumer. Where the group starts is on disk when this returns, so nothing that is sent afterwards is
    /// skipped, crash or not. Blocks for that sync.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a name or a filter that is none; `InvalidConfig` without a subscription, with two of one
    /// topic, or if the group has a consumer already; `PermissionDenied` if a topic may not be read; `Closed`;
    /// `StoreFull` and `Io`.
    pub fn build(self) -> Result<Consumer> {
        self.cluster.check_open()?;
        let group = GroupName::new(&self.group)?;
        if self.subscriptions.is_empty() {
            return Err(Error::config("subscribe", "a consumer needs a topic: call subscribe(topic, \"*\")"));
        }
        let mut subscriptions: Vec<Subscription> = Vec::new();
        for (topic, filter) in self.subscriptions {
            filter.check()?;
            let topic = TopicName::new(&topic)?;
            if subscriptions.iter().any(|known| known.topic == topic) {
                let reason = format!("topic {topic} is subscribed twice: join the tags with ||");
                return Err(Error::config("subscribe", reason));
            }
            subscriptions.push(Subscription { topic, filter });
        }
        self.cluster.brokers().iter().try_for_each(|broker| broker.check_writable())?;
        let seat = self.cluster.join_group(&group, GroupKind::Consumer)?;
        let member = Member::new(self.cluster, seat, subscriptions, self.start)?;
        Ok(Consumer { member: Arc::new(member) })
    }
}

/// Returns where a group starts in a queue that is new to it.
pub(super) fn first_offset(entry: &RouteQueue, start: StartFrom) -> Result<QueueOffset> {
    let (topic, queue_id) = (entry.queue().topic(), entry.queue().queue_id());
    let (min, max) = entry.broker.queue_range(topic, queue_id).unwrap_or_default();
    Ok(match start {
        StartFrom::Earliest => min,
        StartFrom::Latest => max,
        StartFrom::Time(time) => entry.broker.offset_at(topic, queue_id, millis(time))?,
    })
}

/// Returns a time in milliseconds since 1970.
fn millis(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis),
    }
}
