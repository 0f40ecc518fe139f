//! How much goes in and out, and how fast?
//!
//! The counters are offsets: the end of a queue is the number of messages that it ever had, a committed position the
//! number that a group has consumed. So nobody counts, and a restart loses nothing. A rate is the difference of two
//! samples.

use std::time::Duration;

use super::Admin;
use super::topics::queue_ids;
use crate::error::Result;
use crate::types::{BrokerName, GroupName, PhysicalOffset, TopicName};

/// The counters of a store at one moment (RocketMQ's `statsAll`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[doc(alias = "BrokerStatsManager")]
pub struct Stats {
    /// When they were read, by the monotonic clock of the store.
    pub at: Duration,
    /// The brokers, by name.
    pub brokers: Vec<BrokerStats>,
    /// The topics, by name.
    pub topics: Vec<TopicStats>,
    /// What each group has consumed of each topic, by group and topic.
    pub consumed: Vec<ConsumeStats>,
}

/// The counters of one broker.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerStats {
    /// The broker.
    pub broker: BrokerName,
    /// Where its log begins.
    pub log_start: PhysicalOffset,
    /// Where its log ends: the bytes that were ever stored.
    pub log_end: PhysicalOffset,
    /// Everything before this is on disk.
    pub flushed: PhysicalOffset,
    /// Everything before this is visible to consumers.
    pub dispatched: PhysicalOffset,
    /// Everything before this is in the index of keys.
    pub indexed: PhysicalOffset,
    /// Bytes that are free on the disk of the log.
    pub free_bytes: u64,
}

/// The counters of one topic, over all brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicStats {
    /// The topic.
    pub topic: TopicName,
    /// Messages that were ever stored in it, since it was made.
    pub stored: u64,
    /// Messages that it holds.
    pub held: u64,
}

/// The counters of one group in one topic, over all brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumeStats {
    /// The group.
    pub group: GroupName,
    /// The topic.
    pub topic: TopicName,
    /// Messages that it has passed since the topic was made.
    pub passed: u64,
}

/// How fast a counter has risen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// By how much.
    pub count: u64,
    /// In which time.
    pub over: Duration,
}

impl Rate {
    /// Returns how many a second; 0 where no time has passed.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        let seconds = self.over.as_secs_f64();
        if seconds > 0.0 { float(self.count) / seconds } else { 0.0 }
    }
}

/// Returns a count as a float: exact in its two halves, as far as a `f64` goes.
pub(super) fn float(count: u64) -> f64 {
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).map_or(0.0, f64::from);
    half(count >> 32) * 4_294_967_296.0 + half(count)
}

/// How fast everything has risen between two samples.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rates {
    /// Bytes stored, by broker.
    pub bytes_stored: Vec<(BrokerName, Rate)>,
    /// Messages stored, by topic.
    pub stored: Vec<(TopicName, Rate)>,
    /// Messages passed, by group and topic.
    pub consumed: Vec<(GroupName, TopicName, Rate)>,
}

impl Stats {
    /// Returns how fast everything has risen since an earlier sample. What did not exist then counts from 0; a counter
    /// that has fallen, because a topic was made anew or a group went back, counts as still.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Rates {
        let over = self.at.saturating_sub(earlier.at);
        let rate =
            |now: u64, before: Option<u64>| Rate { count: now.saturating_sub(before.unwrap_or(0)), over };
        let broker_before = |name: &BrokerName| {
            earlier.brokers.iter().find(|old| old.broker == *name).map(|old| old.log_end.get())
        };
        let topic_before =
            |name: &TopicName| earlier.topics.iter().find(|old| old.topic == *name).map(|old| old.stored);
        let group_before = |now: &ConsumeStats| {
            let same = |old: &&ConsumeStats| old.group == now.group && old.topic == now.topic;
            earlier.consumed.iter().find(same).map(|old| old.passed)
        };
        let brokers = self.brokers.iter();
        let (topics, consumed) = (self.topics.iter(), self.consumed.iter());
        Rates {
            bytes_stored: brokers
                .map(|now| (now.broker.clone(), rate(now.log_end.get(), broker_before(&now.broker))))
                .collect(),
            stored: topics
                .map(|now| (now.topic.clone(), rate(now.stored, topic_before(&now.topic))))
                .collect(),
            consumed: consumed
                .map(|now| (now.group.clone(), now.topic.clone(), rate(now.passed, group_before(now))))
                .collect(),
        }
    }
}

impl Admin {
    /// Reads all counters. Costs a look at each queue and each position; senders and consumers pay nothing.
    ///
    /// ```
    /// use pocketmq::{Message, Store};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let before = store.admin().stats()?;
    /// store.producer("shop")?.send(Message::new("orders", "hello"))?;
    /// let rates = store.admin().stats()?.since(&before);
    /// assert_eq!(rates.stored[0].1.count, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `Closed`; `Io` where the disk cannot be asked for its free space.
    #[doc(alias = "statsAll")]
    #[doc(alias = "brokerStatus")]
    pub fn stats(&self) -> Result<Stats> {
        self.cluster.check_open()?;
        let at = self.cluster.clock().monotonic();
        let mut brokers = Vec::new();
        for broker in self.cluster.brokers() {
            let (log_start, log_end) = broker.log_range();
            brokers.push(BrokerStats {
                broker: broker.name().clone(),
                log_start,
                log_end,
                flushed: broker.flushed(),
                dispatched: broker.dispatched(),
                indexed: broker.indexed(),
                free_bytes: broker.free_bytes()?,
            });
        }
        let topics = self.cluster.topic_names().into_iter().map(|topic| self.topic_stats(topic)).collect();
        Ok(Stats { at, brokers, topics, consumed: self.consume_stats() })
    }

    fn topic_stats(&self, topic: TopicName) -> TopicStats {
        let mut stats = TopicStats { topic, stored: 0, held: 0 };
        for broker in self.cluster.brokers() {
            for queue_id in queue_ids(broker, &stats.topic) {
                let (min, max) = broker.queue_range(&stats.topic, queue_id).unwrap_or_default();
                stats.stored = stats.stored.saturating_add(max.get());
                stats.held = stats.held.saturating_add(max.since(min));
            }
        }
        stats
    }

    fn consume_stats(&self) -> Vec<ConsumeStats> {
        let mut all: Vec<_> =
            self.cluster.brokers().iter().flat_map(|broker| broker.positions().all()).collect();
        all.sort_by(|(one, _), (other, _)| (&one.group, &one.topic).cmp(&(&other.group, &other.topic)));
        let mut stats: Vec<ConsumeStats> = Vec::new();
        for (key, offset) in all {
            match stats.last_mut().filter(|last| last.group == key.group && last.topic == key.topic) {
                Some(last) => last.passed = last.passed.saturating_add(offset.get()),
                None => stats.push(ConsumeStats { group: key.group, topic: key.topic, passed: offset.get() }),
            }
        }
        stats
    }
}
