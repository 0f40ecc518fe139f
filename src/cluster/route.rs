//! Where can messages of a topic be sent, and where can they be read?

use std::net::SocketAddr;
use std::sync::Arc;

use crate::broker::{Broker, QueueSlot, TopicOfBroker};
use crate::config::{Permission, TopicKind};
use crate::error::{Error, Result};
use crate::sync::{AtomicU32, OnceLock, Ordering};
use crate::types::{MessageQueue, TopicName, to_usize};

/// What a receipt says of where its message went. It outlives the store.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QueuePlace {
    pub(crate) queue: MessageQueue,
    /// The store host in the records of the queue's broker.
    pub(crate) host: SocketAddr,
}

/// One queue of a route, with what it takes to use it.
#[derive(Debug, Clone)]
pub(crate) struct RouteQueue {
    pub(crate) place: Arc<QueuePlace>,
    pub(crate) broker: Arc<Broker>,
    pub(crate) topic: Arc<TopicOfBroker>,
    /// Found when the queue is first sent to.
    slot: OnceLock<Arc<QueueSlot>>,
}

impl RouteQueue {
    /// Returns the name of the queue.
    pub(crate) fn queue(&self) -> &MessageQueue {
        &self.place.queue
    }

    /// Returns the queue as the broker has it, listing it there if no message has gone to it yet.
    pub(crate) fn slot(&self) -> Result<&QueueSlot> {
        if let Some(slot) = self.slot.get() {
            return Ok(slot);
        }
        let slot = self.broker.slot(&self.topic, self.queue().queue_id())?;
        Ok(self.slot.get_or_init(|| slot))
    }
}

/// The queues of one topic over all brokers, as they were when the route was made.
#[derive(Debug)]
pub(crate) struct Route {
    /// That of the cluster to which it belongs.
    pub(super) cluster: Arc<()>,
    /// The topic.
    pub(crate) topic: TopicName,
    /// Queues to send to, sorted.
    pub(crate) write: Vec<RouteQueue>,
    /// Their names, in the same order: what a selector chooses from.
    pub(crate) write_names: Vec<MessageQueue>,
    /// Queues to read from, sorted.
    pub(crate) read: Vec<RouteQueue>,
    /// Which messages it takes.
    pub(crate) kind: TopicKind,
    /// What at least one broker permits.
    pub(crate) permission: Permission,
    /// Whether an application may send here at all.
    sendable: bool,
    /// Whose turn it is among the queues to send to.
    turn: AtomicU32,
}

impl Route {
    /// Makes a route from the topic as the brokers have it; `None` where none has it. The brokers must be sorted.
    /// `turn` says with which queue the round begins.
    pub(super) fn of(cluster: &Arc<()>, brokers: &[Arc<Broker>], topic: &str, turn: u32) -> Option<Self> {
        let found: Vec<_> =
            brokers.iter().filter_map(|broker| Some((broker, broker.topic(topic)?))).collect();
        let name = found.first()?.1.name().clone();
        let kind = found.first()?.1.config().kind;
        let (mut write, mut read, mut bits) = (Vec::new(), Vec::new(), 0);
        for (broker, topic) in found {
            let config = topic.config();
            bits |= config.permission.bits();
            let queue = |id| RouteQueue {
                place: Arc::new(QueuePlace {
                    queue: MessageQueue::new(name.clone(), broker.name().clone(), id),
                    host: broker.host(),
                }),
                broker: Arc::clone(broker),
                topic: Arc::clone(&topic),
                slot: OnceLock::new(),
            };
            if config.permission.can_write() {
                write.extend((0..config.write_queues).map(queue));
            }
            if config.permission.can_read() {
                read.extend((0..config.read_queues).map(queue));
            }
        }
        Some(Self {
            cluster: Arc::clone(cluster),
            sendable: name.is_sendable(),
            topic: name,
            kind,
            write_names: write.iter().map(|entry: &RouteQueue| entry.queue().clone()).collect(),
            write,
            read,
            permission: Permission::from_bits(bits).unwrap_or(Permission::READ_WRITE),
            turn: AtomicU32::new(turn),
        })
    }

    /// Refuses a topic that an application may not send to.
    pub(crate) fn check_sendable(&self) -> Result<()> {
        if !self.sendable {
            return Err(not_sendable(&self.topic));
        }
        if self.write.is_empty() {
            return Err(Error::PermissionDenied { topic: self.topic.as_str().into(), denied: "written" });
        }
        Ok(())
    }

    /// Refuses a topic that may not be read.
    pub(crate) fn check_readable(&self) -> Result<()> {
        if self.permission.can_read() {
            return Ok(());
        }
        Err(Error::PermissionDenied { topic: self.topic.as_str().into(), denied: "read" })
    }

    /// Tells whether there is more than one broker to send to.
    pub(crate) fn has_several_brokers(&self) -> bool {
        // Sorted by broker.
        let ends = self.write.first().zip(self.write.last());
        ends.is_some_and(|(first, last)| !Arc::ptr_eq(&first.broker, &last.broker))
    }

    /// Returns the place of the next queue to send to: each in turn.
    pub(crate) fn next_turn(&self) -> usize {
        // Ordering: a number dispenser; nothing is published through it.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        to_usize(u64::from(turn)).checked_rem(self.write.len()).unwrap_or(0)
    }

    /// Finds a queue to read from.
    ///
    /// # Errors
    ///
    /// `PermissionDenied`, and `InvalidArgument` where the topic has no such queue.
    pub(crate) fn read_queue(&self, queue: &MessageQueue) -> Result<&RouteQueue> {
        self.check_readable()?;
        find(&self.read, queue).ok_or_else(|| no_such_queue(queue, &self.read))
    }

    /// Finds a queue to send to.
    ///
    /// # Errors
    ///
    /// `PermissionDenied`, and `InvalidArgument` where the topic has no such queue.
    pub(crate) fn write_queue(&self, queue: &MessageQueue) -> Result<&RouteQueue> {
        self.check_sendable()?;
        find(&self.write, queue).ok_or_else(|| no_such_queue(queue, &self.write))
    }
}

fn find<'a>(queues: &'a [RouteQueue], queue: &MessageQueue) -> Option<&'a RouteQueue> {
    queues.get(queues.binary_search_by(|entry| entry.queue().cmp(queue)).ok()?)
}

fn no_such_queue(wrong: &MessageQueue, queues: &[RouteQueue]) -> Error {
    let known = match (queues.first(), queues.last()) {
        (Some(first), Some(last)) => format!("those are {} to {}", first.queue(), last.queue()),
        _ => "there are none".to_owned(),
    };
    Error::argument("queue", format!("{wrong} is none of the topic's queues for this: {known}"))
}

/// Returns the error that refuses a topic which RocketMQ keeps for itself.
pub(super) fn not_sendable(topic: &TopicName) -> Error {
    Error::argument("topic", format!("{topic} is RocketMQ's own: an application may not send to it"))
}
