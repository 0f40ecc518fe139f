//! How are messages sent? A producer checks them, chooses a queue, and puts them into its broker.
//!
//! Every send does everything in the caller's thread: a route that is known already, properties encoded once into a
//! buffer of the thread, one put. Nothing is allocated on the way, unless the message has very long keys. What differs is
//! what a sender waits for ([`SendMode`]): an asynchronous one is handed a ticket for the flush.

mod batch;
mod builder;
mod callback;
mod faults;
mod hooks;
mod in_flight;
mod joined;
mod once;
mod oneway;
mod receipt;
mod request;
mod retry;
mod selector;
mod send_async;
mod split;
#[cfg(test)]
mod tests;
mod ticket;
mod timed;
mod trace;
mod transaction;

use std::borrow::Borrow;
use std::cell::Cell;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

pub use builder::ProducerBuilder;
use builder::Settings;
use callback::Callbacks;
use faults::Faults;
pub use faults::SlowBrokers;
pub use hooks::{CheckForbiddenHook, SendContext, SendMessageHook, SendMode};
use in_flight::Unflushed;
pub use in_flight::WhenBusy;
pub use receipt::{Durability, SendReceipt, SendStatus};
pub use retry::WhenNotOk;
pub use selector::Selector;
use selector::by_consistent_hash;
pub use split::SendBatches;
pub use ticket::SendTicket;
pub(crate) use trace::TRACE_TOPIC;
pub use trace::{MessageTrace, TraceRecord};
pub use transaction::{Transaction, TransactionProducer, TransactionReceipt};

use crate::broker::{Later, PutMessage, WaitForFlush};
use crate::cluster::{Cluster, GroupSeat, Route, RouteQueue};
use crate::config::{FlushPolicy, TopicKind};
use crate::error::{Error, Result};
use crate::message::check::check;
use crate::message::compress::Packed;
use crate::message::outgoing::When;
use crate::message::sys_flag::SysFlag;
use crate::message::tags::tags_code;
use crate::message::{Message, MessageId};
use crate::types::{GroupName, MessageQueue, PhysicalOffset};

/// The address that stands in records as that of the producer: it lives in the store's own process.
const BORN_HOST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Above this many bytes a thread's buffer is given back after use.
const BUFFER_KEPT: usize = 64 << 10;

thread_local! {
    /// Where the properties of the message that this thread sends are encoded.
    static PROPERTIES: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Sends messages, as a member of a producer group (RocketMQ's `DefaultMQProducer`).
///
/// A handle: cloning it is cheap, and clones can send from any number of threads at once. It keeps the store open;
/// once the store is closed, every send is [`Error::Closed`].
///
/// What one thread sends to one queue keeps its order; messages with equal order keys go to one queue. Every way to
/// send checks all of a message before anything is stored, and blocks for the append lock of one broker, under
/// `FlushPolicy::Sync` also for the flush: for one that another sender runs at most `sync_flush_timeout`, for one that it
/// runs itself until the disk answers. A receipt means that the message is stored; see [`SendStatus`] for how safe it is.
///
/// ```
/// use pocketmq::{Message, Store};
///
/// # let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// let producer = store.producer("shop")?;
/// let receipt = producer.send(Message::new("orders", "hello").tag("created").key("order-42"))?;
/// assert_eq!(store.message(receipt.message_id())?.unwrap().body_str()?, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[doc(alias = "DefaultMQProducer")]
#[doc(alias = "MQProducer")]
pub struct Producer {
    member: Arc<Member>,
}

/// What all clones of a producer share.
struct Member {
    cluster: Arc<Cluster>,
    seat: GroupSeat,
    settings: Settings,
    unflushed: Unflushed,
    callbacks: Callbacks,
    /// Brokers that were slow or failed, where the producer cares.
    faults: Faults,
    /// What was sent lately, where the producer sends nothing twice.
    lately: Option<once::SentLately>,
}

/// One message on its way.
struct Outgoing<'a> {
    message: &'a Message,
    /// The body in a smaller form, where it has one.
    packed: Option<Packed>,
    mode: SendMode,
}

impl fmt::Debug for Producer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Producer").field("group", self.group()).finish_non_exhaustive()
    }
}

impl Producer {
    /// Returns the group.
    #[must_use]
    pub fn group(&self) -> &GroupName {
        self.member.seat.group()
    }

    /// Sends a message to a queue of the producer's choice: by its order key if it has one (a consistent hash, as
    /// RocketMQ 5), else to each queue of the topic in turn. Makes the topic where the store does so.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` and `MessageTooLarge` name what is wrong with the message; `TopicNotFound` where the topic
    /// does not exist and is not made; `PermissionDenied`; `StoreFull` until there is space again; `Closed`. None of
    /// these has stored anything. `FlushFailed`: what was stored, its [`outcome`](Error::outcome) says; `Io`.
    pub fn send(&self, message: impl Borrow<Message>) -> Result<SendReceipt> {
        self.send_in(SendMode::Sync, message.borrow())
    }

    /// Sends a message to this queue.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send), and `InvalidArgument` where the queue is not one of the message's topic to
    /// which messages can be sent.
    pub fn send_to(&self, queue: &MessageQueue, message: impl Borrow<Message>) -> Result<SendReceipt> {
        self.send_to_in(SendMode::Sync, queue, message.borrow())
    }

    /// Sends a message to the queue that `select` chooses: it is given all queues of the topic to which messages can
    /// be sent, sorted by broker and number, and the message, and returns a place in the slice. It is called while
    /// nothing is locked, so it may do what it likes, and a panic in it passes through without harm. See [`Selector`]
    /// for ready ones.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send), and `InvalidArgument` where `select` returns `None` or a place outside the
    /// slice.
    #[doc(alias = "MessageQueueSelector")]
    pub fn send_with(
        &self,
        message: impl Borrow<Message>,
        select: impl Fn(&[MessageQueue], &Message) -> Option<usize>,
    ) -> Result<SendReceipt> {
        self.send_with_in(SendMode::Sync, message.borrow(), select)
    }

    fn send_in(&self, mode: SendMode, message: &Message) -> Result<SendReceipt> {
        let out = self.prepare(mode, message)?;
        let bound = (mode, message.order_key_text());
        self.deliver(message.topic(), |route| {
            check_kind(route, message)?;
            self.spread(route, bound, |to| self.attempt(to, &out))
        })
    }

    fn send_to_in(&self, mode: SendMode, queue: &MessageQueue, message: &Message) -> Result<SendReceipt> {
        let out = self.prepare(mode, message)?;
        check_topic(queue, message.topic())?;
        self.deliver(message.topic(), |route| {
            check_kind(route, message)?;
            self.attempt(route.write_queue(queue)?, &out)
        })
    }

    fn send_with_in(
        &self,
        mode: SendMode,
        message: &Message,
        select: impl Fn(&[MessageQueue], &Message) -> Option<usize>,
    ) -> Result<SendReceipt> {
        let out = self.prepare(mode, message)?;
        self.deliver(message.topic(), |route| {
            check_kind(route, message)?;
            let place = select(&route.write_names, message)
                .ok_or_else(|| Error::argument("selector", "it returned None instead of a queue"))?;
            self.attempt(entry(route, place)?, &out)
        })
    }

    /// Checks a message, and does what is done once however many attempts it takes.
    fn prepare<'a>(&self, mode: SendMode, message: &'a Message) -> Result<Outgoing<'a>> {
        self.check(message)?;
        self.check_room(mode, message)?;
        let packed = self.member.settings.compress.pack(message.body())?;
        Ok(Outgoing { message, packed, mode })
    }

    /// Refuses a message that may not be sent, and every message where the store is closed.
    fn check(&self, message: &Message) -> Result<()> {
        self.member.cluster.check_open()?;
        check(message, self.member.cluster.config().message_size_max)?;
        if message.when() == When::Now { Ok(()) } else { self.due_of(message).map(drop) }
    }

    /// Refuses an asynchronous message, or has it wait, where too many are unflushed.
    fn check_room(&self, mode: SendMode, message: &Message) -> Result<()> {
        let Member { cluster, settings, unflushed, .. } = &*self.member;
        if mode != SendMode::Async || !message.waits() || cluster.config().flush != FlushPolicy::Sync {
            return Ok(());
        }
        unflushed.make_room(&settings.limit())
    }

    /// Looks the topic up and lets `put` use the route; once more where the topic was deleted in between.
    fn deliver<T>(&self, topic: &str, mut put: impl FnMut(&Route) -> Result<T>) -> Result<T> {
        let cluster = &self.member.cluster;
        let mut is_second = false;
        loop {
            let route = cluster.route_or_create(topic)?;
            route.check_sendable()?;
            match put(&route) {
                Err(Error::TopicNotFound(_)) if !is_second => is_second = true,
                result => return result,
            }
            // Emptied or deleted: what follows is known when the change is over.
            cluster.wait_for_changes();
        }
    }

    /// Puts a message into a queue, with the producer's hooks around it.
    fn attempt(&self, to: &RouteQueue, out: &Outgoing<'_>) -> Result<SendReceipt> {
        if self.member.settings.hooks.is_empty() {
            return self.put(to, out);
        }
        self.with_hooks(to, (out.mode, &[out.message]), || self.put(to, out))
    }

    fn with_hooks(
        &self,
        to: &RouteQueue,
        (mode, messages): (SendMode, &[&Message]),
        put: impl FnOnce() -> Result<SendReceipt>,
    ) -> Result<SendReceipt> {
        let hooks = &self.member.settings.hooks;
        if hooks.is_empty() {
            return put();
        }
        hooks.around(&SendContext { group: self.group(), messages, queue: to.queue(), mode }, put)
    }

    fn put(&self, to: &RouteQueue, out: &Outgoing<'_>) -> Result<SendReceipt> {
        match &self.member.lately {
            Some(lately) if !out.message.joined_keys().is_empty() => self.put_once(lately, to, out),
            _ => self.store(to, out),
        }
    }

    fn store(&self, to: &RouteQueue, out: &Outgoing<'_>) -> Result<SendReceipt> {
        let (cluster, message) = (&self.member.cluster, out.message);
        let now = cluster.clock().wall_millis();
        let id = cluster.next_id(now);
        let (stored, due) = with_buffer(|buffer| {
            message.append_properties(&id, buffer);
            let mut put = put_message(message, (now, &id), buffer);
            if let Some(packed) = &out.packed {
                (put.body, put.sys_flag) = (&packed.body, packed.sys_flag);
            }
            let (topic, wait) = (&to.topic, wait_of(message, out.mode));
            match u32::try_from(message.delay_level_number()) {
                Ok(level @ 1..) => {
                    let later = Later { level, wait };
                    to.broker
                        .put_delayed(topic, to.queue().queue_id(), &put, later)
                        .map(|stored| (stored, None))
                }
                _ if message.when() != When::Now => self.put_timed(to, &put, (message, wait)),
                _ => to.broker.put_into(topic, to.slot()?, &put, wait).map(|stored| (stored, None)),
            }
        })?;
        self.tell_who_asked(to, message, &stored)?;
        let receipt = SendReceipt::new(&stored, Arc::clone(&to.place), id, message.joined_keys());
        Ok(if due.is_some() { receipt.due_at(due) } else { receipt })
    }
}

/// Returns the place of the queue that a message goes to.
fn choose(route: &Route, order_key: Option<&str>) -> usize {
    match order_key {
        Some(key) => by_consistent_hash(key, route.write.len()).unwrap_or(0),
        None => route.next_turn(),
    }
}

fn entry(route: &Route, place: usize) -> Result<&RouteQueue> {
    route.write.get(place).ok_or_else(|| {
        let count = route.write.len();
        Error::argument("selector", format!("it returned {place}, and there are {count} queues, from 0"))
    })
}

/// Refuses a message of a kind that the topic does not take.
fn check_kind(route: &Route, message: &Message) -> Result<()> {
    if route.kind == TopicKind::Any {
        return Ok(());
    }
    check_kind_is(route, kind_of(message))
}

fn kind_of(message: &Message) -> TopicKind {
    if message.is_delayed() {
        TopicKind::Delay
    } else if message.order_key_text().is_some() {
        TopicKind::Fifo
    } else {
        TopicKind::Normal
    }
}

fn check_kind_is(route: &Route, kind: TopicKind) -> Result<()> {
    if route.kind == TopicKind::Any || kind == route.kind {
        return Ok(());
    }
    let cure = match route.kind {
        TopicKind::Any | TopicKind::Normal => "send it without an order key and without a delay",
        TopicKind::Fifo => "give it an order key and no delay",
        TopicKind::Delay => "give it a delay",
        TopicKind::Transaction => "send it in a transaction",
    };
    let wanted = route.kind.name().unwrap_or_default();
    Err(Error::argument("topic", format!("{} takes messages of the kind {wanted}: {cure}", route.topic)))
}

fn check_topic(queue: &MessageQueue, topic: &str) -> Result<()> {
    if queue.topic().as_str() == topic {
        return Ok(());
    }
    Err(Error::argument("queue", format!("{queue} is not a queue of the message's topic {topic:?}")))
}

/// Returns what the broker needs to know of a message that was given a time and an id.
fn put_message<'a>(
    message: &'a Message,
    (now_millis, id): (i64, &MessageId),
    properties: &'a [u8],
) -> PutMessage<'a> {
    PutMessage {
        flag: message.flag_number(),
        sys_flag: SysFlag::NONE,
        now_millis: Some(now_millis),
        born_millis: now_millis,
        born_host: BORN_HOST,
        reconsume_times: 0,
        prepared_transaction_offset: PhysicalOffset::ZERO,
        body: message.body(),
        properties,
        index_texts: message.index_texts(id, properties),
        tags_code: tags_code(message.tag_text()),
    }
}

const fn wait_of(message: &Message, mode: SendMode) -> WaitForFlush {
    match mode {
        SendMode::Sync if message.waits() => WaitForFlush::Yes,
        SendMode::Async if message.waits() => WaitForFlush::Later,
        SendMode::Sync | SendMode::Async | SendMode::OneWay => WaitForFlush::No,
    }
}

/// Lends the thread's buffer, empty. A send from within a send, by way of a clock of the user's, gets one of its own.
fn with_buffer<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut buffer = PROPERTIES.take();
    buffer.clear();
    let result = work(&mut buffer);
    if buffer.capacity() <= BUFFER_KEPT {
        PROPERTIES.set(buffer);
    }
    result
}
