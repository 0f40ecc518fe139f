//! What can a user set, what is it when nobody sets it, and which values make no sense?

mod delay;
mod limits;
mod policy;
mod retention;
mod retry;
mod sizes;
mod topic;
mod transaction;

use std::time::Duration;

pub(crate) use delay::{DELAY_LEVELS_MAX, DelayLevels};
pub(crate) use limits::may_be_limited;
pub use limits::{Limit, Limits, Overflow};
pub use policy::{
    AutoCreate, Background, FlushPolicy, OnMissingOffsets, RecordChecksum, RecoveryMode, RocketmqVersion,
};
pub(crate) use retention::Unconsumed;
pub use retention::{DiskRatios, Retention};
pub use retry::RetryPolicy;
pub use sizes::FileSizes;
pub(crate) use topic::QUEUES_MAX;
pub use topic::{Permission, TopicConfig, TopicKind};
pub use transaction::TransactionPolicy;

use crate::error::{Error, Result};

/// The longest time between two background flushes that may be set.
const FLUSH_INTERVAL_MAX: Duration = Duration::from_secs(3_600);
/// The shortest one: a shorter one would keep the flusher busy all the time.
const FLUSH_INTERVAL_MIN: Duration = Duration::from_millis(1);
/// The largest body that may be allowed: a record must fit a 32-bit size with room for everything else.
const MESSAGE_SIZE_MAX: u32 = 1 << 30;

/// The furthest that a timer may be set ahead: 100 years of 365 days.
const TIMER_DELAY_MAX: Duration = Duration::from_secs(36_500 * 86_400);

/// Every setting of a store, with RocketMQ's defaults unless said otherwise.
#[derive(Debug, Clone)]
pub(crate) struct StoreConfig {
    /// When a message counts as stored durably.
    pub(crate) flush: FlushPolicy,
    /// The longest time that a message stays unflushed under async flush.
    pub(crate) flush_interval: Duration,
    /// How long a send waits for its flush under sync flush.
    pub(crate) sync_flush_timeout: Duration,
    /// How often positions and the checkpoint are written.
    pub(crate) persist_interval: Duration,
    /// File sizes of a new broker folder.
    pub(crate) sizes: FileSizes,
    /// The largest body, in bytes.
    pub(crate) message_size_max: u32,
    /// What the checksum of a record covers.
    pub(crate) checksum: RecordChecksum,
    /// What an opening does about damage in the flushed part of the log.
    pub(crate) recovery: RecoveryMode,
    /// What an opening does when committed positions cannot be read.
    pub(crate) on_missing_offsets: OnMissingOffsets,
    /// Whether sending creates a topic.
    pub(crate) auto_create: AutoCreate,
    /// Who drives the background work.
    pub(crate) background: Background,
    /// Free bytes of the disk below which sends are refused; `None`: two log files.
    pub(crate) free_space_min: Option<u64>,
    /// How many windows of queue files may be mapped at once.
    pub(crate) queue_maps_max: usize,
    /// When old data goes.
    pub(crate) retention: Retention,
    /// The delays of the levels, as `messageDelayLevel` states them; `None`: what the folder says, else RocketMQ's.
    pub(crate) delay_levels: Option<Box<str>>,
    /// How far ahead a message may be delivered that has a time of its own.
    pub(crate) timer_delay_max: Duration,
    /// How much may wait.
    pub(crate) limits: Limits,
    /// Which version of RocketMQ must be able to read the store.
    pub(crate) version: RocketmqVersion,
    /// How undecided transactions are checked back.
    pub(crate) transactions: TransactionPolicy,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            flush: FlushPolicy::Async,
            flush_interval: Duration::from_millis(500),
            sync_flush_timeout: Duration::from_secs(5),
            persist_interval: Duration::from_secs(5),
            sizes: FileSizes::default(),
            message_size_max: 4 * 1024 * 1024,
            checksum: RecordChecksum::WholeRecord,
            recovery: RecoveryMode::Strict,
            on_missing_offsets: OnMissingOffsets::Refuse,
            auto_create: AutoCreate::Queues(4),
            background: Background::Threads,
            free_space_min: None,
            queue_maps_max: 4_096,
            retention: Retention::new(),
            delay_levels: None,
            timer_delay_max: TIMER_DELAY_MAX,
            limits: Limits::new(),
            version: RocketmqVersion::V5,
            transactions: TransactionPolicy::new(),
        }
    }
}

impl StoreConfig {
    /// Refuses messages with a time of their own where RocketMQ 4.9 is to read the store.
    pub(crate) fn check_timers(&self) -> Result<()> {
        if self.version == RocketmqVersion::V4_9 {
            return Err(Error::unsupported(
                "RocketMQ 4.9 has no timers: use Message::delay_level, or open with rocketmq_version(V5)",
            ));
        }
        Ok(())
    }

    /// Checks every setting against its range.
    pub(crate) fn check(&self) -> Result<()> {
        if !(FLUSH_INTERVAL_MIN..=FLUSH_INTERVAL_MAX).contains(&self.flush_interval) {
            return Err(Error::config("flush_interval", "must be between 1 ms and 1 h"));
        }
        if !(FLUSH_INTERVAL_MIN..=FLUSH_INTERVAL_MAX).contains(&self.persist_interval) {
            return Err(Error::config("offset_persist_interval", "must be between 1 ms and 1 h"));
        }
        if !(FLUSH_INTERVAL_MIN..=FLUSH_INTERVAL_MAX).contains(&self.sync_flush_timeout) {
            return Err(Error::config("sync_flush_timeout", "must be between 1 ms and 1 h"));
        }
        if self.message_size_max == 0 || self.message_size_max > MESSAGE_SIZE_MAX {
            return Err(Error::config("max_message_size", "must be between 1 byte and 1 GiB"));
        }
        if self.queue_maps_max < 16 {
            return Err(Error::config("queue_maps_max", "must be at least 16"));
        }
        if let Some(levels) = &self.delay_levels {
            DelayLevels::parse(levels)?;
        }
        if self.timer_delay_max.as_millis() == 0 || self.timer_delay_max > TIMER_DELAY_MAX {
            return Err(Error::config("timer_delay_max", "must be between 1 ms and 36,500 days"));
        }
        if let AutoCreate::Queues(count) = self.auto_create {
            TopicConfig::queues(count).check().map_err(|_| {
                Error::config(
                    "auto_create_topics",
                    format!("{count} queues: 1 to {} are allowed", topic::QUEUES_MAX),
                )
            })?;
        }
        self.retention.check()?;
        self.limits.check()?;
        self.transactions.check()?;
        self.sizes.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        StoreConfig::default().check().unwrap();
        StoreConfig { sizes: FileSizes::rocketmq(), ..StoreConfig::default() }.check().unwrap();
    }

    #[test]
    fn b6_an_interval_of_zero_or_above_an_hour_is_refused() {
        for interval in [Duration::ZERO, Duration::from_secs(3_601)] {
            let config = StoreConfig { flush_interval: interval, ..StoreConfig::default() };
            let error = config.check().unwrap_err();
            assert!(matches!(error, Error::InvalidConfig { field: "flush_interval", .. }), "{error}");
        }
        let hour = Duration::from_secs(3_600);
        StoreConfig { flush_interval: hour, ..StoreConfig::default() }.check().unwrap();
        let config = StoreConfig { sync_flush_timeout: Duration::ZERO, ..StoreConfig::default() };
        assert!(config.check().is_err());
    }

    #[test]
    fn b11_automatic_topics_need_a_sensible_number_of_queues() {
        for count in [0, 65_536] {
            let config = StoreConfig { auto_create: AutoCreate::Queues(count), ..StoreConfig::default() };
            assert!(matches!(config.check(), Err(Error::InvalidConfig { field: "auto_create_topics", .. })));
        }
    }
}
