//! How are topics made, changed and deleted, on all brokers at once?

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::last_route::{last_route, remember_route};
use super::route::not_sendable;
use super::{Cluster, Route};
use crate::config::{AutoCreate, TopicConfig};
use crate::error::{Error, Result};
use crate::events;
use crate::sync::{Arrivals, Ordering};
use crate::types::TopicName;

impl Cluster {
    /// Returns the route of a topic. Costs one read lock and one look into a table once it is known, and not even that
    /// if the thread asked for it last.
    pub(crate) fn route(&self, topic: &str) -> Option<Arc<Route>> {
        let version = self.version();
        if let Some(known) = last_route(&self.key, version, topic) {
            return Some(known);
        }
        let known = self.routes.read().get(topic).cloned();
        let route = match known {
            Some(known) => known,
            None => {
                let _unchanged = self.changes.lock();
                self.make_route(topic)?
            }
        };
        remember_route(&route, version);
        Some(route)
    }

    /// Waits for a change of topics that is under way.
    pub(crate) fn wait_for_changes(&self) {
        drop(self.changes.lock());
    }

    /// Returns a number that changes with every change of a topic, so that a route can be kept as long as it stays.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Returns the route of a topic, or says that there is none.
    ///
    /// # Errors
    ///
    /// `TopicNotFound`, `InvalidArgument` for a text that is no topic's name, `Closed`.
    pub(crate) fn existing_route(&self, topic: &str) -> Result<Arc<Route>> {
        self.check_open()?;
        if let Some(known) = self.route(topic) {
            return Ok(known);
        }
        Err(Error::TopicNotFound(TopicName::new(topic)?.as_str().into()))
    }

    /// Returns the route of a topic to which somebody sends, making the topic on every broker where the store does so.
    ///
    /// # Errors
    ///
    /// `TopicNotFound` where it does not, `InvalidArgument` for a topic that cannot be made by sending, and what
    /// making it can fail with.
    pub(crate) fn route_or_create(&self, topic: &str) -> Result<Arc<Route>> {
        if let Some(known) = self.route(topic) {
            return Ok(known);
        }
        self.check_open()?;
        let name = TopicName::new(topic)?;
        if !name.is_sendable() {
            return Err(not_sendable(&name));
        }
        let config = match self.config.auto_create {
            AutoCreate::Queues(count) if !belongs_to_group(&name) => TopicConfig::queues(count),
            _ => return Err(Error::TopicNotFound(topic.into())),
        };
        let _changing = self.changes.lock();
        if let Some(made) = self.make_route(topic) {
            return Ok(made);
        }
        for broker in &self.brokers {
            broker.add_topic(&name, config)?;
        }
        events::topic_set(&name, &config.write_queues);
        self.changed(&name);
        self.make_route(topic).ok_or(Error::Closed)
    }

    /// Makes a topic on every broker, and on those that lack it where some have it just so. Durable on return.
    pub(crate) fn create_topic(&self, name: &TopicName, config: TopicConfig) -> Result<()> {
        self.check_open()?;
        config.check()?;
        protect(name)?;
        if belongs_to_group(name) {
            let reason = format!("{name} belongs to a consumer group, and is made when the group needs it");
            return Err(Error::argument("topic", reason));
        }
        let _changing = self.changes.lock();
        let differing = self.brokers.iter().filter_map(|broker| broker.topic(name.as_str()));
        if let Some(found) = differing.map(|topic| topic.config()).find(|found| *found != config) {
            let (read, write) = (found.read_queues, found.write_queues);
            let reason = format!(
                "{name} exists with {read} read and {write} write queues and permission {}: change it with update_topic",
                found.permission.bits()
            );
            return Err(Error::argument("topic", reason));
        }
        self.set_everywhere(name, config)
    }

    /// Makes a topic that we need ourselves, of traces or replies, where it is missing. RocketMQ's brokers make them with
    /// one queue too.
    pub(crate) fn make_own_topic(&self, name: &TopicName) -> Result<()> {
        self.check_open()?;
        let _changing = self.changes.lock();
        if self.check_exists(name).is_ok() {
            return Ok(());
        }
        self.set_everywhere(name, TopicConfig::queues(1))
    }

    /// Changes the queues and permissions of a topic on every broker. Durable on return.
    pub(crate) fn update_topic(&self, name: &TopicName, config: TopicConfig) -> Result<()> {
        self.check_open()?;
        config.check()?;
        protect(name)?;
        let _changing = self.changes.lock();
        self.check_exists(name)?;
        self.set_everywhere(name, config)
    }

    /// Deletes a topic and everything in it from every broker. Durable on return.
    pub(crate) fn delete_topic(&self, name: &TopicName) -> Result<()> {
        self.check_open()?;
        protect(name)?;
        let _changing = self.changes.lock();
        self.check_exists(name)?;
        let mut result = Ok(());
        for broker in &self.brokers {
            if broker.topic(name.as_str()).is_some() {
                result = result.and(broker.delete_topic(name).map(drop));
            }
        }
        if result.is_ok() {
            events::topic_deleted(name);
        }
        self.changed(name);
        result
    }

    /// Removes everything in a topic from every broker. Durable on return.
    pub(crate) fn purge_topic(&self, name: &TopicName) -> Result<()> {
        self.check_open()?;
        protect(name)?;
        let _changing = self.changes.lock();
        self.check_exists(name)?;
        let mut result = Ok(());
        for broker in &self.brokers {
            result = result.and(broker.purge_topic(name).map(drop));
        }
        if result.is_ok() {
            events::topic_purged(name);
        }
        self.changed(name);
        result
    }

    /// Returns the wake-up of a topic, one for all brokers, also before the topic exists. Making, changing and
    /// deleting the topic wakes as well.
    pub(crate) fn arrivals(&self, name: &TopicName) -> Arc<Arrivals> {
        let _unchanged = self.changes.lock();
        let mut all = self.arrivals.lock();
        if let Some(known) = all.get(name) {
            return Arc::clone(known);
        }
        let new = Arc::new(Arrivals::default());
        all.insert(name.clone(), Arc::clone(&new));
        self.share(name, &new);
        new
    }

    /// Returns the names of all topics, sorted.
    pub(crate) fn topic_names(&self) -> Vec<TopicName> {
        let mut names: Vec<_> = self
            .brokers
            .iter()
            .flat_map(|broker| broker.topics())
            .map(|topic| topic.name().clone())
            .collect();
        names.sort();
        names.dedup();
        names
    }

    fn check_exists(&self, name: &TopicName) -> Result<()> {
        if self.brokers.iter().any(|broker| broker.topic(name.as_str()).is_some()) {
            return Ok(());
        }
        Err(Error::TopicNotFound(name.as_str().into()))
    }

    fn set_everywhere(&self, name: &TopicName, config: TopicConfig) -> Result<()> {
        let set = self.brokers.iter().try_for_each(|broker| broker.set_topic(name, config).map(drop));
        if set.is_ok() {
            events::topic_set(name, &config.write_queues);
        }
        // Also after a failure: some brokers have the topic then, and calling again gives it to the others.
        self.changed(name);
        set
    }

    /// Forgets the route of a topic that has changed, and wakes who waits for it. The caller holds `changes`.
    pub(super) fn changed(&self, name: &TopicName) {
        let arrivals = self.arrivals.lock().get(name).cloned();
        if let Some(arrivals) = &arrivals {
            self.share(name, arrivals);
        }
        self.routes.write().remove(name);
        // Ordering: after the old route is gone; who sees the new number finds the new route.
        self.version.fetch_add(1, Ordering::AcqRel);
        if let Some(arrivals) = arrivals {
            arrivals.notify();
        }
    }

    fn share(&self, name: &TopicName, arrivals: &Arc<Arrivals>) {
        for topic in self.brokers.iter().filter_map(|broker| broker.topic(name.as_str())) {
            topic.share_arrivals(arrivals);
        }
    }

    /// Makes the route of a topic and keeps it. The caller holds `changes`.
    fn make_route(&self, topic: &str) -> Option<Arc<Route>> {
        if let Some(known) = self.routes.read().get(topic) {
            return Some(Arc::clone(known));
        }
        // Each route begins its round somewhere else, so that many short-lived producers do not all favour one queue.
        let [.., a, b, c] = RandomState::new().hash_one(topic).to_be_bytes();
        let turn = u32::from_be_bytes([0, a, b, c]);
        let made = Arc::new(Route::of(&self.key, &self.brokers, topic, turn)?);
        self.routes.write().insert(made.topic.clone(), Arc::clone(&made));
        Some(made)
    }
}

/// Refuses to touch a topic that RocketMQ keeps for itself.
fn protect(name: &TopicName) -> Result<()> {
    if name.is_system() {
        return Err(Error::argument("topic", format!("{name} is RocketMQ's own: it stays as it is")));
    }
    Ok(())
}

/// Tells whether this is a retry or dead-letter topic, which its group makes.
fn belongs_to_group(name: &TopicName) -> bool {
    name.is_retry() || name.is_dead_letters()
}
