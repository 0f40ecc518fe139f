//! What can be set about a producer?

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::callback::Callbacks;
use super::faults::{Faults, SlowBrokers};
use super::hooks::{CheckForbiddenHook, Hooks, SendMessageHook};
use super::in_flight::{Limit, Unflushed, WhenBusy};
use super::retry::WhenNotOk;
use super::trace::{MessageTrace, TraceHook, make_topic};
use super::{Member, Producer, TransactionProducer};
use crate::cluster::Cluster;
use crate::dedup::check_window;
use crate::error::{Error, Result};
use crate::message::CompressionType;
use crate::message::compress::Compress;
use crate::txn::{PoolSize, TransactionListener};
use crate::types::GroupName;

/// The most that may be set to be in flight: the channel of callbacks has memory for so many from the start.
const IN_FLIGHT_MAX: usize = 65_535;
/// The fewest bytes that may be in flight (RocketMQ's lowest `backPressureForAsyncSendSize`).
const IN_FLIGHT_BYTES_MIN: u64 = 1 << 20;
/// The most retries that may be set.
const RETRIES_MAX: u32 = 16;

/// The most threads that may be set to make checks.
const CHECK_THREADS_MAX: usize = 64;

/// The settings of a producer.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) timeout: Duration,
    pub(super) retries: u32,
    pub(super) compress: Compress,
    pub(super) in_flight_max: usize,
    pub(super) in_flight_bytes_max: u64,
    pub(super) when_not_ok: WhenNotOk,
    pub(super) when_busy: WhenBusy,
    pub(super) slow_brokers: SlowBrokers,
    pub(super) trace: MessageTrace,
    pub(super) hooks: Hooks,
    /// How long an equal key means the same message.
    pub(super) same_for: Option<Duration>,
    /// How many checks of transactions are made at once, and how many may wait.
    pub(super) checks: PoolSize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(3),
            retries: 2,
            compress: Compress::default(),
            in_flight_max: 1_024,
            in_flight_bytes_max: 100 << 20,
            when_not_ok: WhenNotOk::Accept,
            when_busy: WhenBusy::Refuse,
            slow_brokers: SlowBrokers::Use,
            trace: MessageTrace::Off,
            hooks: Hooks::default(),
            same_for: None,
            checks: PoolSize { threads: 1, waiting_max: 2_000 },
        }
    }
}

impl Settings {
    pub(super) const fn limit(&self) -> Limit {
        Limit {
            count_max: self.in_flight_max,
            bytes_max: self.in_flight_bytes_max,
            when_busy: self.when_busy,
            timeout: self.timeout,
        }
    }

    fn check(&self) -> Result<()> {
        if !(Duration::from_millis(1)..=Duration::from_secs(3_600)).contains(&self.timeout) {
            return Err(Error::config("send_timeout", "must be between 1 ms and 1 h"));
        }
        if self.retries > RETRIES_MAX {
            return Err(Error::config("retries", format!("must be 0 to {RETRIES_MAX}")));
        }
        if !(1..=IN_FLIGHT_MAX).contains(&self.in_flight_max) {
            return Err(Error::config("in_flight_max", format!("must be 1 to {IN_FLIGHT_MAX}")));
        }
        if !(1..=CHECK_THREADS_MAX).contains(&self.checks.threads) {
            return Err(Error::config("check_threads", format!("must be 1 to {CHECK_THREADS_MAX}")));
        }
        if !(1..=IN_FLIGHT_MAX).contains(&self.checks.waiting_max) {
            return Err(Error::config("checks_waiting_max", format!("must be 1 to {IN_FLIGHT_MAX}")));
        }
        if self.in_flight_bytes_max < IN_FLIGHT_BYTES_MIN {
            let reason = format!("must be at least {IN_FLIGHT_BYTES_MIN}");
            return Err(Error::config("in_flight_bytes_max", reason));
        }
        if let Some(window) = self.same_for {
            check_window(window)?;
        }
        self.compress.check()
    }
}

/// The settings of a producer that is to be made: [`Store::producer_builder`](crate::Store::producer_builder) makes one.
///
/// Setters take any value; [`build`](Self::build) checks them all and names the one that is wrong.
///
/// ```
/// use std::time::Duration;
///
/// use pocketmq::{Message, Store, WhenBusy};
///
/// # let dir = tempfile::tempdir()?;
/// let store = Store::builder(dir.path()).brokers(["broker-a", "broker-b"]).open()?;
/// let producer = store
///     .producer_builder("shop")
///     .retries(1)
///     .send_timeout(Duration::from_secs(1))
///     .in_flight_max(4_096)
///     .when_busy(WhenBusy::Wait)
///     .build()?;
/// producer.send(Message::new("orders", "hello"))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until it is built"]
#[doc(alias = "DefaultMQProducer")]
pub struct ProducerBuilder {
    cluster: Arc<Cluster>,
    group: String,
    settings: Settings,
}

impl fmt::Debug for ProducerBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ProducerBuilder")
            .field("group", &self.group)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl ProducerBuilder {
    pub(crate) fn new(cluster: Arc<Cluster>, group: &str) -> Self {
        Self { cluster, group: group.to_owned(), settings: Settings::default() }
    }

    /// Sets the time that all attempts of one send have together: when it is over no further one is made. It also limits
    /// how long an asynchronous send waits for room ([`WhenBusy::Wait`]). Default 3 s; 1 ms to 1 h. The wait for a flush has
    /// a limit of its own, `sync_flush_timeout`.
    #[doc(alias = "sendMsgTimeout")]
    pub fn send_timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// Sets how many other brokers are tried where one cannot take a message. Default 2, so three attempts; 0 to 16. Only
    /// messages without an order key whose queue the producer chooses go elsewhere, and only if it is certain that they
    /// were not stored.
    #[doc(alias = "retryTimesWhenSendFailed")]
    #[doc(alias = "retryTimesWhenSendAsyncFailed")]
    pub fn retries(mut self, count: u32) -> Self {
        self.settings.retries = count;
        self
    }

    /// Sets how large bodies are compressed. Default: not at all, because a body that is not compressed is read without a
    /// copy (RocketMQ compresses with zlib unless told otherwise). Messages of a batch are never compressed.
    #[doc(alias = "compressType")]
    pub fn compression(mut self, kind: CompressionType) -> Self {
        self.settings.compress.kind = Some(kind);
        self
    }

    /// Sets from how many bytes on a body is compressed. Default 4,096. One that does not get shorter stays as it is.
    #[doc(alias = "compressMsgBodyOverHowmuch")]
    pub fn compress_over(mut self, bytes: usize) -> Self {
        self.settings.compress.over = bytes;
        self
    }

    /// Sets how hard zlib tries, 0 (not at all) to 9 (smallest). Default 5, as in RocketMQ. LZ4 and Zstandard have one level.
    #[doc(alias = "compressLevel")]
    pub fn compress_level(mut self, level: u32) -> Self {
        self.settings.compress.level = level;
        self
    }

    /// Sets how many asynchronous sends may be in flight: stored and not flushed yet, and as many with a callback that has not
    /// run. Default 1,024; 1 to 65,535. More of them share a flush; each costs some hundred bytes while it lasts.
    #[doc(alias = "backPressureForAsyncSendNum")]
    pub fn in_flight_max(mut self, count: usize) -> Self {
        self.settings.in_flight_max = count;
        self
    }

    /// Sets how many bytes asynchronous sends may have stored that are not flushed yet, as the log counts them. Default
    /// 100 MiB; at least 1 MiB. One message or batch more than that may be under way.
    #[doc(alias = "backPressureForAsyncSendSize")]
    pub fn in_flight_bytes_max(mut self, bytes: u64) -> Self {
        self.settings.in_flight_bytes_max = bytes;
        self
    }

    /// Sets what is done where a message was stored, and not as safely as was asked: its status is not `SendOk`. Default:
    /// [`WhenNotOk::Accept`].
    #[doc(alias = "retryAnotherBrokerWhenNotStoreOK")]
    pub fn when_not_ok(mut self, choice: WhenNotOk) -> Self {
        self.settings.when_not_ok = choice;
        self
    }

    /// Sets what an asynchronous send does when as many as may be are in flight. Default: [`WhenBusy::Refuse`].
    #[doc(alias = "enableBackpressureForAsyncMode")]
    pub fn when_busy(mut self, choice: WhenBusy) -> Self {
        self.settings.when_busy = choice;
        self
    }

    /// Sets what is done about brokers that were slow or failed. Default: [`SlowBrokers::Use`].
    #[doc(alias = "sendLatencyFaultEnable")]
    pub fn slow_brokers(mut self, choice: SlowBrokers) -> Self {
        self.settings.slow_brokers = choice;
        self
    }

    /// Sets whether the producer writes down where its messages went. Default: [`MessageTrace::Off`]. The traces lie in
    /// `RMQ_SYS_TRACE_TOPIC`, which is made with one queue where it is missing, as RocketMQ's tools expect them;
    /// [`Store::message_trace`](crate::Store::message_trace) finds them.
    #[doc(alias = "enableMsgTrace")]
    pub fn message_trace(mut self, choice: MessageTrace) -> Self {
        self.settings.trace = choice;
        self
    }

    /// Sends a message whose keys were sent to its topic within this window not again, but returns the receipt of the
    /// first one. Default: off; up to 30 days. For who sends again because it does not know what became of a send.
    ///
    /// The messages in the log are the memory: the window survives every crash that they survive, counts those of other
    /// producers too, and costs a lookup by key for every message that has one. Messages without a key are sent as ever,
    /// and so are those of a batch.
    ///
    /// ```
    /// use pocketmq::{Message, Store};
    /// use std::time::Duration;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let producer = store.producer_builder("shop").deduplicate(Duration::from_secs(600)).build()?;
    /// let first = producer.send(Message::new("orders", "pay").key("order-42"))?;
    /// let again = producer.send(Message::new("orders", "pay").key("order-42"))?;
    /// assert_eq!(first.message_id(), again.message_id());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn deduplicate(mut self, window: Duration) -> Self {
        self.settings.same_for = Some(window);
        self
    }

    /// Adds a hook that sees every message, behind those that were added before.
    #[doc(alias = "registerSendMessageHook")]
    pub fn send_hook(mut self, hook: impl SendMessageHook + 'static) -> Self {
        self.settings.hooks.send.push(Arc::new(hook));
        self
    }

    /// Adds a hook that may forbid a message, behind those that were added before.
    #[doc(alias = "registerCheckForbiddenHook")]
    pub fn forbidden_hook(mut self, hook: impl CheckForbiddenHook + 'static) -> Self {
        self.settings.hooks.forbidden.push(Arc::new(hook));
        self
    }

    /// Sets how many checks of transactions the listener is asked at once. Default 1, as in RocketMQ; 1 to 64. Only a
    /// [`TransactionProducer`] makes checks, and its threads start with the first one.
    #[doc(alias = "checkThreadPoolMinSize")]
    #[doc(alias = "checkThreadPoolMaxSize")]
    pub fn check_threads(mut self, count: usize) -> Self {
        self.settings.checks.threads = count;
        self
    }

    /// Sets how many checks of transactions may wait for a thread or run. Default 2,000, as in RocketMQ; 1 to 65,535. One
    /// that finds no place is not made, and does not count.
    #[doc(alias = "checkRequestHoldMax")]
    pub fn checks_waiting_max(mut self, count: usize) -> Self {
        self.settings.checks.waiting_max = count;
        self
    }

    /// Makes a producer of transactions, a member of its group, which is asked from now on about undecided transactions
    /// of the group, those of an earlier process among them. See [`TransactionProducer`].
    ///
    /// # Errors
    ///
    /// Those of [`build`](Self::build); `Unsupported` on a store that was opened read-only; `StoreFull`; `Io`.
    #[doc(alias = "TransactionMQProducer")]
    pub fn build_transactional(
        self,
        listener: impl TransactionListener + 'static,
    ) -> Result<TransactionProducer> {
        let (cluster, checks) = (Arc::clone(&self.cluster), self.settings.checks);
        let producer = self.build()?;
        let pool = cluster.add_checker(producer.group(), Arc::new(listener), checks)?;
        Ok(TransactionProducer::new(producer, pool))
    }

    /// Makes the producer, a member of its group. Any number of producers may belong to one group.
    ///
    /// # Errors
    ///
    /// `InvalidConfig` names the setting that is wrong, or the feature that this build lacks; `InvalidArgument` for a text
    /// that is no group's name; `Closed`; with a trace also `StoreFull`, `Io` and, on a store that was opened read-only,
    /// `Unsupported`.
    pub fn build(self) -> Result<Producer> {
        self.settings.check()?;
        let group = GroupName::new(&self.group)?;
        let mut settings = self.settings;
        if settings.trace == MessageTrace::On {
            make_topic(&self.cluster)?;
            let own = Producer::join(&self.cluster, &group, Settings::default())?;
            settings.hooks.send.push(Arc::new(TraceHook::new(own)));
        }
        Producer::join(&self.cluster, &group, settings)
    }
}

impl Producer {
    fn join(cluster: &Arc<Cluster>, group: &GroupName, settings: Settings) -> Result<Self> {
        let seat = cluster.seat_producer(group)?;
        let lately = settings.same_for.map(super::once::SentLately::new);
        let member = Member {
            cluster: Arc::clone(cluster),
            seat,
            settings,
            unflushed: Unflushed::default(),
            callbacks: Callbacks::default(),
            lately,
            faults: Faults::default(),
        };
        Ok(Self { member: Arc::new(member) })
    }
}
