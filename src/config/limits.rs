//! How much may wait in a store, and what becomes of a message that does not fit?

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::types::TopicName;

/// What happens where a message does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// The send is refused: [`StoreBusy`](crate::Error::StoreBusy), nothing is stored. The default.
    #[default]
    Reject,
    /// The send waits until there is room, at most [`Limit::wait`], and is then refused. A store that is driven by hand
    /// does not wait.
    Block,
    /// The oldest messages make room, whether they have been consumed or not; for a whole store, a sixty-fourth more of
    /// them than needed, or whole log files. That they are gone is on disk within
    /// [`offset_persist_interval`](crate::StoreBuilder::offset_persist_interval): a crash may bring back those of this
    /// long, until the next message needs their room.
    DeleteOldest,
}

/// How many messages, and how many bytes of them, may wait in one place.
///
/// A message waits until every group that is registered for its topic has consumed it; a topic without a group keeps all
/// its messages waiting until retention takes them. The bytes are those of the messages' records in the log. For a
/// whole store they are those of the log's files, with everything in them: the limit on its disk.
///
/// The limit is looked at before a message is stored. Sends that run at the same moment do not see each other, so each
/// of them may exceed it by one message or batch, and together they may exceed the bytes of a store by one log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use = "a limit does nothing until a store is opened with it"]
pub struct Limit {
    pub(crate) count: Option<u64>,
    pub(crate) bytes: Option<u64>,
    pub(crate) overflow: Overflow,
    pub(crate) wait: Duration,
}

impl Default for Limit {
    fn default() -> Self {
        Self::new()
    }
}

impl Limit {
    /// Limits nothing yet.
    pub const fn new() -> Self {
        Self { count: None, bytes: None, overflow: Overflow::Reject, wait: Duration::from_secs(3) }
    }

    /// Sets how many messages may wait. Default: any number. At least 1.
    pub const fn count(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// Sets how many bytes may wait. Default: any number. At least 1; for a store at least two log files.
    pub const fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = Some(bytes);
        self
    }

    /// Sets what happens where a message does not fit. Default: [`Overflow::Reject`].
    pub const fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Sets how long a send waits under [`Overflow::Block`]. Default 3 s, as RocketMQ's `sendMsgTimeout`; at most 1 h.
    pub const fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    fn check(&self, bytes_min: u64) -> Result<()> {
        if self.count == Some(0) {
            return Err(Error::config("limits.count", "must be at least 1"));
        }
        if let Some(bytes) = self.bytes.filter(|bytes| *bytes < bytes_min) {
            let reason = format!("{bytes} bytes: at least {bytes_min} are needed");
            return Err(Error::config("limits.bytes", reason));
        }
        if self.wait > Duration::from_secs(3_600) {
            return Err(Error::config("limits.wait", "must be at most 1 h"));
        }
        Ok(())
    }
}

/// The limits of a store: for all of it, for topics, for the queues of topics. On each broker, as the numbers of a
/// topic's queues are. RocketMQ has none of these.
///
/// Retry topics, dead letters and RocketMQ's own topics are never refused for a limit and do not count, because what was
/// taken once must be able to go on; only the bytes of a store hold them as well. Settings of the opening, not of the
/// folder.
///
/// ```
/// use pocketmq::{Limit, Limits, Overflow, Store};
///
/// # let dir = tempfile::tempdir()?;
/// let store = Store::builder(dir.path())
///     .limits(
///         Limits::new()
///             .store(Limit::new().bytes(4 << 30))
///             .topic("orders", Limit::new().count(100_000).overflow(Overflow::Block))
///             .queue("prices", Limit::new().count(1_000).overflow(Overflow::DeleteOldest)),
///     )
///     .open()?;
/// # store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "limits do nothing until a store is opened with them"]
pub struct Limits {
    pub(crate) store: Option<Limit>,
    pub(crate) topics: BTreeMap<String, Limit>,
    pub(crate) queues: BTreeMap<String, Limit>,
}

impl Limits {
    /// Limits nothing. This is what a store does that is told nothing.
    pub const fn new() -> Self {
        Self { store: None, topics: BTreeMap::new(), queues: BTreeMap::new() }
    }

    /// Limits each broker of the store. Files of the log that every group has consumed go at once where its bytes are
    /// used up.
    pub const fn store(mut self, limit: Limit) -> Self {
        self.store = Some(limit);
        self
    }

    /// Limits a topic.
    pub fn topic(mut self, topic: impl Into<String>, limit: Limit) -> Self {
        self.topics.insert(topic.into(), limit);
        self
    }

    /// Limits each queue of a topic.
    pub fn queue(mut self, topic: impl Into<String>, limit: Limit) -> Self {
        self.queues.insert(topic.into(), limit);
        self
    }

    /// Tells whether nothing is limited.
    pub(crate) fn is_empty(&self) -> bool {
        self.store.is_none() && self.topics.is_empty() && self.queues.is_empty()
    }

    /// Checks every limit against its range.
    pub(crate) fn check(&self) -> Result<()> {
        let named = self.topics.iter().chain(&self.queues);
        for (name, limit) in named {
            let topic = TopicName::new(name);
            if topic.is_err() || topic.is_ok_and(|topic| !may_be_limited(&topic)) {
                let reason = format!("{name:?} is no topic of the application's");
                return Err(Error::config("limits.topic", reason));
            }
            limit.check(1)?;
        }
        self.store.map_or(Ok(()), |limit| limit.check(1))
    }

    /// Checks what depends on the size of the log's files, which only the folder knows.
    pub(crate) fn check_file_size(&self, file_size: u64) -> Result<()> {
        self.store.map_or(Ok(()), |limit| limit.check(file_size.saturating_mul(2)))
    }
}

/// Tells whether a topic counts and may be refused.
pub(crate) fn may_be_limited(topic: &TopicName) -> bool {
    !(topic.is_system() || topic.is_retry() || topic.is_dead_letters())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b6_a_limit_that_makes_no_sense_is_refused_by_name() {
        let limit = Limit::new();
        for (wrong, named) in [
            (Limits::new().topic("orders", limit.count(0)), "limits.count"),
            (Limits::new().queue("orders", limit.bytes(0)), "limits.bytes"),
            (Limits::new().store(limit.wait(Duration::from_secs(3_601))), "limits.wait"),
            (Limits::new().topic("no name", limit), "limits.topic"),
            (Limits::new().topic("%RETRY%billing", limit), "limits.topic"),
            (Limits::new().queue("SCHEDULE_TOPIC_XXXX", limit), "limits.topic"),
        ] {
            let error = wrong.check().unwrap_err();
            assert!(matches!(error, Error::InvalidConfig { field, .. } if field == named), "{error}");
        }
        Limits::new().store(limit.count(1)).topic("orders", limit.bytes(1)).check().unwrap();
        let store = Limits::new().store(limit.bytes(8_191));
        store.check().unwrap();
        assert!(store.check_file_size(4_096).is_err());
        store.check_file_size(4_095).unwrap();
    }
}
