//! How does an application read queues at its own pace, and say itself where it is?
//!
//! A [`PullConsumer`] keeps a cursor for each of its queues. It has them from its group, which divides the queues of its
//! topics among its members, or from the application, which names them. Nothing is handed out twice by a cursor; what is
//! committed is the application's business, or done every few seconds for what has been returned before.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use super::cursor::Cursor;
use super::group::Owned;
use super::member::{Listening, Member};
use crate::broker::{Broker, PositionKey};
use crate::cluster::Cluster;
use crate::commitlog::MessageView;
use crate::config::{Background, RetryPolicy};
use crate::delay::{Failed, NextAttempt};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::sync::{Arrivals, Mutex, MutexGuard, Parker, deadline_in, has_passed};
use crate::types::{GroupName, MessageQueue, QueueOffset};

/// How often positions are committed automatically.
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);
/// The shortest interval that may be set.
const COMMIT_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// A consumer that is asked for messages, and may be moved to any place of its queues (RocketMQ's lite pull consumer).
///
/// [`Store::pull_consumer`](crate::Store::pull_consumer) makes one that reads the queues it is
/// [assigned](Self::assign); [`ConsumerBuilder::pull`](super::ConsumerBuilder::pull) one that subscribes topics and shares
/// their queues with the other members of its group. A clone is the same consumer.
///
/// Positions are committed every 5 s, by the poll that comes next, for everything that earlier polls have returned; with
/// [`commit_by_hand`](Self::commit_by_hand) only by [`commit_offset`](Self::commit_offset). A queue that goes to another
/// member goes on there from its committed position. There are no retries: what fails is read again with
/// [`seek`](Self::seek), or sent back with [`Store::send_back`](crate::Store::send_back).
///
/// ```
/// # fn main() -> pocketmq::Result<()> {
/// use pocketmq::testing::TestStore;
/// use pocketmq::{Message, QueueOffset};
/// use std::time::Duration;
///
/// let store = TestStore::new();
/// store.producer("shop")?.send(Message::new("orders", "hello"))?;
/// let puller = store.pull_consumer("audit")?;
/// puller.assign(&store.queues("orders")?)?;
/// let page = puller.poll(Duration::from_secs(5))?;
/// assert_eq!(page[0].body_str()?, "hello");
/// puller.commit_offset()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[doc(alias = "DefaultLitePullConsumer")]
#[doc(alias = "DefaultMQPullConsumer")]
pub struct PullConsumer {
    shared: Arc<Shared>,
}

/// Where the queues come from.
#[derive(Debug)]
enum Source {
    /// The application names them.
    Assigned,
    /// The group divides them.
    Subscribed(Arc<Member>),
}

struct Shared {
    cluster: Arc<Cluster>,
    group: GroupName,
    source: Source,
    state: Mutex<State>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Source::Subscribed(member) = &self.source {
            member.leave();
        }
    }
}

#[derive(Debug)]
struct State {
    cursors: BTreeMap<MessageQueue, Cursor>,
    /// The queue that was read last: the next one has its turn.
    last: Option<MessageQueue>,
    owned: Owned,
    /// Told when something arrives in an assigned queue's topic.
    arrivals: Vec<Arc<Arrivals>>,
    /// `None`: by hand.
    commit_interval: Option<Duration>,
    committed_at: Duration,
}

impl PullConsumer {
    pub(crate) fn assigned(cluster: &Arc<Cluster>, group: GroupName) -> Result<Self> {
        cluster.check_open()?;
        Ok(Self::new(Arc::clone(cluster), group, Source::Assigned))
    }

    pub(super) fn subscribed(member: Member) -> Self {
        let (cluster, group) = (Arc::clone(&member.group.cluster), member.group_name().clone());
        Self::new(cluster, group, Source::Subscribed(Arc::new(member)))
    }

    fn new(cluster: Arc<Cluster>, group: GroupName, source: Source) -> Self {
        let committed_at = cluster.clock().monotonic();
        let state = State {
            cursors: BTreeMap::new(),
            last: None,
            owned: Owned::default(),
            arrivals: Vec::new(),
            commit_interval: Some(COMMIT_INTERVAL),
            committed_at,
        };
        Self { shared: Arc::new(Shared { cluster, group, source, state: Mutex::new(state) }) }
    }

    /// Returns the group.
    #[must_use]
    pub fn group(&self) -> &GroupName {
        &self.shared.group
    }

    /// Names the queues to read, in place of those that were named before. A queue that stays keeps its place; a new one
    /// starts at the group's committed position, or at its first message.
    ///
    /// # Errors
    ///
    /// `InvalidConfig` for a consumer that subscribes; `TopicNotFound`, `PermissionDenied` and `InvalidArgument` for a
    /// queue that cannot be read; `Closed`.
    pub fn assign(&self, queues: &[MessageQueue]) -> Result<()> {
        let Shared { cluster, source, state, .. } = self.shared.as_ref();
        if matches!(source, Source::Subscribed(_)) {
            let reason = "the consumer subscribes topics, and its group assigns the queues: make it with pull_consumer";
            return Err(Error::config("assign", reason));
        }
        let mut entries = Vec::with_capacity(queues.len());
        for queue in queues {
            let route = cluster.existing_route(queue.topic().as_str())?;
            entries.push((
                queue,
                Arc::clone(&route.read_queue(queue)?.broker),
                cluster.arrivals(queue.topic()),
            ));
        }
        let mut state = state.lock();
        let mut old = std::mem::take(&mut state.cursors);
        state.arrivals.clear();
        let filter = Arc::new(Filter::all());
        for (queue, broker, arrivals) in entries {
            let cursor = old.remove(queue).unwrap_or_else(|| self.cursor(queue, &broker, &filter));
            state.cursors.insert(queue.clone(), cursor);
            if !state.arrivals.iter().any(|known| Arc::ptr_eq(known, &arrivals)) {
                state.arrivals.push(arrivals);
            }
        }
        Ok(())
    }

    /// Returns the queues that the consumer reads now, sorted.
    ///
    /// # Errors
    ///
    /// `Closed`; what looking at a changed topic fails with.
    pub fn assignment(&self) -> Result<Vec<MessageQueue>> {
        Ok(self.state()?.cursors.keys().cloned().collect())
    }

    /// Returns up to ten messages of one queue, each queue in turn. Blocks until there is one, at most `timeout` (RocketMQ
    /// waits 5 s); not at all if the store is driven by hand. Returns none when the time is up.
    ///
    /// # Errors
    ///
    /// `Closed`, `PermissionDenied`, `Io` and `Corrupt`.
    pub fn poll(&self, timeout: Duration) -> Result<Vec<MessageView>> {
        let deadline = deadline_in(timeout);
        self.commit_if_due()?;
        let page = self.page()?;
        if !page.is_empty() || self.shared.cluster.config().background == Background::Manual {
            return Ok(page);
        }
        let bed = Arc::new(Parker::default());
        loop {
            bed.clear();
            let listening = self.listen(&bed);
            // Looked at after the bed is listed: what arrives from here on wakes it.
            let page = self.page()?;
            if !page.is_empty() || deadline.is_some_and(has_passed) {
                return Ok(page);
            }
            bed.park_until(self.next_due().into_iter().chain(deadline).min());
            drop(listening);
        }
    }

    /// Goes to a place of a queue: the next poll returns the message there.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a place outside the queue, or a queue that the consumer does not read; `Closed`.
    pub fn seek(&self, queue: &MessageQueue, offset: QueueOffset) -> Result<()> {
        self.go(queue, |(min, max)| {
            if (min..=max).contains(&offset) {
                return Ok(offset);
            }
            let reason = format!("{offset} lies outside {queue}: min offset = {min}, max offset = {max}");
            Err(Error::argument("offset", reason))
        })
    }

    /// Goes to the first message of a queue that exists.
    ///
    /// # Errors
    ///
    /// Those of [`seek`](Self::seek).
    #[doc(alias = "seekToBegin")]
    pub fn seek_to_begin(&self, queue: &MessageQueue) -> Result<()> {
        self.go(queue, |(min, _)| Ok(min))
    }

    /// Goes behind the last message of a queue.
    ///
    /// # Errors
    ///
    /// Those of [`seek`](Self::seek).
    #[doc(alias = "seekToEnd")]
    pub fn seek_to_end(&self, queue: &MessageQueue) -> Result<()> {
        self.go(queue, |(_, max)| Ok(max))
    }

    /// Goes to the first message of a queue that was stored at this time or later.
    ///
    /// # Errors
    ///
    /// Those of [`seek`](Self::seek); `Io` and `Corrupt`.
    #[doc(alias = "offsetForTimestamp")]
    pub fn seek_to_time(&self, queue: &MessageQueue, time: SystemTime) -> Result<()> {
        let broker = Arc::clone(&self.read(queue)?.0);
        let found = broker.offset_at(queue.topic(), queue.queue_id(), super::builder::millis(time))?;
        self.go(queue, |_| Ok(found))
    }

    /// Returns the place of the next message that a poll returns of this queue.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a queue that the consumer does not read; `Closed`.
    pub fn position(&self, queue: &MessageQueue) -> Result<QueueOffset> {
        Ok(self.read(queue)?.1)
    }

    /// Returns nothing of these queues until [`resume`](Self::resume). Queues that the consumer does not read are passed
    /// over.
    ///
    /// # Errors
    ///
    /// `Closed`; what looking at a changed topic fails with.
    pub fn pause(&self, queues: &[MessageQueue]) -> Result<()> {
        let mut state = self.state()?;
        let named = state.cursors.iter_mut().filter(|(queue, _)| queues.contains(queue));
        named.for_each(|(_, cursor)| cursor.is_paused = true);
        Ok(())
    }

    /// Goes on with these queues.
    ///
    /// # Errors
    ///
    /// Those of [`pause`](Self::pause).
    pub fn resume(&self, queues: &[MessageQueue]) -> Result<()> {
        let mut state = self.state()?;
        let named = state.cursors.iter_mut().filter(|(queue, _)| queues.contains(queue));
        named.for_each(|(_, cursor)| cursor.is_paused = false);
        let wake = state.arrivals.clone();
        drop(state);
        self.wake(&wake);
        Ok(())
    }

    /// Commits nothing by itself from now on.
    #[doc(alias = "setAutoCommit")]
    pub fn commit_by_hand(&self) {
        self.shared.state.lock().commit_interval = None;
    }

    /// Commits automatically so often. Default: 5 s.
    ///
    /// # Errors
    ///
    /// `InvalidConfig` for less than 1 s.
    #[doc(alias = "setAutoCommitIntervalMillis")]
    pub fn commit_every(&self, interval: Duration) -> Result<()> {
        if interval < COMMIT_INTERVAL_MIN {
            return Err(Error::config("commit_every", "must be 1 s or more"));
        }
        self.shared.state.lock().commit_interval = Some(interval);
        Ok(())
    }

    /// Commits for the group everything that has been returned, in every queue that the consumer reads. It survives the
    /// death of the process when this returns, and power loss after the next persist (5 s). Never blocks, but where the
    /// consumer has gone back: that waits for a flush.
    ///
    /// # Errors
    ///
    /// `Closed`, `Io`; `FlushFailed` where it has gone back; `Unsupported` on a store that was opened read-only.
    #[doc(alias = "commitSync")]
    #[doc(alias = "commit")]
    pub fn commit_offset(&self) -> Result<()> {
        let mut state = self.state()?;
        self.commit(&mut state)
    }

    /// Returns the position that the group has committed in a queue. `None` if it has none there.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the store has no broker of the queue's name, and `Closed`.
    pub fn committed(&self, queue: &MessageQueue) -> Result<Option<QueueOffset>> {
        let broker = self.shared.cluster.broker_of(queue)?;
        Ok(broker.positions().get(&self.key(queue)).map(|position| position.get()))
    }

    fn key(&self, queue: &MessageQueue) -> PositionKey {
        if let Source::Subscribed(member) = &self.shared.source {
            return member.group.key(queue);
        }
        let (topic, group) = (queue.topic().clone(), self.shared.group.clone());
        PositionKey { topic, group, queue_id: queue.queue_id() }
    }

    fn cursor(&self, queue: &MessageQueue, broker: &Arc<Broker>, filter: &Arc<Filter>) -> Cursor {
        let committed = broker.positions().get(&self.key(queue)).map(|position| position.get());
        let first = || broker.queue_range(queue.topic(), queue.queue_id()).unwrap_or_default().0;
        Cursor {
            lane: Weak::new(),
            broker: Arc::clone(broker),
            topic: broker.topic(queue.topic().as_str()),
            filter: Arc::clone(filter),
            next: committed.unwrap_or_else(first),
            committed,
            is_paused: false,
        }
    }

    /// Returns the state, with the queues that the group gives.
    fn state(&self) -> Result<MutexGuard<'_, State>> {
        self.shared.cluster.check_open()?;
        let Source::Subscribed(member) = &self.shared.source else { return Ok(self.shared.state.lock()) };
        // Before the lock: listeners of the change may call the consumer.
        member.group.refresh(member.now())?;
        let mut state = self.shared.state.lock();
        let known = state.owned.version;
        member.group.update(&member.id, &mut state.owned);
        if state.owned.version != known {
            let State { cursors, owned, .. } = &mut *state;
            let mut old = std::mem::take(cursors);
            for (lane, _) in &owned.lanes {
                let cursor = match old.remove(&lane.queue) {
                    Some(cursor) if std::ptr::eq(cursor.lane.as_ptr(), Arc::as_ptr(lane)) => cursor,
                    other => Cursor {
                        lane: Arc::downgrade(lane),
                        is_paused: other.is_some_and(|cursor| cursor.is_paused),
                        ..self.cursor(&lane.queue, lane.broker(), lane.filter())
                    },
                };
                cursors.insert(lane.queue.clone(), cursor);
            }
        }
        Ok(state)
    }

    fn read(&self, queue: &MessageQueue) -> Result<(Arc<Broker>, QueueOffset)> {
        let state = self.state()?;
        match state.cursors.get(queue) {
            Some(cursor) => Ok((Arc::clone(&cursor.broker), cursor.next)),
            None => Err(not_read(queue)),
        }
    }

    fn go(
        &self,
        queue: &MessageQueue,
        place: impl FnOnce((QueueOffset, QueueOffset)) -> Result<QueueOffset>,
    ) -> Result<()> {
        let mut state = self.state()?;
        let cursor = state.cursors.get_mut(queue).ok_or_else(|| not_read(queue))?;
        let range = cursor.broker.queue_range(queue.topic(), queue.queue_id()).unwrap_or_default();
        cursor.next = place(range)?;
        let wake = state.arrivals.clone();
        drop(state);
        self.wake(&wake);
        Ok(())
    }

    /// Looks at the queues in turn, and returns the first page that is there.
    fn page(&self) -> Result<Vec<MessageView>> {
        // Nothing but expired messages is no end: others may lie behind.
        while let Some(page) = self.next_page()? {
            if !page.is_empty() {
                return Ok(page);
            }
        }
        Ok(Vec::new())
    }

    fn next_page(&self) -> Result<Option<Vec<MessageView>>> {
        let mut state = self.state()?;
        let State { cursors, last, .. } = &mut *state;
        let turn: Vec<_> = match last {
            Some(last) => {
                let behind = cursors.keys().filter(|queue| *queue > last);
                behind.chain(cursors.keys().filter(|queue| *queue <= last)).cloned().collect()
            }
            None => cursors.keys().cloned().collect(),
        };
        for queue in turn {
            let Some(cursor) = cursors.get_mut(&queue).filter(|cursor| !cursor.is_paused) else { continue };
            if !cursor.is_of_this_topic(&queue) {
                // What is committed in the new topic counts, else its beginning.
                let is_paused = cursor.is_paused;
                *cursor = Cursor {
                    lane: Weak::clone(&cursor.lane),
                    is_paused,
                    ..self.cursor(&queue, &Arc::clone(&cursor.broker), &Arc::clone(&cursor.filter))
                };
            }
            let page = cursor.page(&queue)?;
            if !page.is_empty() {
                let broker = Arc::clone(&cursor.broker);
                *last = Some(queue.clone());
                drop(state);
                return self.without_expired(&queue, &broker, page).map(Some);
            }
        }
        Ok(None)
    }

    /// Puts messages that have expired among the dead letters, and returns the others. Blocks as a send does for those. What
    /// cannot be put there is read again, with what lies behind it.
    fn without_expired(
        &self,
        queue: &MessageQueue,
        broker: &Broker,
        page: Vec<MessageView>,
    ) -> Result<Vec<MessageView>> {
        let Shared { cluster, group, state, .. } = self.shared.as_ref();
        let now = cluster.clock().wall_millis();
        let mut live = Vec::with_capacity(page.len());
        for message in page {
            if message.expires_at_millis().is_none_or(|at| at > now) {
                live.push(message);
                continue;
            }
            let put_away = cluster.send_back(&Failed {
                broker,
                group,
                message: &message,
                times: message.reconsume_times(),
                policy: &RetryPolicy::default(),
                next: NextAttempt::DeadLetter,
                reason: super::expiry::REASON,
            });
            if let Err(error) = put_away {
                if let Some(cursor) = state.lock().cursors.get_mut(queue) {
                    cursor.next = cursor.next.min(message.queue_offset());
                }
                return if live.is_empty() { Err(error) } else { Ok(live) };
            }
        }
        Ok(live)
    }

    fn commit_if_due(&self) -> Result<()> {
        let now = self.shared.cluster.clock().monotonic();
        let mut state = self.state()?;
        let is_due = |every: Duration| now.saturating_sub(state.committed_at) >= every;
        if !state.commit_interval.is_some_and(is_due) {
            return Ok(());
        }
        state.committed_at = now;
        self.commit(&mut state)
    }

    fn commit(&self, state: &mut State) -> Result<()> {
        for (queue, cursor) in &mut state.cursors {
            if cursor.committed == Some(cursor.next) {
                continue;
            }
            cursor.broker.check_writable()?;
            let position = cursor.broker.positions().position(&self.key(queue), cursor.next)?;
            cursor.broker.commit_position(&position, cursor.next)?;
            cursor.committed = Some(cursor.next);
        }
        Ok(())
    }

    /// Has a thread woken by everything that may bring it a message.
    fn listen(&self, bed: &Arc<Parker>) -> Waiting {
        match &self.shared.source {
            Source::Subscribed(member) => Waiting::Member { _listening: member.listen(bed) },
            Source::Assigned => {
                let arrivals = self.shared.state.lock().arrivals.clone();
                arrivals.iter().for_each(|arrivals| arrivals.register(bed));
                Waiting::Topics { arrivals, bed: Arc::clone(bed) }
            }
        }
    }

    fn wake(&self, topics: &[Arc<Arrivals>]) {
        match &self.shared.source {
            Source::Subscribed(member) => member.wake(),
            Source::Assigned => topics.iter().for_each(|arrivals| arrivals.notify()),
        }
    }

    fn next_due(&self) -> Option<Instant> {
        match &self.shared.source {
            Source::Subscribed(member) => member.next_due().and_then(deadline_in),
            Source::Assigned => None,
        }
    }
}

/// Keeps a bed listed until this is dropped.
enum Waiting {
    Member { _listening: Listening },
    Topics { arrivals: Vec<Arc<Arrivals>>, bed: Arc<Parker> },
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Self::Topics { arrivals, bed } = self {
            arrivals.iter().for_each(|arrivals| arrivals.deregister(bed));
        }
    }
}

fn not_read(queue: &MessageQueue) -> Error {
    Error::argument("queue", format!("{queue} is none of the queues that this consumer reads"))
}

impl fmt::Debug for PullConsumer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PullConsumer").field("group", self.group()).finish_non_exhaustive()
    }
}
