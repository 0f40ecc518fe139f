//! What does a consumer need to be told before it starts?

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::group::Group;
use super::listener::{ConsumeContext, ConsumeMessageHook, Handler, IntoHandlerOutcome};
use super::member::{Member, Model};
use super::retry::Retries;
use super::settings::{Kind, Mode, QueueChange, Settings, StartFrom, Subscription, Terms, in_range};
use super::simple::Shared as Leased;
use super::{Consumer, PullConsumer, PushConsumer, SimpleConsumer};
use crate::cluster::{AllocateMessageQueueStrategy, Circle, Cluster, RouteQueue};
use crate::commitlog::MessageView;
use crate::config::RetryPolicy;
use crate::dedup::{SameBy, check_window};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::types::{GroupName, QueueOffset, TopicName, check_instance};

/// Builds a member of a consumer group: a [`Consumer`] for loops, or a [`PushConsumer`] that calls a handler.
///
/// All members of a group subscribe the same topics with the same filters. Nothing is checked before the last call.
#[must_use = "a builder does nothing until build() or listen() is called"]
pub struct ConsumerBuilder {
    cluster: Arc<Cluster>,
    group: String,
    subscriptions: Vec<(String, Filter)>,
    start: Option<StartFrom>,
    mode: Mode,
    model: Model,
    same: Option<(SameBy, Duration)>,
    settings: Settings,
}

impl fmt::Debug for ConsumerBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ConsumerBuilder")
            .field("group", &self.group)
            .field("subscriptions", &self.subscriptions)
            .finish_non_exhaustive()
    }
}

impl ConsumerBuilder {
    pub(crate) fn new(cluster: Arc<Cluster>, group: &str) -> Self {
        Self {
            cluster,
            group: group.to_owned(),
            subscriptions: Vec::new(),
            start: None,
            mode: Mode::Concurrent,
            model: Model::Clustering,
            same: None,
            settings: Settings::default(),
        }
    }

    /// Subscribes a topic: the messages whose tags the filter accepts. `"*"` accepts all, `"created || paid"` two tags.
    /// Call it once for each topic.
    pub fn subscribe(mut self, topic: &str, filter: impl Into<Filter>) -> Self {
        self.subscriptions.push((topic.to_owned(), filter.into()));
        self
    }

    /// Says where the group starts in queues in which it has no position yet. Default: [`StartFrom::Earliest`]; for a
    /// broadcasting member [`StartFrom::Latest`].
    #[doc(alias = "setConsumeFromWhere")]
    pub const fn start_from(mut self, start: StartFrom) -> Self {
        self.start = Some(start);
        self
    }

    /// Handles each queue in order: one message (or batch) at a time, and one that fails holds its queue until it
    /// succeeds. Default: concurrently. All members of a group do the same.
    #[doc(alias = "MessageListenerOrderly")]
    pub const fn orderly(mut self) -> Self {
        self.mode = Mode::Orderly;
        self
    }

    /// Gives every message to every member, under the name of this instance: its positions are kept under that name, so
    /// it goes on where it was after a restart. A message whose attempt fails does not come back. Default: clustering,
    /// each message to one member.
    #[doc(alias = "MessageModel")]
    #[doc(alias = "BROADCASTING")]
    pub fn broadcast(mut self, instance: &str) -> Self {
        self.model = Model::Broadcasting;
        self.instance(instance)
    }

    /// Names this member: letters, digits, `-` and `_`, at most 100. Queues are allocated in the order of these names.
    /// Default: a name that no member has had.
    #[doc(alias = "setInstanceName")]
    #[doc(alias = "clientId")]
    pub fn instance(mut self, name: &str) -> Self {
        self.settings.instance = Some(name.to_owned());
        self
    }

    /// Says how the queues of a topic are divided among the members. Default:
    /// [`Allocate::Averagely`](crate::Allocate::Averagely). Give all members of a group the same.
    #[doc(alias = "setAllocateMessageQueueStrategy")]
    pub fn allocate(mut self, strategy: impl AllocateMessageQueueStrategy + 'static) -> Self {
        self.settings.strategy = Arc::new(strategy);
        self
    }

    /// Has `listener` told whenever this member gets or loses queues, once for each topic, in order. It runs in whatever
    /// thread causes the change, with no lock held; be quick.
    #[doc(alias = "MessageQueueListener")]
    #[doc(alias = "messageQueueChanged")]
    pub fn on_queues_changed(mut self, listener: impl Fn(&QueueChange) + Send + Sync + 'static) -> Self {
        self.settings.queue_listener = Some(Arc::new(listener));
        self
    }

    /// Says how long a queue that is to go to another member waits for this group's messages in hand. Default: 20 s;
    /// 1 ms to 24 h. The member that joined last decides for its group.
    pub const fn handover_timeout(mut self, timeout: Duration) -> Self {
        self.settings.handover_timeout = timeout;
        self
    }

    /// Says how long a handler may have its messages before they count as failed and come back 10 s later; what it says
    /// afterwards is ignored. For concurrent handlers. Default: 15 min; 1 ms to 24 h.
    #[doc(alias = "setConsumeTimeout")]
    pub const fn consume_timeout(mut self, timeout: Duration) -> Self {
        self.settings.consume_timeout = timeout;
        self
    }

    /// Says how long an orderly queue rests after a failure. Default: 1 s; 10 ms to 30 s.
    #[doc(alias = "setSuspendCurrentQueueTimeMillis")]
    pub const fn suspend_time(mut self, time: Duration) -> Self {
        self.settings.suspend = time;
        self
    }

    /// Says how often and after which waits a message that failed comes back before it goes to the dead letters. Default:
    /// RocketMQ's, 16 retries after 10 s to 2 h; for an orderly consumer without end, each after `suspend_time`: there
    /// only the number of retries counts.
    #[doc(alias = "groupRetryPolicy")]
    pub fn retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.settings.retries = Retries::chosen(policy);
        self
    }

    /// Says how often a message that failed comes back before it goes to the dead letters. 0: its first failure is its
    /// last. Default: as [`retry_policy`](Self::retry_policy) says.
    #[doc(alias = "setMaxReconsumeTimes")]
    pub fn max_retries(mut self, count: u32) -> Self {
        self.settings.retries = self.settings.retries.with_limit(count);
        self
    }

    /// Hands out no message that the group has handled already within this window. Default: off; up to 30 days. All
    /// members of a group do the same.
    ///
    /// What was handled is noted when it is acknowledged, for the last 32,768 messages, in a file of the store's that
    /// survives the death of the process; of what was acknowledged shortly before a power loss some may come again. Two
    /// that are the same and under way at once are both handed out. Delivery stays at least once: for an effect that must
    /// not happen twice, keep the ids in the same transaction as the effect.
    pub const fn deduplicate(mut self, by: SameBy, window: Duration) -> Self {
        self.same = Some((by, window));
        self
    }

    /// Stops fetching from a queue while more than so many of its messages are not acknowledged. Looked at before each
    /// fetch, so that one batch more may come. Default: 1,000; 1 to 65,535.
    #[doc(alias = "setPullThresholdForQueue")]
    pub const fn pull_threshold(mut self, messages: usize) -> Self {
        self.settings.limits.messages = messages;
        self
    }

    /// Stops fetching from a queue while those messages have more than so many bytes in the log. Default: 100 MiB;
    /// 1 MiB to 1 GiB.
    #[doc(alias = "setPullThresholdSizeForQueue")]
    pub const fn pull_threshold_bytes(mut self, bytes: u64) -> Self {
        self.settings.limits.bytes = bytes;
        self
    }

    /// Limits the messages of all queues of a topic that this member has and that are not acknowledged: each queue gets an
    /// equal share, in place of [`pull_threshold`](Self::pull_threshold). Default: off; 1 to 6,553,500.
    #[doc(alias = "setPullThresholdForTopic")]
    pub const fn pull_threshold_for_topic(mut self, messages: usize) -> Self {
        self.settings.topic_limits.0 = Some(messages);
        self
    }

    /// Limits their bytes in the log, as [`pull_threshold_for_topic`](Self::pull_threshold_for_topic) limits their number.
    /// Default: off; 1 MiB to 100 GiB.
    #[doc(alias = "setPullThresholdSizeForTopic")]
    pub const fn pull_threshold_bytes_for_topic(mut self, bytes: u64) -> Self {
        self.settings.topic_limits.1 = Some(bytes);
        self
    }

    /// Stops fetching from a queue while the first message that is not acknowledged and the last that was fetched lie
    /// further apart than this. Not for orderly consumers. Default: 2,000; 1 to 65,535.
    #[doc(alias = "setConsumeConcurrentlyMaxSpan")]
    pub const fn concurrent_span_max(mut self, span: usize) -> Self {
        self.settings.limits.span = span;
        self
    }

    /// Says how many messages one fetch brings at most. Default: 32; 1 to 1,024.
    #[doc(alias = "setPullBatchSize")]
    pub const fn pull_batch_size(mut self, messages: usize) -> Self {
        self.settings.limits.pull_batch = messages;
        self
    }

    /// Says how long [`SimpleConsumer::receive`](super::SimpleConsumer::receive) waits for the first message. Default:
    /// 30 s; up to 24 h.
    #[doc(alias = "setAwaitDuration")]
    pub const fn await_duration(mut self, wait: Duration) -> Self {
        self.settings.await_duration = wait;
        self
    }

    /// Limits the messages that the group's simple consumers may have leased on one broker, those among them that are
    /// acknowledged before one that lies before them in its queue. At the limit nothing more is received. Default: 10,000;
    /// 1 to 16,384.
    #[doc(alias = "popInflightMessageThreshold")]
    pub const fn leases_max(mut self, count: usize) -> Self {
        self.settings.leases_max = count;
        self
    }

    /// Lets a hook look on while messages are handled. Several are called in turn. For push consumers.
    #[doc(alias = "registerConsumeMessageHook")]
    pub fn hook(mut self, hook: impl ConsumeMessageHook + 'static) -> Self {
        self.settings.hooks.push(Arc::new(hook));
        self
    }

    /// Makes a consumer for loops. Where the group starts is on disk when this returns, so nothing that is sent
    /// afterwards is skipped, crash or not. Blocks for that sync.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a name or a filter that is none; `InvalidConfig` without a subscription, with two of one
    /// topic, for a setting out of its range, if the group's other members subscribe otherwise, or if one of them has
    /// the same name; `PermissionDenied` if a topic may not be read; `Closed`; `StoreFull` and `Io`.
    pub fn build(self) -> Result<Consumer> {
        Ok(Consumer::new(self.join(Kind::Handed)?))
    }

    /// Makes a pull consumer: it has its share of the group's queues, says itself where it is in each, and commits when it
    /// wants to. Retries, limits and hooks do not concern it.
    ///
    /// # Errors
    ///
    /// Those of [`build`](Self::build).
    #[doc(alias = "DefaultLitePullConsumer")]
    pub fn pull(self) -> Result<PullConsumer> {
        Ok(PullConsumer::subscribed(self.join(Kind::Pulled)?))
    }

    /// Makes a simple consumer, which leases messages: it shares all queues with the group's other simple consumers,
    /// whatever their number. Of the settings, the subscriptions, `orderly`, `deduplicate`, the start, the retry policy,
    /// [`await_duration`](Self::await_duration) and [`leases_max`](Self::leases_max) concern it.
    ///
    /// # Errors
    ///
    /// Those of [`build`](Self::build); `InvalidConfig` for a broadcasting one.
    #[doc(alias = "SimpleConsumerBuilder")]
    pub fn simple(self) -> Result<SimpleConsumer> {
        if self.model == Model::Broadcasting {
            let reason = "a simple consumer shares its messages: name a group for each member instead";
            return Err(Error::config("broadcast", reason));
        }
        let settings = Settings { instance: None, queue_listener: None, ..self.settings.clone() };
        let Meeting { group, model, terms, start } = self.meet(Kind::Leased)?;
        // Held until the first one has joined: the others share what it opens.
        let mut leased = group.leased.lock();
        let shared = match leased.upgrade() {
            Some(shared) => {
                group.check_terms(&terms)?;
                shared
            }
            None => {
                let member = Member::join(Arc::clone(&group), model, &terms, settings.clone(), start)?;
                let opened = Arc::new(Leased::open(member)?);
                *leased = Arc::downgrade(&opened);
                opened
            }
        };
        drop(leased);
        Ok(SimpleConsumer::new(shared, &settings))
    }

    /// Makes a push consumer that calls `handler` with one message at a time, in up to `threads` threads (1 to 1,000).
    ///
    /// The handler may return nothing, a [`ConsumeStatus`](super::ConsumeStatus) or
    /// [`ConsumeOrderlyStatus`](super::ConsumeOrderlyStatus), or a result with one of these in it. An error and a panic
    /// are failed attempts.
    ///
    /// ```
    /// # fn main() -> pocketmq::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// use pocketmq::{HandlerResult, Message, MessageView, Store};
    /// use std::time::Duration;
    ///
    /// let store = Store::open(dir.path())?;
    /// let (sender, bodies) = std::sync::mpsc::channel();
    /// let worker = store.consumer("billing").subscribe("orders", "*").listen(4, move |message: &MessageView| -> HandlerResult {
    ///     Ok(sender.send(message.body_str()?.into_owned())?)
    /// })?;
    /// store.producer("shop")?.send(Message::new("orders", "hello"))?;
    /// assert_eq!(bodies.recv_timeout(Duration::from_secs(10)).unwrap(), "hello");
    /// worker.shutdown(Duration::from_secs(10))?;
    /// # store.close()
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`build`](Self::build), and `Io` if threads cannot be started.
    #[doc(alias = "registerMessageListener")]
    pub fn listen<R: IntoHandlerOutcome>(
        self,
        threads: usize,
        handler: impl Fn(&MessageView) -> R + Send + Sync + 'static,
    ) -> Result<PushConsumer> {
        self.listen_batch(threads, 1, move |messages, _| {
            // A batch of one has one; nothing to handle would be handled.
            messages
                .first()
                .map_or_else(|| ().into_handler_outcome(), |message| handler(message).into_handler_outcome())
        })
    }

    /// Makes a push consumer that calls `handler` with up to `batch` messages of one queue (1 to 1,024), in up to
    /// `threads` threads (1 to 1,000). A batch is what is there; it never waits to be full.
    ///
    /// # Errors
    ///
    /// Those of [`listen`](Self::listen).
    #[doc(alias = "setConsumeMessageBatchMaxSize")]
    #[doc(alias = "setConsumeThreadMax")]
    pub fn listen_batch<R: IntoHandlerOutcome>(
        self,
        threads: usize,
        batch: usize,
        handler: impl Fn(&[MessageView], &mut ConsumeContext<'_>) -> R + Send + Sync + 'static,
    ) -> Result<PushConsumer> {
        in_range("threads", threads, 1, 1_000)?;
        in_range("batch", batch, 1, 1_024)?;
        let handler: Handler =
            Box::new(move |messages, context| handler(messages, context).into_handler_outcome());
        PushConsumer::start(self.join(Kind::Handed)?, threads, batch, handler)
    }

    /// Checks everything and joins the group.
    fn join(self, kind: Kind) -> Result<Member> {
        let settings = self.settings.clone();
        let Meeting { group, model, terms, start } = self.meet(kind)?;
        Member::join(group, model, &terms, settings, start)
    }

    /// Checks everything and finds the group.
    fn meet(self, kind: Kind) -> Result<Meeting> {
        self.cluster.check_open()?;
        let name = GroupName::new(&self.group)?;
        self.settings.check()?;
        if let Some(instance) = &self.settings.instance {
            check_instance(instance)?;
        }
        let mut subscriptions = checked(self.subscriptions)?;
        if self.model == Model::Clustering {
            subscribe_retries(&mut subscriptions, &name);
        }
        if let Some((_, window)) = self.same {
            check_window(window)?;
        }
        let terms = Terms { subscriptions, kind, mode: self.mode, same: self.same };
        self.cluster.brokers().iter().try_for_each(|broker| broker.check_writable())?;
        let (circle, keeper, start) = match (self.model, &self.settings.instance) {
            (Model::Broadcasting, Some(instance)) => {
                let keeper = GroupName::of_instance(&name, instance)?;
                (Circle::Broadcasting(instance.as_str().into()), keeper, StartFrom::Latest)
            }
            _ => (Circle::Clustering, name.clone(), StartFrom::Earliest),
        };
        let cluster = Arc::clone(&self.cluster);
        let made = || Group::new(cluster, name.clone(), keeper);
        let group = self.cluster.groups().meet(&name, &circle, made)?;
        let start = self.start.unwrap_or(start);
        Ok(Meeting { group, model: self.model, terms, start })
    }
}

/// A group, and how somebody wants to join it.
struct Meeting {
    group: Arc<Group>,
    model: Model,
    terms: Terms,
    start: StartFrom,
}

/// Checks the subscriptions and sorts them by topic.
fn checked(asked: Vec<(String, Filter)>) -> Result<Vec<Subscription>> {
    if asked.is_empty() {
        return Err(Error::config("subscribe", "a consumer needs a topic: call subscribe(topic, \"*\")"));
    }
    let mut subscriptions: Vec<Subscription> = Vec::new();
    for (topic, filter) in asked {
        filter.check()?;
        let topic = TopicName::new(&topic)?;
        if subscriptions.iter().any(|known| known.topic == topic) {
            let reason = format!("topic {topic} is subscribed twice: join the tags with ||");
            return Err(Error::config("subscribe", reason));
        }
        subscriptions.push(Subscription { topic, filter: Arc::new(filter) });
    }
    subscriptions.sort_by(|one, other| one.topic.cmp(&other.topic));
    Ok(subscriptions)
}

/// Adds the topic in which the group's failed messages come back.
fn subscribe_retries(subscriptions: &mut Vec<Subscription>, group: &GroupName) {
    let topic = TopicName::retry_of(group);
    if let Err(place) = subscriptions.binary_search_by(|known| known.topic.cmp(&topic)) {
        subscriptions.insert(place, Subscription { topic, filter: Arc::new(Filter::all()) });
    }
}

/// Returns where a group starts in a queue that is new to it.
pub(super) fn first_offset(entry: &RouteQueue, start: StartFrom) -> Result<QueueOffset> {
    let (topic, queue_id) = (entry.queue().topic(), entry.queue().queue_id());
    let (min, max) = entry.broker.queue_range(topic, queue_id).unwrap_or_default();
    Ok(match start {
        StartFrom::Earliest => min,
        StartFrom::Latest => max,
        StartFrom::Time(time) => entry.broker.offset_at(topic, queue_id, millis(time))?,
    })
}

/// Returns a time in milliseconds since 1970.
pub(super) fn millis(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis),
    }
}
