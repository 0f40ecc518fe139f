//! What is under way in one queue: what is fetched, what is handed out, what has failed, and how far has its group come?
//!
//! A lane belongs to its group, not to a member: when the queue changes hands, what is known of it stays. Its gate says
//! with which epoch messages may be handed out; a result counts if it carries that epoch and the message is still out
//! with that attempt.

use std::sync::Arc;
use std::time::Duration;

use super::lane_work::{Entry, Work};
use super::seen::Seen;
use super::settings::{FlowLimits, Mode};
use super::window::Place;
use crate::broker::{Broker, JoinedAck, Position, PositionKey, PullRequest, PullStatus, TopicOfBroker};
use crate::cluster::{Gate, RouteQueue};
use crate::commitlog::MessageView;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::sync::Mutex;
use crate::types::{MessageQueue, QueueOffset};

/// Pages without a wanted message that are looked at before the next queue gets its turn.
const EMPTY_PAGES_MAX: usize = 64;
/// Messages of one queue whose time is up that are sent back at once (RocketMQ looks at 16 each time).
const OVERDUE_MAX: usize = 16;

/// What goes with a message that is handed out, and comes back with its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) offset: QueueOffset,
    pub(super) attempt: u32,
    pub(super) epoch: u64,
    /// Bytes of the message, for flow control.
    pub(super) size: u32,
}

/// A message that is handed out.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) message: MessageView,
    pub(super) ticket: Ticket,
}

/// How a member takes from a lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct TakeRules {
    pub(super) epoch: u64,
    pub(super) mode: Mode,
    pub(super) limits: FlowLimits,
    pub(super) now: Duration,
}

/// Who has to be told after a result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Signals {
    /// The queue is to change hands, and nothing of it is in hand any more.
    pub(super) let_go: bool,
    /// Something can be taken that could not be before.
    pub(super) wake: bool,
}

/// What is done with a message whose attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PutAway {
    /// Its copy is stored elsewhere: here it is done.
    Stored,
    /// It waits here until this time, and lets others pass.
    Until(Duration),
    /// It stays in its place, and its queue rests until this time.
    InPlace(Duration),
}

/// One queue as its group sees it.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) queue: MessageQueue,
    pub(super) topic: Arc<TopicOfBroker>,
    broker: Arc<Broker>,
    filter: Arc<Filter>,
    /// Whether this is the retry topic of the group.
    is_retry: bool,
    seen: Seen,
    work: Mutex<Work>,
}

impl Lane {
    pub(super) fn new(entry: &RouteQueue, filter: &Arc<Filter>, position: Arc<Position>, seen: Seen) -> Self {
        let work = Work::new(position);
        Self {
            queue: entry.queue().clone(),
            topic: Arc::clone(&entry.topic),
            broker: Arc::clone(&entry.broker),
            filter: Arc::clone(filter),
            is_retry: entry.queue().topic().is_retry(),
            seen,
            work: Mutex::new(work),
        }
    }

    /// Tells whether the queue's position is still the one that this commits to.
    pub(super) fn is_current(&self) -> bool {
        self.work.lock().position.is_current()
    }

    /// Returns the position that this commits to.
    pub(super) fn position(&self) -> Arc<Position> {
        Arc::clone(&self.work.lock().position)
    }

    /// Returns what the group has handled, where it hands out nothing twice.
    pub(super) const fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Lets an orderly queue end whose position was moved, and says whether that has to wait for a message in hand: until
    /// `until` at most. Nothing is handed out meanwhile.
    pub(super) fn is_retiring(&self, now: Duration, until: Duration) -> bool {
        let mut work = self.work.lock();
        let until = *work.retires_at.get_or_insert(until);
        work.out > 0 && now < until
    }

    /// Returns when the time of who has a message of a queue is up that is to end.
    pub(super) fn retires_at(&self) -> Option<Duration> {
        self.work.lock().retires_at
    }

    /// Changes the gate. `decide` is told whether messages are in hand. Where the queue changes hands, what was in hand
    /// is taken back, and what was held without a commit is to be handled again.
    pub(super) fn change(&self, decide: impl FnOnce(bool) -> Gate) {
        let mut work = self.work.lock();
        let gate = decide(work.out > 0);
        let stays = match (work.gate, gate) {
            (Gate::Open(old) | Gate::Closing(old), Gate::Open(new) | Gate::Closing(new)) => old == new,
            (_, Gate::Open(_) | Gate::Closing(_) | Gate::Shut) => false,
        };
        if !stays {
            work.take_back();
            // Whoever has the queue next looks itself.
            work.has_more = false;
        }
        work.gate = gate;
    }

    /// Takes the next message: one whose wait is over, else the next of the queue. It counts as begun.
    pub(super) fn take(&self, rules: &TakeRules) -> Result<Option<Taken>> {
        let mut work = self.work.lock();
        if !work.may_hand_out(rules) {
            return Ok(None);
        }
        let entry = self.next(&mut work, rules)?;
        Ok(entry.map(|(entry, message)| work.hand_out(&entry, message, rules.epoch, Some(rules.now))))
    }

    /// Takes up to `count_max` messages that are there, and their tickets; it never waits for a batch to fill.
    pub(super) fn take_batch(
        &self,
        rules: &TakeRules,
        count_max: usize,
    ) -> Result<(Vec<MessageView>, Vec<Ticket>)> {
        let mut work = self.work.lock();
        let (mut messages, mut tickets) = (Vec::new(), Vec::new());
        if !work.may_hand_out(rules) {
            return Ok((messages, tickets));
        }
        while messages.len() < count_max && (messages.is_empty() || work.has_something(rules.now)) {
            match self.next(&mut work, rules) {
                Ok(Some((entry, message))) => {
                    let taken = work.hand_out(&entry, message, rules.epoch, None);
                    messages.push(taken.message);
                    tickets.push(taken.ticket);
                }
                Ok(None) => break,
                Err(error) if messages.is_empty() => return Err(error),
                // What has been taken already is handed out; the error comes again.
                Err(_) => break,
            }
        }
        Ok((messages, tickets))
    }

    /// Notes that a handler begins with these messages, and says whether it may: not if the queue is to change hands.
    pub(super) fn begin<'a>(&self, tickets: impl IntoIterator<Item = &'a Ticket>, now: Duration) -> bool {
        let mut work = self.work.lock();
        for ticket in tickets {
            if work.gate != Gate::Open(ticket.epoch) || work.retires_at.is_some() || !work.counts(ticket) {
                return false;
            }
            let Ticket { offset, attempt, size, .. } = *ticket;
            work.window.set(offset, Place::Out { attempt, begun: Some(now), size });
        }
        true
    }

    /// Notes that a message has been handled.
    pub(super) fn finish(&self, ticket: &Ticket) -> Result<Signals> {
        let mut work = self.work.lock();
        if !work.counts(ticket) {
            return Ok(Signals::default());
        }
        // It is handled, also where that cannot be noted for the next time.
        let noted = self.seen.note(|| self.read(ticket.offset));
        work.out = work.out.saturating_sub(1);
        work.done(ticket.offset, ticket.size);
        let advanced = self.advance(&mut work);
        noted.and(advanced).map(|()| work.signals())
    }

    /// Notes that a message has been handled, and that its commit is still to come.
    pub(super) fn hold(&self, ticket: &Ticket) -> Signals {
        let mut work = self.work.lock();
        work.hold(ticket);
        work.signals()
    }

    /// Notes that messages have been handled, and commits them with what is held, if the queue is still the one of this
    /// epoch: in one go, so that the queue does not change hands in between.
    pub(super) fn commit_held(&self, epoch: u64, tickets: &[Ticket]) -> Result<Signals> {
        let mut work = self.work.lock();
        tickets.iter().for_each(|ticket| work.hold(ticket));
        if work.is_of(epoch) {
            let mut noted = Ok(());
            for held in work.held() {
                noted = noted.and(self.seen.note(|| self.read(held.offset)));
                work.done(held.offset, held.size);
            }
            noted.and(self.advance(&mut work))?;
        }
        Ok(work.signals())
    }

    /// Puts what is held back in its place, to be handled again.
    pub(super) fn roll_back(&self, epoch: u64) {
        let mut work = self.work.lock();
        if work.is_of(epoch) {
            work.put_back_held();
        }
    }

    /// Puts a message back in its place, to be handed out again with this number of the attempt.
    pub(super) fn put_back(&self, ticket: &Ticket, attempt: u32, message: Option<MessageView>) -> Signals {
        let mut work = self.work.lock();
        if work.counts(ticket) {
            work.out = work.out.saturating_sub(1);
            work.make_ready(Entry { offset: ticket.offset, attempt, size: ticket.size, message });
        }
        work.signals()
    }

    /// Hands out nothing of the queue until then.
    pub(super) fn suspend(&self, epoch: u64, until: Duration) {
        let mut work = self.work.lock();
        if work.is_of(epoch) {
            work.suspended_until = Some(until);
        }
    }

    /// Notes that a message which failed is about to be put away, and says whether it may be: a result that comes too
    /// late puts nothing away. [`put_away`](Self::put_away) has to follow.
    pub(super) fn begin_return(&self, ticket: &Ticket) -> bool {
        let mut work = self.work.lock();
        let counts = work.counts(ticket);
        if counts {
            work.window.set(ticket.offset, Place::Returning);
        }
        counts
    }

    /// Notes where a message is that failed.
    pub(super) fn put_away(&self, ticket: &Ticket, away: PutAway) -> Result<Signals> {
        let mut work = self.work.lock();
        if work.window.get(ticket.offset) != Some(Place::Returning) {
            return Ok(work.signals());
        }
        work.out = work.out.saturating_sub(1);
        let attempt = ticket.attempt.saturating_add(1);
        let entry = Entry { offset: ticket.offset, attempt, size: ticket.size, message: None };
        match away {
            PutAway::Stored => {
                work.done(ticket.offset, ticket.size);
                self.advance(&mut work)?;
            }
            PutAway::Until(due) => {
                work.window.set(ticket.offset, Place::Waiting);
                work.waiting.push((due, entry));
            }
            PutAway::InPlace(due) => {
                work.make_ready(entry);
                work.suspended_until = Some(due);
            }
        }
        Ok(work.signals())
    }

    /// Returns the messages that a handler has had for longer than `timeout`, a few at a time, as if they were about to
    /// be put away.
    pub(super) fn begin_overdue(&self, epoch: u64, now: Duration, timeout: Duration) -> Vec<Ticket> {
        let mut work = self.work.lock();
        if !work.is_of(epoch) {
            return Vec::new();
        }
        let overdue = work.window.iter().filter_map(|(offset, place)| match place {
            Place::Out { attempt, begun: Some(begun), size } if begun.saturating_add(timeout) <= now => {
                Some(Ticket { offset, attempt, epoch, size })
            }
            _ => None,
        });
        let overdue: Vec<_> = overdue.take(OVERDUE_MAX).collect();
        for ticket in &overdue {
            work.window.set(ticket.offset, Place::Returning);
        }
        overdue
    }

    /// Returns since when the oldest handler that still runs has its message.
    pub(super) fn oldest_begun(&self) -> Option<Duration> {
        let work = self.work.lock();
        if work.out == 0 {
            return None;
        }
        let begun = work.window.iter().filter_map(|(_, place)| match place {
            Place::Out { begun, .. } => begun,
            _ => None,
        });
        begun.min()
    }

    /// Reads a message of the queue again.
    pub(super) fn read(&self, offset: QueueOffset) -> Result<Option<MessageView>> {
        let found = self.broker.message_in(self.queue.topic(), self.queue.queue_id(), offset)?;
        Ok(found.map(|message| self.shown(message)))
    }

    /// Returns a message as a handler is to see it: a retried one with the topic to which it was sent.
    pub(super) fn shown(&self, message: MessageView) -> MessageView {
        if self.is_retry { message.showing_original_topic() } else { message }
    }

    /// Returns what the group wants of the queue.
    pub(super) const fn filter(&self) -> &Arc<Filter> {
        &self.filter
    }

    /// Returns the broker that has the queue.
    pub(super) const fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Tells whether the queue goes on behind the last fetch, which found nothing that is wanted.
    pub(super) fn has_more(&self) -> bool {
        self.work.lock().has_more
    }

    /// Returns when something can be handed out that has to wait.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let work = self.work.lock();
        let waiting = work.waiting.iter().map(|(due, _)| *due).min();
        work.suspended_until.into_iter().chain(waiting).min()
    }

    /// Finds the next message that can be handed out.
    fn next(&self, work: &mut Work, rules: &TakeRules) -> Result<Option<(Entry, MessageView)>> {
        loop {
            let due = work.waiting.iter().position(|(due, _)| *due <= rules.now);
            let mut entry = match due {
                Some(place) => work.waiting.remove(place).1,
                None => {
                    if work.ready.is_empty() {
                        self.fetch(work, rules)?;
                    }
                    let Some(entry) = work.ready.pop_front() else { return Ok(None) };
                    entry
                }
            };
            let found = match entry.message.take() {
                Some(message) => Ok(Some(message)),
                None => self.read(entry.offset),
            };
            match found {
                Ok(Some(message)) if !self.seen.contains(&message) => {
                    entry.size = message.stored_size();
                    return Ok(Some((entry, message)));
                }
                // Handled before; or retention or damage has taken it, and nobody can handle it any more.
                Ok(_) => {
                    work.done(entry.offset, entry.size);
                    self.advance(work)?;
                }
                Err(error) => {
                    work.make_ready(entry);
                    return Err(error);
                }
            }
        }
    }

    /// Fetches the next page. What the filter does not want counts as consumed (contract V10).
    fn fetch(&self, work: &mut Work, rules: &TakeRules) -> Result<()> {
        work.has_more = false;
        for _ in 0..EMPTY_PAGES_MAX {
            work.is_blocked = work.is_full(rules);
            if work.is_blocked {
                return Ok(());
            }
            let pulled = self.broker.pull(&PullRequest {
                topic: self.queue.topic(),
                queue_id: self.queue.queue_id(),
                offset: work.window.end(),
                count_max: rules.limits.pull_batch,
                filter: &self.filter,
            })?;
            match pulled.status {
                PullStatus::NoNewMessage => return Ok(()),
                PullStatus::OffsetIllegal => {
                    self.correct(work, pulled.next_offset)?;
                    if pulled.next_offset == pulled.max_offset {
                        return Ok(());
                    }
                }
                PullStatus::Found | PullStatus::NoMatchedMessage => {
                    work.window.extend_to(pulled.next_offset);
                    for message in pulled.messages {
                        work.admit(self.shown(message));
                    }
                    self.advance_over_unwanted(work)?;
                    if !work.ready.is_empty() {
                        return Ok(());
                    }
                }
            }
        }
        work.has_more = true;
        Ok(())
    }

    /// Goes on elsewhere: what lay before is gone, or what was committed lies beyond the end.
    fn correct(&self, work: &mut Work, next: QueueOffset) -> Result<()> {
        if work.window.span() == 0 {
            work.window.move_to(next);
            return self.broker.commit_position(&work.position, next);
        }
        // Messages before the hole are still under way; the places of the hole are done.
        work.window.extend_to(next);
        Ok(())
    }

    /// Commits everything up to the first message that is not done.
    fn advance(&self, work: &mut Work) -> Result<()> {
        match work.passed() {
            Some(next) => self.broker.commit_position(&work.position, next),
            None => Ok(()),
        }
    }

    /// The same, where nothing but what nobody wants may be passed.
    fn advance_over_unwanted(&self, work: &mut Work) -> Result<()> {
        match work.passed() {
            Some(next) => self.broker.pass_position(&work.position, next),
            None => Ok(()),
        }
    }

    /// Begins to acknowledge a message by sending another one: nobody else may say anything of it meanwhile.
    /// [`end_join`](Self::end_join) or [`put_away`](Self::put_away) has to follow.
    ///
    /// # Errors
    ///
    /// `InvalidReceipt` where it comes too late; `InvalidArgument` where a message before it is not acknowledged.
    pub(super) fn begin_join(&self, ticket: &Ticket, key: PositionKey) -> Result<JoinedAck> {
        let mut work = self.work.lock();
        if !work.counts(ticket) {
            let late =
                format!("of the message at {} of {}: its queue has changed hands", ticket.offset, self.queue);
            return Err(Error::InvalidReceipt(late.into()));
        }
        let Some(next) = work.window.after_first(ticket.offset) else {
            let reason = "messages before it in its queue are not acknowledged: acknowledge in order, as an orderly() consumer does by itself";
            return Err(Error::argument("delivery", reason));
        };
        work.window.set(ticket.offset, Place::Returning);
        Ok(JoinedAck { broker: self.broker.name().clone(), key, position: Arc::clone(&work.position), next })
    }

    /// Notes that a message was acknowledged by sending another one, which has moved the position to `next`.
    pub(super) fn end_join(&self, ticket: &Ticket, next: QueueOffset) -> Result<Signals> {
        let mut work = self.work.lock();
        if work.window.get(ticket.offset) != Some(Place::Returning) {
            return Ok(work.signals());
        }
        let noted = self.seen.note(|| self.read(ticket.offset));
        work.out = work.out.saturating_sub(1);
        work.done(ticket.offset, ticket.size);
        let further = work.passed().filter(|place| *place > next);
        let advanced = further.map_or(Ok(()), |place| self.broker.commit_position(&work.position, place));
        noted.and(advanced).map(|()| work.signals())
    }
}
