//! Who has delayed messages delivered, and where do failed ones go? Both need topics, which are on every broker alike.

use std::sync::Arc;

use super::Cluster;
use crate::broker::{Broker, Stored};
use crate::clock::SteadyClock;
use crate::commitlog::MessageView;
use crate::config::{Background, TopicConfig};
use crate::delay::{Delays, Failed, Recall, SentBack, Worker, send_again, send_back};
use crate::error::{Error, Result};
use crate::sync::{Arrivals, Mutex};
use crate::types::{BrokerName, GroupName, SCHEDULE_TOPIC, TopicName};

/// The deliverers of all brokers, in their order.
#[derive(Debug, Default)]
pub(super) struct AllDelays {
    list: Vec<Arc<Delays>>,
    workers: Mutex<Vec<Worker>>,
}

impl AllDelays {
    /// Prepares the delivery of every broker that may be written to. What is odd goes into `warnings`, one list a
    /// broker.
    pub(super) fn open(
        brokers: &[Arc<Broker>],
        clock: &Arc<SteadyClock>,
        warnings: &mut Vec<Vec<String>>,
    ) -> Result<Self> {
        let mut list = Vec::with_capacity(brokers.len());
        for broker in brokers {
            let mut odd = Vec::new();
            if broker.check_writable().is_ok() {
                list.push(Arc::new(Delays::open(broker, clock, &mut odd)?));
            }
            warnings.push(odd);
        }
        Ok(Self { list, workers: Mutex::default() })
    }

    /// Ends the threads, and where the store closes cleanly writes down how far they have come.
    pub(super) fn stop(&self) {
        self.workers.lock().drain(..).for_each(|worker| worker.stop());
    }

    /// Writes down how far the deliveries have come. Where that fails the broker is not closed cleanly: the next opening
    /// must know that its progress is old.
    pub(super) fn persist(&self) -> Result<()> {
        let mut result = Ok(());
        for delays in &self.list {
            let persisted = delays.persist().inspect_err(|_| delays.broker().keep_abort());
            result = result.and(persisted);
        }
        result
    }

    pub(super) fn troubles(&self) -> impl Iterator<Item = String> {
        self.list.iter().filter_map(|delays| delays.trouble())
    }
}

impl Cluster {
    /// Starts the threads that deliver delayed messages, unless the store is driven by hand.
    pub(super) fn start_delays(self: &Arc<Self>) -> Result<()> {
        if self.config.background == Background::Manual || self.delays.list.is_empty() {
            return Ok(());
        }
        let arrivals = self.arrivals(&TopicName::new(SCHEDULE_TOPIC)?);
        // Not that of the topic: who waits for that one is woken by every timer, this one by few.
        let timers = Arc::new(Arrivals::default());
        for broker in &self.brokers {
            broker.tell_of_delayed(&arrivals);
            broker.tell_of_timers(&timers);
        }
        for delays in &self.delays.list {
            let cluster = Arc::downgrade(self);
            let made = move |name: &TopicName| {
                if let Some(cluster) = cluster.upgrade() {
                    cluster.note_made(name);
                }
            };
            let worker = Worker::start(delays, [&arrivals, &timers].map(Arc::clone), Box::new(made))?;
            self.delays.workers.lock().push(worker);
        }
        Ok(())
    }

    /// Returns the time by which messages are due, in milliseconds since 1970.
    pub(crate) fn due_now(&self) -> i64 {
        self.steady.now_millis()
    }

    /// Takes a message back that waits for its time, and returns the broker that did so and what it stored; `None` where that
    /// was done before. The caller waits for the flush.
    ///
    /// # Errors
    ///
    /// `TooLate`; `InvalidArgument` where the store has no such broker; those of a send.
    pub(crate) fn recall(
        &self,
        name: &BrokerName,
        recall: &Recall<'_>,
    ) -> Result<Option<(Arc<Broker>, Stored)>> {
        let mut all = self.delays.list.iter();
        let Some(delays) = all.find(|delays| delays.broker().name() == name) else {
            self.brokers.first().map_or(Ok(()), |broker| broker.check_writable())?;
            return Err(Error::argument("recall_handle", format!("the store has no broker {name}")));
        };
        let stored = delays.timers().recall(recall)?;
        Ok(stored.map(|stored| (Arc::clone(delays.broker()), stored)))
    }

    /// Tells whether the last step left delayed messages that are due already.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn is_behind(&self) -> bool {
        self.delays.list.iter().any(|delays| delays.is_behind())
    }

    /// Delivers delayed messages that are due, at most 1,000 a broker: for a store that is driven by hand.
    pub(crate) fn deliver_delayed(&self) -> Result<()> {
        let mut result = Ok(());
        for delays in &self.delays.list {
            let (stepped, delivered) = delays.step();
            stepped.made.iter().for_each(|name| self.note_made(name));
            result = result.and(delivered);
        }
        result
    }

    pub(super) fn note_made(&self, name: &TopicName) {
        let _changing = self.changes.lock();
        self.changed(name);
    }

    /// Stores the copy of a failed message that takes its place: in its group's retry topic, behind a delay level, or
    /// among its dead letters. Acknowledge the original only when this has returned `Ok` (contract D14). Blocks as a
    /// send does.
    ///
    /// # Errors
    ///
    /// Those of a send: keep the message then, and try it again later.
    pub(crate) fn send_back(&self, failed: &Failed<'_>) -> Result<SentBack> {
        self.check_open()?;
        self.make_group_topic(&TopicName::retry_of(failed.group))?;
        if failed.may_be_last() {
            self.make_group_topic(&TopicName::dead_letters_of(failed.group))?;
        }
        send_back(failed)
    }

    /// Puts a dead letter into its group's retry topic, as a message that has not been tried yet.
    pub(crate) fn redrive(
        &self,
        broker: &Broker,
        group: &GroupName,
        message: &MessageView,
    ) -> Result<Stored> {
        self.check_open()?;
        self.make_group_topic(&TopicName::retry_of(group))?;
        send_again(broker, group, message)
    }

    /// Makes the retry or dead-letter topic of a group, with one queue on every broker, where it is missing. Durable
    /// on return.
    pub(crate) fn make_group_topic(&self, name: &TopicName) -> Result<()> {
        self.make_on_all(name, TopicConfig::queues(1))
    }

    /// Makes a topic that nobody asked for on every broker that lacks it. Durable on return.
    pub(super) fn make_on_all(&self, name: &TopicName, config: TopicConfig) -> Result<()> {
        let missing = |broker: &&Arc<Broker>| broker.topic(name.as_str()).is_none();
        if !self.brokers.iter().any(|broker| missing(&broker)) {
            return Ok(());
        }
        let _changing = self.changes.lock();
        let made = self
            .brokers
            .iter()
            .filter(missing)
            .try_for_each(|broker| broker.set_topic(name, config).map(drop));
        self.changed(name);
        made
    }
}
