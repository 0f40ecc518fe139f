//! LATER: how is a delayed message delivered when its time has come?
//!
//! Each delay level is a queue of `SCHEDULE_TOPIC_XXXX` whose units say when their messages are due, in that order. One
//! step looks at the head of each level, puts what is due into the topic and queue that it names, and moves on. How far
//! each level has come is written down behind the delivery, so a crash in between repeats one (contract D13).
//!
//! A message with a time of its own waits in the wheel instead (`timer/`).
//!
//! *Now* is the time of day read at opening plus the monotonic time since, so that a clock that is set at run time makes
//! nothing early. A message that was stored by a clock which ran otherwise waits its whole delay from when it was seen.

mod progress;
mod retry;
#[cfg(test)]
mod tests;
mod timer;
mod worker;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use progress::Progress;
pub use retry::SentBack;
pub(crate) use retry::{Failed, NextAttempt, send_again, send_back};
pub(crate) use timer::{Recall, Timers};
pub(crate) use worker::Worker;

use crate::broker::{Broker, PutMessage, WaitForFlush};
use crate::clock::SteadyClock;
use crate::commitlog::MessageView;
use crate::error::{Error, Result};
use crate::message::properties::{append_without, name};
use crate::sync::{AtomicBool, Mutex, Ordering};
use crate::types::{HALF_TOPIC, QueueOffset, SCHEDULE_TOPIC, TIMER_TOPIC, TopicName, to_usize};

/// How far two clocks may be apart and still count as one, in milliseconds.
const SKEW_MILLIS: i64 = 1_000;
/// Messages that one step delivers at most: between two steps somebody looks whether the store is to be closed.
const STEP_MAX: u64 = 1_000;
/// Runs of messages of another clock that are told apart in one level.
const STRANGE_MAX: usize = 1_024;

/// Delivers the delayed messages of one broker.
#[derive(Debug)]
pub(crate) struct Delays {
    broker: Arc<Broker>,
    clock: Arc<SteadyClock>,
    schedule: TopicName,
    levels: Mutex<Levels>,
    progress: Progress,
    timers: Timers,
    trouble: Mutex<Option<String>>,
    /// Whether the last step left something that is due.
    behind: AtomicBool,
}

#[derive(Debug)]
struct Levels {
    list: Vec<Level>,
    /// Which level the next step begins with, so that none waits for ever behind a busy one.
    turn: usize,
    /// How far the levels had come that RocketMQ has and the table does not.
    others: Vec<QueueOffset>,
    /// When progress was last written down for others, on the monotonic clock.
    persisted: Duration,
    moved: bool,
}

/// One level.
#[derive(Debug)]
struct Level {
    /// From 1.
    number: u32,
    /// The first message that has not been delivered.
    next: QueueOffset,
    /// Everything before this has been looked at once.
    seen: QueueOffset,
    /// Runs of messages whose store time is not by our clock: where each ends, and when it was seen.
    strange: VecDeque<Strange>,
}

#[derive(Debug, Clone, Copy)]
struct Strange {
    end: QueueOffset,
    seen_millis: i64,
    clock: StrangeClock,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StrangeClock {
    /// The store times lie in the future.
    Ahead,
    /// The time of day was set back, and the store times stand still.
    Behind,
}

/// What a step did, and when the next one has something to do.
#[derive(Debug, Default)]
pub(crate) struct Stepped {
    /// Messages that were delivered.
    pub(crate) delivered: u64,
    /// How long it is until the first message is due that waits; `None` where none does.
    pub(crate) next_due: Option<Duration>,
    /// Topics that had to be made.
    pub(crate) made: Vec<TopicName>,
}

impl Stepped {
    /// Tells whether there is no room for more in this step; the next one then follows at once.
    fn is_full(&mut self) -> bool {
        let full = self.delivered >= STEP_MAX;
        if full {
            self.next_due = Some(Duration::ZERO);
        }
        full
    }

    fn add(&mut self, other: Self) {
        self.delivered = self.delivered.saturating_add(other.delivered);
        self.made.extend(other.made);
        self.next_due = match (self.next_due, other.next_due) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    fn wait(&mut self, millis: i64) {
        let wait = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
        self.next_due = Some(self.next_due.map_or(wait, |other| other.min(wait)));
    }
}

impl Delays {
    /// Goes on where the broker, or RocketMQ before it, stopped. Says in `warnings` what was odd.
    ///
    /// # Errors
    ///
    /// `InvalidConfig` where messages wait in a level that the table of levels does not have any more; `Io`, `StoreFull`.
    pub(crate) fn open(
        broker: &Arc<Broker>,
        clock: &Arc<SteadyClock>,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let schedule = TopicName::new(SCHEDULE_TOPIC)?;
        let (progress, offsets) = Progress::open(broker, &schedule, warnings)?;
        let count = broker.delay_levels().count();
        let others = offsets.iter().skip(to_usize(u64::from(count))).copied().collect();
        let list = (1..=count).zip(offsets).map(|(number, next)| Level {
            number,
            next,
            seen: next,
            strange: VecDeque::new(),
        });
        let persisted = clock.clock().monotonic();
        let levels = Levels { list: list.collect(), turn: 0, others, persisted, moved: false };
        let timers = Timers::open(broker, clock, warnings)?;
        Ok(Self {
            broker: Arc::clone(broker),
            clock: Arc::clone(clock),
            schedule,
            levels: Mutex::new(levels),
            progress,
            timers,
            trouble: Mutex::default(),
            behind: AtomicBool::new(false),
        })
    }

    /// Delivers what is due, at most [`STEP_MAX`] messages of levels and as many timers: then `next_due` is zero. A level
    /// whose message cannot be put stays where it is; the others go on.
    ///
    /// # Errors
    ///
    /// The first one of a put: the store is full, closed, or has failed. The message is tried again with the next step.
    pub(crate) fn step(&self) -> (Stepped, Result<()>) {
        let (mut stepped, result) = self.step_levels();
        let mut of_timers = Stepped::default();
        let result = result.and(self.timers.step(&mut of_timers));
        stepped.add(of_timers);
        *self.trouble.lock() = result.as_ref().err().map(|error| format!("delay: {error}"));
        self.behind.store(result.is_ok() && stepped.next_due == Some(Duration::ZERO), Ordering::Release);
        (stepped, result)
    }

    fn step_levels(&self) -> (Stepped, Result<()>) {
        let mut stepped = Stepped::default();
        let mut levels = self.levels.lock();
        let now = self.clock.now_millis();
        let mut result = Ok(());
        let turn = levels.turn;
        let (last, first) = levels.list.split_at_mut(turn);
        for level in first.iter_mut().chain(last) {
            let delivered = self.deliver_level(level, now, &mut stepped);
            result = result.and(delivered);
        }
        levels.turn = turn.saturating_add(1).checked_rem(levels.list.len()).unwrap_or(0);
        if stepped.delivered > 0 {
            levels.moved = true;
            result = result.and(self.progress.note(&levels.offsets(), self.broker.log_range().1));
        }
        let written = self.persist_if_due(&mut levels);
        (stepped, result.and(written))
    }

    fn deliver_level(&self, level: &mut Level, now: i64, stepped: &mut Stepped) -> Result<()> {
        let queue_id = level.number.saturating_sub(1);
        let (min, max) = self.broker.queue_range(&self.schedule, queue_id).unwrap_or_default();
        level.next = level.next.max(min);
        self.look_at_clock(level, max, now)?;
        while level.next < max {
            let due = self.due(level, now)?;
            if due > now {
                stepped.wait(due.saturating_sub(now));
                return Ok(());
            }
            if stepped.is_full() {
                return Ok(());
            }
            self.deliver(queue_id, level.next, stepped)?;
            level.next = level.next.plus(1);
            stepped.delivered = stepped.delivered.saturating_add(1);
        }
        Ok(())
    }

    /// Notes which of the messages that have come since the last step were not stored by the time that we go by.
    fn look_at_clock(&self, level: &mut Level, max: QueueOffset, now: i64) -> Result<()> {
        if level.seen >= max {
            return Ok(());
        }
        level.seen = max;
        let last = QueueOffset::new(max.get().saturating_sub(1));
        let queue_id = level.number.saturating_sub(1);
        let stored = self.broker.message_in(&self.schedule, queue_id, last)?.map(|last| last.store_millis());
        let clock = if stored.is_some_and(|millis| millis > now.saturating_add(SKEW_MILLIS)) {
            StrangeClock::Ahead
        } else if now.saturating_sub(self.clock.clock().wall_millis()) > SKEW_MILLIS {
            StrangeClock::Behind
        } else {
            return Ok(());
        };
        if level.strange.len() >= STRANGE_MAX {
            // Its messages are taken for later ones: they wait longer, never shorter.
            level.strange.pop_back();
        }
        level.strange.push_back(Strange { end: max, seen_millis: now, clock });
        Ok(())
    }

    /// Returns when the next message of a level is due; a time that has passed where that cannot be said.
    fn due(&self, level: &mut Level, now: i64) -> Result<i64> {
        let queue_id = level.number.saturating_sub(1);
        while level.strange.front().is_some_and(|strange| strange.end <= level.next) {
            level.strange.pop_front();
        }
        let unit = self.broker.unit_in(&self.schedule, queue_id, level.next)?;
        let stated = unit.filter(|unit| !unit.is_blank() && unit.tags_code > 0).map(|unit| unit.tags_code);
        let strange = level.strange.front().copied();
        if let (Some(due), None) = (stated, strange) {
            return Ok(due);
        }
        let Some(message) = self.broker.message_in(&self.schedule, queue_id, level.next)? else {
            return Ok(now);
        };
        let due = stated.or_else(|| self.broker.due_of(&message)).unwrap_or(now);
        let Some(strange) = strange else { return Ok(due) };
        let delay = due.saturating_sub(message.store_millis()).max(0);
        let by_our_clock = strange.seen_millis.saturating_add(delay);
        Ok(match strange.clock {
            StrangeClock::Ahead => due.min(by_our_clock),
            StrangeClock::Behind => due.max(by_our_clock),
        })
    }

    /// Puts one message where it belongs. A message that is gone, or whose topic is, is passed over.
    fn deliver(&self, queue_id: u32, at: QueueOffset, stepped: &mut Stepped) -> Result<()> {
        let Some(message) = self.broker.message_in(&self.schedule, queue_id, at)? else { return Ok(()) };
        let mut properties = Vec::with_capacity(message.properties().encoded().len());
        // A stale checksum of the whole record would stand in the middle of a sound one (contract, point 9).
        append_without(&mut properties, message.properties(), &[name::CRC32, name::ACK]);
        put_where_it_belongs(&self.broker, &message, &properties, stepped)
    }

    fn persist_if_due(&self, levels: &mut Levels) -> Result<()> {
        let now = self.clock.clock().monotonic();
        let due = now.saturating_sub(levels.persisted) >= self.progress.interval();
        if !levels.moved || !due {
            return Ok(());
        }
        levels.persisted = now;
        self.progress.save(&levels.offsets())?;
        levels.moved = false;
        Ok(())
    }

    /// Writes down how far each level has come, for whoever opens the folder next. Durable on return.
    pub(crate) fn persist(&self) -> Result<()> {
        let mut levels = self.levels.lock();
        if levels.moved {
            self.progress.save(&levels.offsets())?;
            levels.moved = false;
        }
        drop(levels);
        self.timers.persist()
    }

    /// Returns the messages that have a time of their own.
    pub(crate) const fn timers(&self) -> &Timers {
        &self.timers
    }

    /// Returns the time by which messages are due.
    pub(crate) fn now_millis(&self) -> i64 {
        self.clock.now_millis()
    }

    /// Returns how long it is until so much has passed on the clock by which messages are due, which counts whole
    /// milliseconds.
    pub(crate) fn sleep_for(&self, wait: Duration) -> Duration {
        wait.saturating_sub(self.clock.past_milli())
    }

    /// Tells whether the last step left something that is due already.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Acquire)
    }

    /// Returns the broker whose messages these are.
    pub(crate) const fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Returns how long the shortest level lasts.
    pub(crate) fn shortest(&self) -> Duration {
        self.broker.delay_levels().shortest()
    }

    /// Tells whether something was delivered that is not written down for others yet.
    pub(crate) fn has_moved(&self) -> bool {
        self.levels.lock().moved || self.timers.has_moved()
    }

    /// Returns what kept the last step from delivering.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }
}

impl Levels {
    fn offsets(&self) -> Vec<QueueOffset> {
        self.list.iter().map(|level| level.next).chain(self.others.iter().copied()).collect()
    }
}

/// Puts a message into the topic and the queue that it names. One whose topic is gone is passed over.
fn put_where_it_belongs(
    broker: &Broker,
    message: &MessageView,
    properties: &[u8],
    stepped: &mut Stepped,
) -> Result<()> {
    let Some((name, wanted)) = target_of(message) else { return Ok(()) };
    if broker.is_deleted_with(&name, message.physical_offset()) {
        return Ok(());
    }
    if broker.topic(name.as_str()).is_none() {
        stepped.made.push(name.clone());
    }
    let topic = broker.topic_or_restore(&name, wanted);
    let config = topic.config();
    let exists = wanted < config.read_queues.max(config.write_queues);
    let queue_id = if exists { wanted } else { wanted.checked_rem(config.write_queues).unwrap_or(0) };
    let put = PutMessage::again(message, properties);
    let slot = broker.slot(&topic, queue_id)?;
    match broker.put_admitted(&topic, &slot, &put, WaitForFlush::No) {
        // Deleted meanwhile, and everything in it.
        Err(Error::TopicNotFound(_)) => Ok(()),
        result => result.map(drop),
    }
}

/// Returns the topic and the queue that a delayed message is for.
fn target_of(message: &MessageView) -> Option<(TopicName, u32)> {
    let topic = TopicName::new(message.property(name::REAL_TOPIC)?).ok()?;
    let queue_id = message.property(name::REAL_QUEUE_ID)?.parse().ok()?;
    // RocketMQ drops a message for the topic of half messages too.
    let open = !matches!(topic.as_str(), HALF_TOPIC | SCHEDULE_TOPIC | TIMER_TOPIC);
    (open && queue_id < crate::config::QUEUES_MAX).then_some((topic, queue_id))
}
