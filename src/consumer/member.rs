//! Which queues does a member read, whose turn is it, and who wakes it?

use std::sync::Arc;
use std::time::Duration;

use super::delivery::Delivery;
use super::lane::Lane;
use super::{StartFrom, builder};
use crate::broker::PositionKey;
use crate::cluster::{Cluster, GroupSeat};
use crate::commitlog::MessageView;
use crate::config::Background;
use crate::error::Result;
use crate::filter::Filter;
use crate::sync::{Arrivals, Mutex, Parker};
use crate::types::{GroupName, MessageQueue, QueueOffset, TopicName};

/// What a group wants of one topic.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) topic: TopicName,
    pub(super) filter: Filter,
}

/// The queues of a member, and whose turn it is.
#[derive(Debug)]
struct Lanes {
    /// Each with the place of its subscription. A lane keeps its place for ever.
    list: Vec<(usize, Lane)>,
    turn: usize,
    /// The version of the topics from which the list was made.
    version: Option<u64>,
}

/// One member of a group: what all clones of a consumer share.
#[derive(Debug)]
pub(super) struct Member {
    cluster: Arc<Cluster>,
    seat: GroupSeat,
    subscriptions: Vec<Subscription>,
    /// Told when something arrives in a subscribed topic.
    arrivals: Vec<Arc<Arrivals>>,
    /// Told when something changes inside the member: a failed message waits.
    changes: Arrivals,
    lanes: Mutex<Lanes>,
}

impl Member {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        seat: GroupSeat,
        subscriptions: Vec<Subscription>,
        start: StartFrom,
    ) -> Result<Self> {
        let arrivals = subscriptions.iter().map(|wanted| cluster.arrivals(&wanted.topic)).collect();
        let lanes = Mutex::new(Lanes { list: Vec::new(), turn: 0, version: None });
        let member = Self { cluster, seat, subscriptions, arrivals, changes: Arrivals::default(), lanes };
        member.refresh(&mut member.lanes.lock(), start)?;
        // The start is durable before anybody can rely on it (contract V9).
        member.cluster.brokers().iter().try_for_each(|broker| broker.positions().sync())?;
        Ok(member)
    }

    pub(super) fn group(&self) -> &GroupName {
        self.seat.group()
    }

    pub(super) fn background(&self) -> Background {
        self.cluster.config().background
    }

    /// Brings the list of queues up to date with the topics. A queue that the group has no position in starts where
    /// `start` says.
    fn refresh(&self, lanes: &mut Lanes, start: StartFrom) -> Result<()> {
        let version = self.cluster.version();
        if lanes.version == Some(version) {
            return Ok(());
        }
        for (place, wanted) in self.subscriptions.iter().enumerate() {
            let Some(route) = self.cluster.route(wanted.topic.as_str()) else {
                self.expect(&wanted.topic, start)?;
                continue;
            };
            route.check_readable()?;
            // A group that knows the topic reads queues that are new to it from their beginning.
            let known_topic = route
                .read
                .iter()
                .any(|entry| entry.broker.positions().get(&self.key(entry.queue())).is_some());
            let start = if known_topic { StartFrom::Earliest } else { start };
            for entry in &route.read {
                let known = lanes.list.iter_mut().find(|(_, lane)| lane.queue == *entry.queue());
                if let Some((_, lane)) = &known
                    && Arc::ptr_eq(&lane.topic, &entry.topic)
                {
                    continue;
                }
                let positions = entry.broker.positions();
                let key = self.key(entry.queue());
                let position = match positions.get(&key) {
                    Some(position) => position,
                    None => positions.position(&key, builder::first_offset(entry, start)?)?,
                };
                match known {
                    Some((_, lane)) => lane.restart(Arc::clone(&entry.topic), position),
                    None => {
                        let (broker, topic) = (Arc::clone(&entry.broker), Arc::clone(&entry.topic));
                        lanes.list.push((place, Lane::new(entry.queue().clone(), broker, topic, position)));
                    }
                }
            }
        }
        lanes.version = Some(version);
        Ok(())
    }

    /// Notes that the group waits for a topic that does not exist yet: everything that will be sent to it comes after
    /// this, so it is read from its beginning, also if the process dies in between.
    fn expect(&self, topic: &TopicName, start: StartFrom) -> Result<()> {
        if start == StartFrom::Earliest {
            return Ok(());
        }
        for broker in self.cluster.brokers() {
            let key = self.key(&MessageQueue::new(topic.clone(), broker.name().clone(), 0));
            broker.positions().position(&key, QueueOffset::ZERO)?;
        }
        Ok(())
    }

    fn key(&self, queue: &MessageQueue) -> PositionKey {
        PositionKey { topic: queue.topic().clone(), group: self.group().clone(), queue_id: queue.queue_id() }
    }

    /// Returns the next message, each queue in turn.
    pub(super) fn take(self: &Arc<Self>) -> Result<Option<Delivery>> {
        self.cluster.check_open()?;
        let now = self.cluster.clock().monotonic();
        let mut lanes = self.lanes.lock();
        // Whatever turns up later starts at its beginning: nothing that is sent after `build` is skipped.
        self.refresh(&mut lanes, StartFrom::Earliest)?;
        loop {
            let Lanes { list, turn, .. } = &mut *lanes;
            let (start, count) = (*turn, list.len());
            let mut more = false;
            for step in 0..count {
                let place = start.wrapping_add(step).checked_rem(count).unwrap_or(0);
                let Some((wanted, lane)) = list.get_mut(place) else { continue };
                let Some(subscription) = self.subscriptions.get(*wanted) else { continue };
                *turn = place.wrapping_add(1);
                if let Some(taken) = lane.take(&subscription.filter, now)? {
                    let queue = lane.queue.clone();
                    return Ok(Some(Delivery::new(Arc::clone(self), place, queue, taken)));
                }
                more |= lane.has_more();
            }
            if !more {
                return Ok(None);
            }
        }
    }

    /// Notes that a message has been handled.
    pub(super) fn ack(&self, place: usize, offset: QueueOffset, epoch: u64) -> Result<()> {
        self.cluster.check_open()?;
        let acked = match self.lanes.lock().list.get_mut(place) {
            Some((_, lane)) => lane.ack(offset, epoch),
            None => Ok(()),
        };
        // A queue that had too much under way may be read on.
        self.changes.notify();
        acked
    }

    /// Notes that an attempt has failed.
    pub(super) fn fail(&self, place: usize, message: MessageView, attempt: u32, epoch: u64) {
        let now = self.cluster.clock().monotonic();
        if let Some((_, lane)) = self.lanes.lock().list.get_mut(place) {
            lane.fail(message, attempt, epoch, now);
        }
        // Who waits must learn when to look again.
        self.changes.notify();
    }

    /// Returns how long it is until the next failed message is due.
    pub(super) fn next_retry(&self) -> Option<Duration> {
        let now = self.cluster.clock().monotonic();
        let due = self.lanes.lock().list.iter().filter_map(|(_, lane)| lane.next_due()).min();
        due.map(|due| due.saturating_sub(now))
    }

    /// Has a thread woken by everything that may bring it a message.
    pub(super) fn listen(self: &Arc<Self>, bed: &Arc<Parker>) -> Listening {
        self.sources().for_each(|arrivals| arrivals.register(bed));
        Listening { member: Arc::clone(self), bed: Arc::clone(bed) }
    }

    fn sources(&self) -> impl Iterator<Item = &Arrivals> {
        self.arrivals.iter().map(AsRef::as_ref).chain([&self.changes])
    }

    pub(super) fn committed(&self, queue: &MessageQueue) -> Result<Option<QueueOffset>> {
        let broker = self.cluster.broker_of(queue)?;
        Ok(broker.positions().get(&self.key(queue)).map(|position| position.get()))
    }
}

/// A thread that is woken by arrivals, until this is dropped.
#[derive(Debug)]
pub(super) struct Listening {
    member: Arc<Member>,
    bed: Arc<Parker>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.member.sources().for_each(|arrivals| arrivals.deregister(&self.bed));
    }
}
