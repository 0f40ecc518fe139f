//! WHO HAS WHAT: which broker has which queues of a topic, who belongs to which group, and what time it is for all.
//!
//! The cluster takes the place of RocketMQ's name service. Routes are made from the topics of the brokers when they
//! are first asked for, and dropped when a topic changes, so nobody polls: a waiting consumer is woken.

mod allocate;
mod delays;
mod driven;
mod groups;
mod last_route;
mod nearby;
mod one_step;
mod positions;
mod rebalance;
mod replies;
mod route;
#[cfg(test)]
mod tests;
mod topics;
mod transactions;

use std::collections::HashMap;
use std::sync::Arc;

pub use allocate::{Allocate, AllocateMessageQueueStrategy, Allocation};
use delays::AllDelays;
pub(crate) use driven::Driven;
use driven::DrivenHandles;
pub(crate) use groups::{Circle, GroupSeat, Groups};
pub use nearby::MachineRoomNearby;
pub use one_step::AckInOneStep;
pub(crate) use one_step::Acknowledge;
pub(crate) use rebalance::{Aim, Candidate, Claims, Gate, MemberId, targets};
use replies::Requests;
pub(crate) use route::{QueuePlace, Route, RouteQueue};
use transactions::AllTransactions;

use crate::broker::{Broker, Health};
use crate::clock::{Clock, SteadyClock};
use crate::config::StoreConfig;
use crate::error::{Error, Result};
use crate::message::MessageId;
use crate::message::ids::UniqueIds;
use crate::sync::{Arrivals, AtomicBool, AtomicU64, Mutex, Ordering, RwLock};
use crate::types::{BrokerName, GroupName, MessageQueue, TopicName};

/// All brokers of a store, and what is known about them together. Every handle of a store holds it; the last one that
/// lets go closes the brokers.
///
/// Lock order: `changes`, then `arrivals`, then `routes`, then whatever a broker takes.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// By name.
    brokers: Vec<Arc<Broker>>,
    config: Arc<StoreConfig>,
    clock: Arc<dyn Clock>,
    /// The time by which messages are due.
    steady: Arc<SteadyClock>,
    ids: UniqueIds,
    routes: RwLock<HashMap<TopicName, Arc<Route>>>,
    /// Nothing but a place in memory, by which the routes of this cluster are told from others.
    key: Arc<()>,
    /// Raised whenever a topic is made, changed or deleted.
    version: AtomicU64,
    /// Held while topics change, and while a route is made from them.
    changes: Mutex<()>,
    arrivals: Mutex<HashMap<TopicName, Arc<Arrivals>>>,
    groups: Arc<Groups>,
    delays: AllDelays,
    transactions: AllTransactions,
    requests: Requests,
    /// Handles that do their work in `Store::step`.
    driven: DrivenHandles,
    closed: AtomicBool,
}

impl Cluster {
    /// Joins brokers that are open, and has their delayed messages delivered. What is odd about those goes into
    /// `warnings`, one list a broker, in the order of the names.
    ///
    /// # Errors
    ///
    /// `InvalidConfig` where messages wait in a delay level that the store does not have; `Io`; `StoreFull`.
    pub(crate) fn new(
        mut brokers: Vec<Arc<Broker>>,
        config: Arc<StoreConfig>,
        clock: Arc<dyn Clock>,
        warnings: &mut Vec<Vec<String>>,
    ) -> Result<Arc<Self>> {
        brokers.sort_by(|one, other| one.name().cmp(other.name()));
        let steady = Arc::new(SteadyClock::new(Arc::clone(&clock)));
        let delays = AllDelays::open(&brokers, &steady, warnings)?;
        let transactions = AllTransactions::open(&brokers, (&config, &clock), warnings)?;
        let cluster = Arc::new(Self {
            brokers,
            config,
            clock,
            steady,
            ids: UniqueIds::new(),
            routes: RwLock::default(),
            key: Arc::default(),
            version: AtomicU64::new(0),
            changes: Mutex::default(),
            arrivals: Mutex::default(),
            groups: Arc::default(),
            delays,
            transactions,
            requests: Requests::default(),
            driven: DrivenHandles::default(),
            closed: AtomicBool::new(false),
        });
        cluster.start_delays()?;
        cluster.start_transactions()?;
        Ok(cluster)
    }

    /// Returns the brokers, by name.
    pub(crate) fn brokers(&self) -> &[Arc<Broker>] {
        &self.brokers
    }

    /// Returns the broker of a name.
    pub(crate) fn broker(&self, name: &BrokerName) -> Option<&Arc<Broker>> {
        let place = self.brokers.binary_search_by(|broker| broker.name().cmp(name)).ok()?;
        self.brokers.get(place)
    }

    /// Returns the broker that has a queue.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the store has no broker of that name, and `Closed`.
    pub(crate) fn broker_of(&self, queue: &MessageQueue) -> Result<&Arc<Broker>> {
        self.check_open()?;
        self.broker(queue.broker()).ok_or_else(|| {
            let names: Vec<_> = self.brokers.iter().map(|broker| broker.name().as_str()).collect();
            let (wrong, names) = (queue.broker(), names.join(", "));
            Error::argument("queue", format!("the store has no broker {wrong}, but {names}"))
        })
    }

    /// Returns the settings.
    pub(crate) fn config(&self) -> &StoreConfig {
        &self.config
    }

    /// Returns the clock.
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Returns the id of a message that is sent at this time.
    pub(crate) fn next_id(&self, now_millis: i64) -> MessageId {
        self.ids.next(now_millis)
    }

    /// Seats a producer in a group until the seat is dropped.
    ///
    /// # Errors
    ///
    /// `Closed`.
    pub(crate) fn seat_producer(&self, group: &GroupName) -> Result<GroupSeat> {
        self.check_open()?;
        Ok(self.groups.seat_producer(group))
    }

    /// Returns the groups, in which consumers meet.
    pub(crate) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Returns the groups of which a consumer runs.
    pub(crate) fn consuming_groups(&self) -> Vec<GroupName> {
        self.groups.consuming()
    }

    /// Tells whether a consumer of the group runs.
    pub(crate) fn has_consumer(&self, group: &GroupName) -> bool {
        self.consuming_groups().contains(group)
    }

    /// Refuses work where the store is closed.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    /// Says how well the store is: as well as its worst broker.
    pub(crate) fn health(&self) -> Health {
        let mut troubles: Vec<String> = self.delays.troubles().chain(self.transactions.troubles()).collect();
        for broker in &self.brokers {
            match broker.health() {
                Health::Ok => {}
                Health::Degraded(parts) => {
                    troubles.extend(parts.iter().map(|part| format!("{}: {part}", broker.name())));
                }
                worst @ (Health::Failed { .. } | Health::Closed) => return worst,
            }
        }
        if troubles.is_empty() { Health::Ok } else { Health::Degraded(troubles) }
    }

    /// Closes every broker, and says what the first one that could not be closed cleanly said. Closing twice is no
    /// error.
    pub(crate) fn close(&self) -> Result<()> {
        // First who handles messages: what they acknowledge until they end still counts (contract D17, V12).
        self.stop_handles();
        self.delays.stop();
        self.transactions.stop();
        let already = self.closed.load(Ordering::Acquire);
        // Before the brokers write everything: what is delivered is flushed with the rest, and said to be.
        let persisted = if already { Ok(()) } else { self.delays.persist().and(self.transactions.persist()) };
        self.end(|broker| broker.close()).and(persisted)
    }

    /// Stops as the death of the process would.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn kill(&self) {
        self.delays.stop();
        self.transactions.stop();
        let _ = self.end(|broker| {
            broker.kill();
            Ok(())
        });
    }

    fn end(&self, stop: impl Fn(&Broker) -> Result<()>) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        let mut result = Ok(());
        for broker in &self.brokers {
            result = result.and(stop(broker));
        }
        self.requests.wake_all();
        // Sleepers who wait for a topic that does not exist are known to no broker.
        for arrivals in self.arrivals.lock().values() {
            arrivals.notify();
        }
        result
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Nobody is left to tell; what could not be written stays marked by `abort`, and the next opening looks.
        let _ = self.close();
    }
}
