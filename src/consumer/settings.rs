//! What can a consumer be told, what holds if it is told nothing, and what makes no sense?

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::listener::ConsumeMessageHook;
use super::retry::Retries;
use crate::cluster::{Allocate, AllocateMessageQueueStrategy};
use crate::dedup::SameBy;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::types::{MessageQueue, TopicName, to_u64};

/// The longest time that any wait of a consumer may be set to.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3_600);
/// The shortest and the longest suspension of an orderly queue (RocketMQ clamps to the same).
pub(super) const SUSPEND_MIN: Duration = Duration::from_millis(10);
/// See [`SUSPEND_MIN`].
pub(super) const SUSPEND_MAX: Duration = Duration::from_secs(30);

/// Where a group starts in a queue in which it has no position yet (RocketMQ's `ConsumeFromWhere`).
///
/// It counts only once: from then on the group goes on where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
#[doc(alias = "ConsumeFromWhere")]
pub enum StartFrom {
    /// At the first message that exists. The default of a clustering group; RocketMQ's is the last, which on a young
    /// topic it takes for the first.
    #[default]
    #[doc(alias = "CONSUME_FROM_FIRST_OFFSET")]
    Earliest,
    /// Behind the last message that exists when `build` runs. The default of a broadcasting member.
    #[doc(alias = "CONSUME_FROM_LAST_OFFSET")]
    Latest,
    /// At the first message that was stored at this time or later.
    #[doc(alias = "CONSUME_FROM_TIMESTAMP")]
    Time(SystemTime),
}

/// In which order the messages of one queue are handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Several at once; one that fails lets the others pass.
    Concurrent,
    /// One after the other; one that fails holds its queue.
    Orderly,
}

/// How messages reach the application. All members of a group do the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// They are handed out, and acknowledged one by one.
    Handed,
    /// The application reads, and says how far it has come.
    Pulled,
    /// They are leased for a time.
    Leased,
}

/// How much of one queue may be under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct FlowLimits {
    pub(super) messages: usize,
    pub(super) bytes: u64,
    pub(super) span: usize,
    pub(super) pull_batch: usize,
}

/// What a group wants of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) topic: TopicName,
    pub(super) filter: Arc<Filter>,
}

/// What all members of a group must agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    /// Sorted by topic.
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) kind: Kind,
    pub(super) mode: Mode,
    /// By what, and for how long, a message that was handled is not handed out again.
    pub(super) same: Option<(SameBy, Duration)>,
}

/// The queues of one topic and which of them a member has, after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueChange {
    /// The topic.
    pub topic: TopicName,
    /// All its queues, sorted.
    pub all: Vec<MessageQueue>,
    /// Those that the member has now, sorted.
    pub assigned: Vec<MessageQueue>,
}

/// Told when a member's queues change.
pub(super) type QueueListener = Arc<dyn Fn(&QueueChange) + Send + Sync>;

/// What one member may set for itself.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) limits: FlowLimits,
    /// The same for all queues of a topic that a member has, where set: messages and bytes.
    pub(super) topic_limits: (Option<usize>, Option<u64>),
    pub(super) strategy: Arc<dyn AllocateMessageQueueStrategy>,
    pub(super) handover_timeout: Duration,
    pub(super) consume_timeout: Duration,
    pub(super) suspend: Duration,
    pub(super) retries: Retries,
    /// How long a simple consumer waits for the first message.
    pub(super) await_duration: Duration,
    /// Messages that a group may have leased on one broker.
    pub(super) leases_max: usize,
    pub(super) instance: Option<String>,
    pub(super) queue_listener: Option<QueueListener>,
    pub(super) hooks: Vec<Arc<dyn ConsumeMessageHook>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: FlowLimits { messages: 1_000, bytes: 100 << 20, span: 2_000, pull_batch: 32 },
            topic_limits: (None, None),
            strategy: Arc::new(Allocate::default()),
            handover_timeout: Duration::from_secs(20),
            consume_timeout: Duration::from_secs(15 * 60),
            suspend: Duration::from_secs(1),
            retries: Retries::default(),
            await_duration: Duration::from_secs(30),
            leases_max: 10_000,
            instance: None,
            queue_listener: None,
            hooks: Vec::new(),
        }
    }
}

impl Settings {
    /// Returns how much of one queue may be under way, of so many of its topic that the member has.
    pub(super) fn limits_of(&self, queues: usize) -> FlowLimits {
        let (messages, bytes) = self.topic_limits;
        let share = |limit: usize| limit.checked_div(queues).unwrap_or(limit).max(1);
        let share_bytes = |limit: u64| limit.checked_div(to_u64(queues)).unwrap_or(limit).max(1);
        let FlowLimits { messages: own, bytes: own_bytes, .. } = self.limits;
        FlowLimits {
            messages: messages.map_or(own, share),
            bytes: bytes.map_or(own_bytes, share_bytes),
            ..self.limits
        }
    }

    /// Checks every setting against its range, which is RocketMQ's where it has one.
    pub(super) fn check(&self) -> Result<()> {
        let FlowLimits { messages, bytes, span, pull_batch } = self.limits;
        in_range("pull_threshold", messages, 1, 65_535)?;
        in_range("concurrent_span_max", span, 1, 65_535)?;
        in_range("pull_batch_size", pull_batch, 1, 1_024)?;
        if !((1 << 20)..=(1 << 30)).contains(&bytes) {
            return Err(Error::config("pull_threshold_bytes", "must be between 1 MiB and 1 GiB"));
        }
        in_range("leases_max", self.leases_max, 1, crate::lease::CELLS)?;
        if self.await_duration > WAIT_MAX {
            return Err(Error::config("await_duration", "must be at most 24 h"));
        }
        in_range("pull_threshold_for_topic", self.topic_limits.0.unwrap_or(1), 1, 6_553_500)?;
        if !((1 << 20)..=(100 << 30)).contains(&self.topic_limits.1.unwrap_or(1 << 20)) {
            return Err(Error::config("pull_threshold_bytes_for_topic", "must be between 1 MiB and 100 GiB"));
        }
        wait_in_range("handover_timeout", self.handover_timeout)?;
        wait_in_range("consume_timeout", self.consume_timeout)?;
        if !(SUSPEND_MIN..=SUSPEND_MAX).contains(&self.suspend) {
            return Err(Error::config("suspend_time", "must be between 10 ms and 30 s"));
        }
        self.retries.check()
    }
}

/// Checks a number against its range.
pub(super) fn in_range(field: &'static str, value: usize, min: usize, max: usize) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::config(field, format!("is {value}: {min} to {max} are allowed")))
}

fn wait_in_range(field: &'static str, wait: Duration) -> Result<()> {
    if (Duration::from_millis(1)..=WAIT_MAX).contains(&wait) {
        return Ok(());
    }
    Err(Error::config(field, "must be between 1 ms and 24 h"))
}
