//! Who looks after the transactions of all brokers? The topics that they need are on every broker alike.

use std::sync::Arc;

use super::{Cluster, Driven};
use crate::broker::Broker;
use crate::config::{Background, StoreConfig, TopicConfig};
use crate::error::{Error, Result};
use crate::sync::{Arrivals, Mutex};
use crate::txn::{CheckPool, Checkers, PoolSize, TransactionListener, Transactions, Worker};
use crate::types::{GIVEN_UP_TOPIC, GroupName, HALF_TOPIC, OP_TOPIC, TopicName};

/// The transactions of all brokers, in their order.
#[derive(Debug)]
pub(super) struct AllTransactions {
    list: Vec<Arc<Transactions>>,
    checkers: Arc<Checkers>,
    arrivals: Arc<Arrivals>,
    worker: Mutex<Option<Worker>>,
}

impl AllTransactions {
    /// Finds what is undecided in every broker. What is odd goes into `warnings`, one list a broker.
    pub(super) fn open(
        brokers: &[Arc<Broker>],
        (config, clock): (&StoreConfig, &Arc<dyn crate::clock::Clock>),
        warnings: &mut [Vec<String>],
    ) -> Result<Self> {
        let (checkers, arrivals) = (Arc::default(), Arc::default());
        let mut list = Vec::with_capacity(brokers.len());
        for (broker, warnings) in brokers.iter().zip(warnings) {
            let (times, told) = ((clock, config.transactions), (&checkers, &arrivals));
            list.push(Arc::new(Transactions::open(broker, times, told, warnings)?));
        }
        Ok(Self { list, checkers, arrivals, worker: Mutex::default() })
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        if let Some(worker) = &*self.worker.lock() {
            worker.stop();
        }
    }

    /// Writes down how far everything is decided.
    pub(super) fn persist(&self) -> Result<()> {
        let mut result = Ok(());
        for transactions in &self.list {
            result = result.and(transactions.persist());
        }
        result
    }

    pub(super) fn troubles(&self) -> impl Iterator<Item = String> {
        self.list.iter().filter_map(|transactions| transactions.trouble())
    }

    fn start(&self) -> Result<()> {
        let mut worker = self.worker.lock();
        if let Some(worker) = &*worker {
            worker.wake();
            return Ok(());
        }
        *worker = Some(Worker::start(self.list.clone(), Arc::clone(&self.arrivals))?);
        Ok(())
    }
}

impl Driven for CheckPool {
    fn step(&self) {
        self.run_waiting();
    }

    fn stop(&self) {
        Self::stop(self);
    }
}

impl Cluster {
    /// Starts the thread that looks after transactions, unless the store is driven by hand.
    pub(super) fn start_transactions(self: &Arc<Self>) -> Result<()> {
        for transactions in &self.transactions.list {
            let cluster = Arc::downgrade(self);
            transactions.tell_of_topics(Box::new(move |name: &TopicName| {
                if let Some(cluster) = cluster.upgrade() {
                    cluster.note_made(name);
                }
            }));
        }
        let undecided = |one: &Arc<Transactions>| one.has_work();
        if self.transactions.list.iter().any(undecided) { self.look_after_transactions() } else { Ok(()) }
    }

    fn look_after_transactions(&self) -> Result<()> {
        let writable = self.brokers.iter().any(|broker| broker.check_writable().is_ok());
        if self.config.background == Background::Manual || !writable {
            return Ok(());
        }
        self.transactions.start()
    }

    /// Does what is due about transactions: for a store that is driven by hand.
    pub(crate) fn step_transactions(&self) -> Result<()> {
        let mut result = Ok(());
        for transactions in &self.transactions.list {
            result = result.and(transactions.step().1);
        }
        result
    }

    /// Makes the pool in which a producer is asked about transactions of its group, and has those checked that wait.
    ///
    /// # Errors
    ///
    /// `Closed`; `Unsupported` on a store that was opened read-only; `StoreFull`; `Io`.
    pub(crate) fn add_checker(
        &self,
        group: &GroupName,
        listener: Arc<dyn TransactionListener>,
        size: PoolSize,
    ) -> Result<Arc<CheckPool>> {
        self.check_open()?;
        self.brokers.iter().try_for_each(|broker| broker.check_writable())?;
        self.make_transaction_topics()?;
        let pool = CheckPool::new(listener, size, self.config.background);
        let driven: std::sync::Weak<CheckPool> = Arc::downgrade(&pool);
        self.drive(driven);
        self.transactions.checkers.add(group, &pool);
        self.look_after_transactions()?;
        Ok(pool)
    }

    /// Makes RocketMQ's own topics for transactions where they are missing. Durable on return.
    pub(crate) fn make_transaction_topics(&self) -> Result<()> {
        for name in [HALF_TOPIC, OP_TOPIC, GIVEN_UP_TOPIC] {
            self.make_on_all(&TopicName::new(name)?, TopicConfig::queues(1))?;
        }
        Ok(())
    }

    /// Returns the transactions of every broker, in the order of the brokers.
    pub(crate) fn transactions(&self) -> &[Arc<Transactions>] {
        &self.transactions.list
    }

    /// Returns the transactions of a broker.
    pub(crate) fn transactions_of(&self, broker: &Broker) -> Result<&Arc<Transactions>> {
        let is_its = |one: &&Arc<Transactions>| one.broker().name() == broker.name();
        self.transactions.list.iter().find(is_its).ok_or(Error::Closed)
    }
}
