//! What does one member do: whose turn is it among its queues, what becomes of a result, and who wakes it?

use std::sync::Arc;
use std::time::Duration;

use super::delivery::Delivery;
use super::group::{Group, Owned};
use super::lane::{Lane, PutAway, Signals, TakeRules, Taken, Ticket};
use super::retry::{Failure, HandBack};
use super::settings::{Mode, Settings, StartFrom, Terms};
use crate::broker::JoinedAck;
use crate::cluster::MemberId;
use crate::commitlog::MessageView;
use crate::config::Background;
use crate::delay::NextAttempt;
use crate::error::{Error, Result};
use crate::sync::{Arrivals, AtomicBool, Mutex, Ordering, Parker};
use crate::types::{GroupName, MessageQueue, QueueOffset};

/// The delay level after which a message comes back whose handler took too long: 10 s, as in RocketMQ.
const OVERDUE_LEVEL: u32 = 3;

/// How the members of a group share messages (RocketMQ's `MessageModel`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Model {
    /// Each message goes to one of them.
    Clustering,
    /// Each message goes to all of them.
    Broadcasting,
}

/// One member of a group: what all clones of a consumer share.
pub(super) struct Member {
    pub(super) group: Arc<Group>,
    pub(super) id: MemberId,
    pub(super) model: Model,
    pub(super) mode: Mode,
    pub(super) settings: Settings,
    /// Told when something arrives in a subscribed topic.
    arrivals: Vec<Arc<Arrivals>>,
    /// Told when something changes inside the member: a failed message waits, a full queue has room.
    changes: Arrivals,
    owned: Mutex<Turn>,
    is_paused: AtomicBool,
    has_left: AtomicBool,
    /// It hands out nothing more.
    is_ending: AtomicBool,
    /// Wakes tasks that wait for a time.
    #[cfg(feature = "async")]
    pub(super) alarm: super::stream::Alarm,
}

/// The lanes of a member, and whose turn it is.
#[derive(Debug, Default)]
struct Turn {
    owned: Owned,
    next: usize,
}

/// Messages of one queue that are handed out together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) lane: Arc<Lane>,
    pub(super) epoch: u64,
    pub(super) messages: Vec<MessageView>,
    /// One for each message.
    pub(super) tickets: Vec<Ticket>,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Member")
            .field("group", &self.group.name)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Member {
    /// Joins a group, and leaves it again where that fails.
    pub(super) fn join(
        group: Arc<Group>,
        model: Model,
        terms: &Terms,
        settings: Settings,
        start: StartFrom,
    ) -> Result<Self> {
        let number = group.cluster.groups().next_member();
        let id = settings.instance.clone().unwrap_or_else(|| format!("member-{number:08}"));
        let id = MemberId::from(id);
        let topics = terms.subscriptions.iter();
        let arrivals = topics.map(|wanted| group.cluster.arrivals(&wanted.topic)).collect();
        group.join(&id, terms, &settings, start)?;
        Ok(Self {
            group,
            id,
            model,
            mode: terms.mode,
            settings,
            arrivals,
            changes: Arrivals::default(),
            owned: Mutex::default(),
            is_paused: AtomicBool::new(false),
            has_left: AtomicBool::new(false),
            is_ending: AtomicBool::new(false),
            #[cfg(feature = "async")]
            alarm: super::stream::Alarm::default(),
        })
    }

    /// Leaves the group. Messages that are in hand may still be acknowledged for a while.
    pub(super) fn leave(&self) {
        if !self.has_left.swap(true, Ordering::AcqRel) {
            self.group.leave(&self.id);
            self.changes.notify();
        }
    }

    pub(super) fn group_name(&self) -> &GroupName {
        &self.group.name
    }

    pub(super) fn background(&self) -> Background {
        self.group.cluster.config().background
    }

    /// Returns the time by which everything here is reckoned.
    pub(super) fn now(&self) -> Duration {
        self.group.cluster.clock().monotonic()
    }

    /// Returns the time of day in milliseconds since 1970.
    pub(super) fn wall_millis(&self) -> i64 {
        self.group.cluster.clock().wall_millis()
    }

    /// Refuses work where the store is closed or the member has left.
    pub(super) fn check_open(&self) -> Result<()> {
        if self.has_left.load(Ordering::Acquire) {
            Err(Error::Closed)
        } else {
            self.group.cluster.check_open()
        }
    }

    /// Hands out nothing any more, and ends a look at the queues that is under way.
    pub(super) fn end(&self) {
        self.is_ending.store(true, Ordering::Release);
        self.changes.notify();
    }

    /// Hands out nothing until [`resume`](Self::resume).
    pub(super) fn pause(&self) {
        self.is_paused.store(true, Ordering::Release);
    }

    pub(super) fn resume(&self) {
        self.is_paused.store(false, Ordering::Release);
        self.changes.notify();
    }

    pub(super) fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Acquire)
    }

    /// Returns the next message, each queue in turn.
    pub(super) fn take(self: &Arc<Self>) -> Result<Option<Delivery>> {
        let look = |lane: &Arc<Lane>, rules: &TakeRules| {
            Ok(lane.take(rules)?.map(|taken| (Arc::clone(lane), taken)))
        };
        while let Some((lane, taken)) = self.visit(look)? {
            // No lock is held: putting away what has expired may block.
            if let Some(taken) = self.unless_expired(&lane, taken) {
                return Ok(Some(Delivery::new(Arc::clone(self), lane, taken)));
            }
        }
        Ok(None)
    }

    /// Returns the next messages of one queue, each queue in turn. They do not count as begun.
    pub(super) fn take_batch(&self, count_max: usize) -> Result<Option<Batch>> {
        while let Some(batch) = self.visit(|lane, rules| batch_of(lane, rules, count_max))? {
            if let Some(batch) = self.without_expired(batch) {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// Returns the next messages of a queue that the member has just worked on.
    pub(super) fn take_more(&self, lane: &Arc<Lane>, epoch: u64, count_max: usize) -> Result<Option<Batch>> {
        self.check_open()?;
        if self.is_paused() {
            return Ok(None);
        }
        let queues = self.owned.lock().owned.queues_of(lane);
        let batch = batch_of(lane, &self.rules(epoch, self.now(), queues), count_max)?;
        Ok(batch.and_then(|batch| self.without_expired(batch)))
    }

    /// How the member takes from a queue, of so many of its topic.
    fn rules(&self, epoch: u64, now: Duration, queues: usize) -> TakeRules {
        TakeRules { epoch, mode: self.mode, limits: self.settings.limits_of(queues), now }
    }

    /// Looks at the member's queues in turn until one has something.
    fn visit<T>(&self, look: impl Fn(&Arc<Lane>, &TakeRules) -> Result<Option<T>>) -> Result<Option<T>> {
        self.check_open()?;
        let now = self.now();
        // Before the lock below: listeners of the change may call the member.
        self.group.refresh(now)?;
        if self.is_paused() {
            return Ok(None);
        }
        let mut turn = self.owned.lock();
        self.group.update(&self.id, &mut turn.owned);
        loop {
            // A long row of messages that nobody wants must not keep anybody from ending.
            self.check_open()?;
            if self.is_ending.load(Ordering::Acquire) {
                return Ok(None);
            }
            let Turn { owned, next } = &mut *turn;
            let (start, count) = (*next, owned.lanes.len());
            let mut more = false;
            for step in 0..count {
                let place = start.wrapping_add(step).checked_rem(count).unwrap_or(0);
                let Some((lane, epoch)) = owned.lanes.get(place) else { continue };
                *next = place.wrapping_add(1);
                if let Some(found) = look(lane, &self.rules(*epoch, now, owned.queues_of(lane)))? {
                    return Ok(Some(found));
                }
                more |= lane.has_more();
            }
            if !more {
                return Ok(None);
            }
        }
    }

    /// Notes that a message has been handled.
    pub(super) fn ack(&self, lane: &Arc<Lane>, ticket: &Ticket) -> Result<()> {
        self.group.cluster.check_open()?;
        self.settled(lane, lane.finish(ticket))
    }

    /// Notes that an attempt has failed: the message comes back, here or elsewhere, or is given up. Blocks as a send
    /// does where a copy is stored. The error says why the copy could not be stored: the message comes back then.
    pub(super) fn fail(&self, lane: &Arc<Lane>, taken: Taken, failure: Failure<'_>) -> Result<()> {
        // A store that is closed is somebody else's: nothing is written there any more.
        self.group.cluster.check_open()?;
        let Taken { message, ticket } = taken;
        let is_given_up =
            failure.next == NextAttempt::DeadLetter || self.settings.retries.is_last_in_place(ticket.attempt);
        match (self.model, self.mode) {
            // Nobody sends a broadcast message again (contract V6).
            (Model::Broadcasting, _) => self.settled(lane, lane.finish(&ticket)),
            (Model::Clustering, Mode::Orderly) if !is_given_up => {
                self.fail_in_place(lane, &ticket, message, failure.next);
                Ok(())
            }
            (Model::Clustering, _) => self.give_back(lane, &ticket, &message, failure),
        }
    }

    /// Puts a message back to where it was, before all others of its queue, which rests for a while.
    fn fail_in_place(&self, lane: &Arc<Lane>, ticket: &Ticket, message: MessageView, next: NextAttempt) {
        let pause = if let NextAttempt::After(pause) = next { pause } else { self.settings.suspend };
        lane.suspend(ticket.epoch, self.now().saturating_add(pause));
        let signals = lane.put_back(ticket, ticket.attempt.saturating_add(1), Some(message));
        self.tell(lane, signals);
    }

    /// Has a copy stored in the retry topic or among the dead letters, unless the result comes too late.
    fn give_back(
        &self,
        lane: &Arc<Lane>,
        ticket: &Ticket,
        message: &MessageView,
        failure: Failure<'_>,
    ) -> Result<()> {
        if !lane.begin_return(ticket) {
            return Ok(());
        }
        self.put_away(lane, ticket, message, failure)
    }

    /// Begins to acknowledge a message by sending another one.
    pub(super) fn begin_join(&self, lane: &Lane, ticket: &Ticket) -> Result<JoinedAck> {
        self.group.cluster.check_open()?;
        lane.begin_join(ticket, self.group.key(&lane.queue))
    }

    /// Ends what [`begin_join`](Self::begin_join) began: the other message is stored, and the position has moved.
    pub(super) fn end_join(&self, lane: &Arc<Lane>, ticket: &Ticket, next: QueueOffset) -> Result<()> {
        self.settled(lane, lane.end_join(ticket, next))
    }

    /// Ends it the other way: nothing is stored, and the attempt has failed. Blocks as [`fail`](Self::fail) does.
    pub(super) fn fail_join(&self, lane: &Arc<Lane>, taken: &Taken, failure: Failure<'_>) -> Result<()> {
        let Taken { message, ticket } = taken;
        let in_place = self.mode == Mode::Orderly && !self.settings.retries.is_last_in_place(ticket.attempt);
        match self.model {
            Model::Broadcasting => self.settled(lane, lane.put_away(ticket, PutAway::Stored)),
            Model::Clustering if in_place => {
                let due = self.now().saturating_add(self.settings.suspend);
                self.settled(lane, lane.put_away(ticket, PutAway::InPlace(due)))
            }
            Model::Clustering => self.put_away(lane, ticket, message, failure),
        }
    }

    fn put_away(
        &self,
        lane: &Arc<Lane>,
        ticket: &Ticket,
        message: &MessageView,
        failure: Failure<'_>,
    ) -> Result<()> {
        let (cluster, group) = (self.group.cluster.as_ref(), &self.group.name);
        let hand_back = HandBack { cluster, group, retries: &self.settings.retries, mode: self.mode };
        // No lock is held: storing it may block.
        let (away, stored) = hand_back.store(lane, message, ticket, failure);
        self.settled(lane, lane.put_away(ticket, away)).and(stored)
    }

    /// Tells those who wait for a result, also where the position could not be written: it is kept in memory, and the
    /// next commit writes it.
    fn settled(&self, lane: &Arc<Lane>, result: Result<Signals>) -> Result<()> {
        self.tell(lane, *result.as_ref().unwrap_or(&Signals { let_go: true, wake: true }));
        result.map(drop)
    }

    /// Releases messages that nobody has begun with.
    pub(super) fn release(&self, batch: Batch) {
        let Batch { lane, messages, tickets, .. } = batch;
        let mut signals = Signals::default();
        for (message, ticket) in messages.into_iter().zip(tickets).rev() {
            signals = lane.put_back(&ticket, ticket.attempt, Some(message));
        }
        self.tell(&lane, Signals { wake: true, ..signals });
    }

    /// Treats messages that a handler has had for too long as failed: its own result will be too late. Returns when to
    /// look again, `None` where nobody has to.
    pub(super) fn expire(&self, now: Duration) -> Option<Duration> {
        let timeout = self.settings.consume_timeout;
        if self.mode == Mode::Orderly || self.check_open().is_err() {
            return None;
        }
        let lanes = self.lanes();
        for (lane, epoch) in &lanes {
            for ticket in lane.begin_overdue(*epoch, now, timeout) {
                // A copy that cannot be stored is tried again with the message.
                let _ = self.return_overdue(lane, &ticket);
            }
        }
        let oldest = lanes.iter().filter_map(|(lane, _)| lane.oldest_begun()).min();
        Some(oldest.unwrap_or(now).saturating_add(timeout))
    }

    /// Treats all messages of a batch as failed, whose handler has had them for too long.
    pub(super) fn expire_batch(&self, batch: &Batch) {
        for ticket in &batch.tickets {
            if batch.lane.begin_return(ticket) {
                // A copy that cannot be stored is tried again with the message.
                let _ = self.return_overdue(&batch.lane, ticket);
            }
        }
    }

    fn return_overdue(&self, lane: &Arc<Lane>, ticket: &Ticket) -> Result<()> {
        let next = NextAttempt::AtLevel(OVERDUE_LEVEL);
        let failure = Failure { next, reason: "the handler took longer than the consume timeout" };
        match (self.model, lane.read(ticket.offset)) {
            (Model::Clustering, Ok(Some(message))) => self.put_away(lane, ticket, &message, failure),
            // Nobody can handle what is gone, and nobody sends a broadcast message again.
            (Model::Broadcasting, _) | (_, Ok(None)) => {
                self.settled(lane, lane.put_away(ticket, PutAway::Stored))
            }
            (Model::Clustering, Err(error)) => {
                self.settled(lane, lane.put_away(ticket, PutAway::Until(self.now()))).and(Err(error))
            }
        }
    }

    fn lanes(&self) -> Vec<(Arc<Lane>, u64)> {
        let mut turn = self.owned.lock();
        self.group.update(&self.id, &mut turn.owned);
        turn.owned.lanes.clone()
    }

    /// Tells those who wait for a result.
    pub(super) fn tell(&self, lane: &Arc<Lane>, signals: Signals) {
        if signals.let_go {
            self.group.let_go(lane);
        }
        // In order, the next message may be taken only now. A full queue has room again.
        if signals.wake || self.mode == Mode::Orderly {
            self.changes.notify();
        }
    }

    /// Returns how long it is until something is due that has to wait now.
    pub(super) fn next_due(&self) -> Option<Duration> {
        if self.is_paused() {
            // Nothing can be taken; `resume` wakes.
            return None;
        }
        let now = self.now();
        let waiting = self.owned.lock().owned.lanes.iter().filter_map(|(lane, _)| lane.next_due()).min();
        let due = waiting.into_iter().chain(self.group.next_deadline()).min();
        due.map(|due| due.saturating_sub(now))
    }

    /// Has a thread woken by everything that may bring it a message.
    pub(super) fn listen(self: &Arc<Self>, bed: &Arc<Parker>) -> Listening {
        self.sources().for_each(|arrivals| arrivals.register(bed));
        Listening { member: Arc::clone(self), bed: Arc::clone(bed) }
    }

    /// Wakes the threads that wait in this member.
    pub(super) fn wake(&self) {
        self.changes.notify();
    }

    fn sources(&self) -> impl Iterator<Item = &Arrivals> {
        self.arrivals.iter().map(AsRef::as_ref).chain([&self.changes, &self.group.changes])
    }

    /// Returns the queues that the member has.
    pub(super) fn assignment(&self) -> Result<Vec<MessageQueue>> {
        self.check_open()?;
        self.group.refresh(self.now())?;
        Ok(self.group.assignment(&self.id))
    }

    pub(super) fn committed(&self, queue: &MessageQueue) -> Result<Option<QueueOffset>> {
        let broker = self.group.cluster.broker_of(queue)?;
        Ok(broker.positions().get(&self.group.key(queue)).map(|position| position.get()))
    }
}

fn batch_of(lane: &Arc<Lane>, rules: &TakeRules, count_max: usize) -> Result<Option<Batch>> {
    let (messages, tickets) = lane.take_batch(rules, count_max)?;
    Ok((!tickets.is_empty()).then(|| Batch { lane: Arc::clone(lane), epoch: rules.epoch, messages, tickets }))
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
