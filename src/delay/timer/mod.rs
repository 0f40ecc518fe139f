//! How is a message delivered at a time of its own, to the millisecond?
//!
//! It waits in `rmq_sys_wheel_timer`. A step takes in what has come there since the last one: an entry in the timer log,
//! linked into the wheel's slot of its second. Then it delivers what is due, second by second, in each by due time and
//! order of sending, and says how far it has come. Wheel and log are RocketMQ 5's files, and derived data: the messages
//! themselves are in the commit log, from which both are made again.

mod entry;
mod log;
mod note;
mod recall;
mod recover;
mod state;
#[cfg(test)]
mod tests;
mod wheel;
mod window;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use entry::{Entry, cancelled_id};
use log::Unit;
use note::Progress;
pub(crate) use recall::Recall;
use state::{Linked, State};
use window::{Due, WINDOW_MAX, Window, trim};

use super::{STEP_MAX, Stepped, put_where_it_belongs};
use crate::broker::{Broker, PutMessage, WaitForFlush, wheel_second};
use crate::clock::SteadyClock;
use crate::commitlog::MessageView;
use crate::error::{Error, Result};
use crate::message::Properties;
use crate::message::properties::{PROPERTIES_LEN_MAX, append, append_without, name};
use crate::sync::Mutex;
use crate::types::{QueueOffset, TIMER_TOPIC, TopicName, java_string_hash};

/// Messages that one step takes into the wheel.
const TAKEN_MAX: u64 = 10 * STEP_MAX;

/// Delivers the messages of one broker that have a time of their own.
#[derive(Debug)]
pub(crate) struct Timers {
    broker: Arc<Broker>,
    clock: Arc<SteadyClock>,
    topic: TopicName,
    /// `None` as long as no timer was ever seen.
    state: Mutex<Option<State>>,
}

/// What a message that waits is to be.
enum Turn {
    /// Delivered, or rolled.
    Done,
    /// Left where it is: the step is full.
    Later,
}

impl Timers {
    /// Goes on where the broker, or RocketMQ before it, stopped. Says in `warnings` what was odd.
    pub(super) fn open(
        broker: &Arc<Broker>,
        clock: &Arc<SteadyClock>,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let (broker, clock) = (Arc::clone(broker), Arc::clone(clock));
        let timers = Self { broker, clock, topic: TopicName::new(TIMER_TOPIC)?, state: Mutex::default() };
        if timers.queue_end() > QueueOffset::ZERO {
            *timers.state.lock() = Some(timers.recover(warnings)?);
        }
        Ok(timers)
    }

    fn queue_end(&self) -> QueueOffset {
        self.broker.queue_range(&self.topic, 0).map_or(QueueOffset::ZERO, |(_, end)| end)
    }

    /// Takes in what has come and delivers what is due, at most [`STEP_MAX`] messages.
    pub(super) fn step(&self, stepped: &mut Stepped) -> Result<()> {
        let mut guard = self.state.lock();
        if guard.is_none() && self.queue_end() > QueueOffset::ZERO {
            *guard = Some(self.recover(&mut Vec::new())?);
        }
        let Some(state) = guard.as_mut() else { return Ok(()) };
        let now = self.clock.now_millis();
        let before = state.progress;
        let taken = |state: &State| (state.progress.taken, state.log.end());
        let taken_before = taken(state);
        let mut result = self.take_in(state, now, stepped);
        if result.is_ok() {
            result = self.deliver_due(state, now, stepped);
        }
        if state.unmade {
            *guard = None;
            return result;
        }
        if before != state.progress || taken(state) != taken_before {
            // That time passes alone need not be written down for others.
            state.moved |= stepped.delivered > 0 || taken(state) != taken_before;
            result = result.and(state.note(&self.broker, false));
        }
        result.and(self.persist_if_due(state))
    }

    /// Puts messages into the wheel that have come into the topic since.
    fn take_in(&self, state: &mut State, now: i64, stepped: &mut Stepped) -> Result<()> {
        let (min, max) = self.broker.queue_range(&self.topic, 0).unwrap_or_default();
        let mut at = state.progress.taken.max(min);
        let end = QueueOffset::new(max.get().min(at.get().saturating_add(TAKEN_MAX)));
        while at < end {
            if let Some(message) = self.broker.message_in(&self.topic, 0, at)? {
                if message.physical_offset() >= self.broker.dispatched() {
                    // Listed a moment ago: it can be read by its place in the log when all of its flush is listed.
                    stepped.next_due = Some(Duration::ZERO);
                    return Ok(());
                }
                if matches!(self.take(state, &message, now, stepped)?, Turn::Later) {
                    break;
                }
            }
            at = at.plus(1);
            state.progress.taken = at;
        }
        if at == end && end < max {
            stepped.next_due = Some(Duration::ZERO);
        }
        Ok(())
    }

    /// Puts one message into the wheel, or delivers it where its second is over.
    fn take(
        &self,
        state: &mut State,
        message: &MessageView,
        now: i64,
        stepped: &mut Stepped,
    ) -> Result<Turn> {
        let Some(entry) = Entry::of(message) else { return Ok(Turn::Done) };
        let place = message.queue_offset();
        if entry.cancels
            && let Some(id) = cancelled_id(message)
        {
            state.recalled.remove(id);
            if entry.second() == state.progress.second
                && let Some(window) = &mut state.window
            {
                window.cancel(id);
            }
        }
        if entry.has_passed(&state.progress, place) {
            if entry.cancels || self.is_recalled(state, message) {
                return Ok(Turn::Done);
            }
            if stepped.is_full() {
                return Ok(Turn::Later);
            }
            self.deliver(message, now, now, stepped)?;
            return Ok(Turn::Done);
        }
        state.link(&linked(&entry, message), now)?;
        state.needed.add(place, now);
        Ok(Turn::Done)
    }

    /// Delivers what is due, second by second.
    fn deliver_due(&self, state: &mut State, now: i64, stepped: &mut Stepped) -> Result<()> {
        let current = wheel_second(now);
        loop {
            if state.window.is_none() {
                let window = self.look(state)?;
                state.window = Some(window);
            }
            while let Some(due) = state.window.as_ref().and_then(Window::first) {
                if due.due_millis > now {
                    stepped.wait(due.due_millis.saturating_sub(now));
                    return Ok(());
                }
                if stepped.is_full() {
                    return Ok(());
                }
                self.give(state, &due, now, stepped)?;
                state.progress.last = due.key();
                state.window.iter_mut().for_each(Window::drop_first);
            }
            if state.window.as_ref().is_some_and(Window::has_more) {
                state.window = None;
                continue;
            }
            let next = state.next_second();
            match next.filter(|next| *next <= current) {
                Some(next) => state.move_to(next),
                None if state.progress.second < current => state.move_to(current),
                None => {
                    if let Some(next) = next {
                        stepped.wait(next.saturating_mul(1_000).saturating_add(1).saturating_sub(now));
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Returns what is to be delivered first of the second that it is the turn of. Makes wheel and log anew where they
    /// contradict themselves.
    fn look(&self, state: &mut State) -> Result<Window> {
        if let Some(window) = self.walk(state)? {
            return Ok(window);
        }
        // What was noted counts until everything is made: a failure in between begins with it again.
        state.note(&self.broker, false)?;
        state.unmade = true;
        let passed = state.progress;
        self.rebuild(state, &passed)?;
        state.unmade = false;
        let (dir, position) = (self.broker.dir().join("timerlog"), state.log.end());
        let what = "a chain of timers leads nowhere, also after it was made anew";
        self.walk(state)?.ok_or_else(|| Error::corrupt(&dir, position, what))
    }

    /// Walks the chain of a second, from the last entry to the first. `None` where it is no chain.
    fn walk(&self, state: &mut State) -> Result<Option<Window>> {
        let Progress { second, last, .. } = state.progress;
        let (mut found, mut cancelled, mut more, mut count) = (Vec::new(), HashSet::new(), false, 0_u64);
        let mut next = state.wheel.get(second).last;
        while let Some(position) = next.filter(|position| *position >= state.log.start()) {
            let unit = state.log.get(position)?.filter(|_| position < state.log.end());
            let belongs =
                |unit: &Unit| unit.second() == second && unit.prev.is_none_or(|prev| prev < position);
            let Some(unit) = unit.filter(belongs) else { return Ok(None) };
            (next, count) = (unit.prev, count.saturating_add(1));
            let Some((message, entry)) = self.entry_of(&unit) else { continue };
            if unit.cancels() {
                cancelled.extend(cancelled_id(&message).map(Box::from));
                continue;
            }
            let rolled = second.saturating_mul(1_000).saturating_add(1);
            let due_millis = if unit.rolls() { rolled } else { entry.due_millis };
            let due = Due { due_millis, place: message.queue_offset(), position };
            if due.key() > last {
                found.push(due);
            }
            if found.len() >= 2 * WINDOW_MAX {
                more |= trim(&mut found, WINDOW_MAX);
            }
        }
        if !state.counted {
            state.counted = true;
            state.ahead = state.ahead.saturating_sub(count);
        }
        Ok(Some(Window::of(found, more, cancelled)))
    }

    /// Returns the message that an entry leads to, and what it says of its time; `None` where it is gone.
    fn entry_of(&self, unit: &Unit) -> Option<(MessageView, Entry)> {
        let message = self.broker.message_at(unit.physical)?;
        let belongs = message.record().topic_bytes() == TIMER_TOPIC.as_bytes();
        let entry = Entry::of(&message).filter(|_| belongs)?;
        Some((message, entry))
    }

    /// Gives one entry its turn.
    fn give(&self, state: &mut State, due: &Due, now: i64, stepped: &mut Stepped) -> Result<()> {
        let Some(unit) = state.log.get(due.position)? else { return Ok(()) };
        let Some((message, entry)) = self.entry_of(&unit) else { return Ok(()) };
        if !unit.rolls() {
            if self.is_recalled(state, &message) {
                return Ok(());
            }
            return self.deliver(&message, unit.written_millis, now, stepped);
        }
        if entry.due_millis <= now {
            // Its own turn comes soon: it must not come before what is due earlier.
            return state.link(&linked(&entry, &message), now);
        }
        self.roll(&message, &entry, (unit.written_millis, now), stepped)
    }

    fn is_recalled(&self, state: &State, message: &MessageView) -> bool {
        let cancelled = |id: &str| state.window.as_ref().is_some_and(|window| window.is_cancelled(id));
        let id = message.property(name::UNIQ_KEY);
        id.is_some_and(|id| state.recalled.contains(id) || cancelled(id))
    }

    fn deliver(
        &self,
        message: &MessageView,
        written_millis: i64,
        now: i64,
        stepped: &mut Stepped,
    ) -> Result<()> {
        let properties = delivered_properties(message.properties(), written_millis, now);
        put_where_it_belongs(&self.broker, message, &properties, stepped)?;
        stepped.delivered = stepped.delivered.saturating_add(1);
        Ok(())
    }

    /// Puts a message into the timers' topic once more: it comes round again, and the log before it may go.
    fn roll(
        &self,
        message: &MessageView,
        entry: &Entry,
        (written_millis, now): (i64, i64),
        stepped: &mut Stepped,
    ) -> Result<()> {
        let mut properties = Vec::with_capacity(message.properties().encoded().len().saturating_add(64));
        append_without(&mut properties, message.properties(), &[name::CRC32, name::TIMER_ROLL_TIMES]);
        append(&mut properties, name::TIMER_ROLL_TIMES, &entry.rolls.saturating_add(1).to_string());
        let stated = delivered_properties(Properties::new(&properties), written_millis, now);
        let put = PutMessage::again(message, &stated);
        let topic = self.broker.topic_or_restore(&self.topic, 0);
        let slot = self.broker.slot(&topic, 0)?;
        self.broker.put_admitted(&topic, &slot, &put, WaitForFlush::No)?;
        // The copy is to be taken in.
        stepped.next_due = Some(Duration::ZERO);
        stepped.delivered = stepped.delivered.saturating_add(1);
        Ok(())
    }

    fn persist_if_due(&self, state: &mut State) -> Result<()> {
        let now = self.clock.clock().monotonic();
        let interval = self.broker.persist_interval();
        if !state.moved || now.saturating_sub(state.persisted) < interval {
            return Ok(());
        }
        state.persisted = now;
        state.persist(&self.broker, self.clock.now_millis())
    }

    /// Writes down how far everything has come, for whoever opens the folder next. Durable on return.
    pub(super) fn persist(&self) -> Result<()> {
        let mut guard = self.state.lock();
        let Some(state) = guard.as_mut() else { return Ok(()) };
        state.persist(&self.broker, self.clock.now_millis())?;
        state.note(&self.broker, true)?;
        state.slots.sync()
    }

    /// Tells whether something has moved that is not written down for others yet.
    pub(super) fn has_moved(&self) -> bool {
        self.state.lock().as_ref().is_some_and(|state| state.moved)
    }
}

/// Returns what the wheel is told of a message.
fn linked(entry: &Entry, message: &MessageView) -> Linked {
    let record = message.record();
    Linked {
        due_millis: entry.due_millis,
        cancels: entry.cancels,
        physical: record.physical_offset(),
        size: record.size(),
        place: record.queue_offset(),
        topic_hash: message.property(name::REAL_TOPIC).map_or(0, java_string_hash),
    }
}

/// Returns the properties of a message that was given its turn, with the times that RocketMQ notes: without these where there is
/// no room.
fn delivered_properties(from: Properties<'_>, written_millis: i64, now: i64) -> Vec<u8> {
    let stated = [name::CRC32, name::ACK, name::TIMER_ENQUEUE_MS, name::TIMER_DEQUEUE_MS];
    let mut properties = Vec::with_capacity(from.encoded().len().saturating_add(80));
    append_without(&mut properties, from, &stated);
    let without = properties.len();
    append(&mut properties, name::TIMER_ENQUEUE_MS, &written_millis.to_string());
    append(&mut properties, name::TIMER_DEQUEUE_MS, &now.to_string());
    if properties.len().saturating_add(CHECKSUM_LEN) > PROPERTIES_LEN_MAX {
        properties.truncate(without);
    }
    properties
}

/// Bytes of the checksum of the whole record, the last of its properties.
const CHECKSUM_LEN: usize = 20;
