//! How do the figures of a store get to where an application collects its own? Through the facade `metrics`.

use metrics::{counter, describe_counter, describe_gauge, gauge};

use super::Admin;
use super::stats::float;
use crate::broker::Health;
use crate::error::Result;

impl Admin {
    /// Hands all figures of the store to the recorder of `metrics` that is installed (or, within
    /// `metrics::with_local_recorder`, to that one): messages stored and consumed, lag, bytes, free space, what was
    /// deleted, health. Call it as often as somebody looks, such as before each scrape: it costs a look at each queue and
    /// each position, and senders and consumers pay nothing. The list is in `docs/operations.md`.
    ///
    /// ```
    /// use pocketmq::Store;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// store.admin().publish_metrics()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `Closed`; `Corrupt`; `Io` where the disk cannot be asked. Some figures may have been handed over then.
    #[doc(alias = "BrokerMetricsManager")]
    pub fn publish_metrics(&self) -> Result<()> {
        describe();
        let stats = self.stats()?;
        for topic in &stats.topics {
            let name = topic.topic.to_string();
            counter!("pocketmq_messages_stored_total", "topic" => name.clone()).absolute(topic.stored);
            gauge!("pocketmq_messages_held", "topic" => name).set(float(topic.held));
        }
        for consumed in &stats.consumed {
            let (group, topic) = (consumed.group.to_string(), consumed.topic.to_string());
            counter!("pocketmq_messages_consumed_total", "group" => group, "topic" => topic)
                .absolute(consumed.passed);
        }
        for broker in &stats.brokers {
            let name = broker.broker.to_string();
            counter!("pocketmq_bytes_stored_total", "broker" => name.clone()).absolute(broker.log_end.get());
            let gauges = [
                ("pocketmq_log_bytes", broker.log_end.since(broker.log_start)),
                ("pocketmq_unflushed_bytes", broker.log_end.since(broker.flushed)),
                ("pocketmq_unindexed_bytes", broker.log_end.since(broker.indexed)),
                ("pocketmq_free_bytes", broker.free_bytes),
            ];
            for (figure, value) in gauges {
                gauge!(figure, "broker" => name.clone()).set(float(value));
            }
        }
        self.publish_deletions();
        self.publish_lag()
    }

    fn publish_deletions(&self) {
        for broker in self.cluster.brokers() {
            let (name, deleted) = (broker.name().to_string(), broker.deletions());
            let counters = [
                ("pocketmq_messages_deleted_total", deleted.messages),
                ("pocketmq_messages_deleted_unconsumed_total", deleted.unconsumed),
                ("pocketmq_log_files_deleted_total", deleted.log_files),
            ];
            for (figure, value) in counters {
                counter!(figure, "broker" => name.clone()).absolute(value);
            }
        }
        let health = match self.cluster.health() {
            Health::Ok => 0.0,
            Health::Degraded(_) => 1.0,
            Health::Failed { .. } => 2.0,
            Health::Closed => 3.0,
        };
        gauge!("pocketmq_health").set(health);
    }

    fn publish_lag(&self) -> Result<()> {
        for group in self.groups()? {
            let name = group.group.to_string();
            let lag = self.lag_of(group.group)?;
            gauge!("pocketmq_lag_messages", "group" => name.clone()).set(float(lag.messages()));
            gauge!("pocketmq_lag_age_seconds", "group" => name).set(lag.age().as_secs_f64());
        }
        Ok(())
    }
}

/// Says what each figure is.
fn describe() {
    describe_counter!("pocketmq_messages_stored_total", "messages ever stored in a topic");
    describe_counter!("pocketmq_messages_consumed_total", "messages that a group has passed in a topic");
    describe_counter!("pocketmq_bytes_stored_total", "bytes ever stored in the log of a broker");
    describe_counter!("pocketmq_messages_deleted_total", "messages deleted by retention and limits");
    describe_counter!(
        "pocketmq_messages_deleted_unconsumed_total",
        "of those, the ones that a group had not consumed"
    );
    describe_counter!("pocketmq_log_files_deleted_total", "files of the log that retention has deleted");
    describe_gauge!("pocketmq_messages_held", "messages in a topic");
    describe_gauge!("pocketmq_lag_messages", "messages that wait for a group");
    describe_gauge!("pocketmq_lag_age_seconds", "how long ago the oldest of them was stored");
    describe_gauge!("pocketmq_log_bytes", "bytes of the log of a broker");
    describe_gauge!("pocketmq_unflushed_bytes", "bytes of the log that are not on disk yet");
    describe_gauge!("pocketmq_unindexed_bytes", "bytes of the log whose keys are not in the index yet");
    describe_gauge!("pocketmq_free_bytes", "bytes that are free on the disk of the log");
    describe_gauge!("pocketmq_health", "0 well, 1 degraded, 2 failed, 3 closed");
}
