//! What do wheel and timer log hold, and what if they are missing, short or damaged?
//!
//! After a clean stop of ours they are what they were. In every other case the log is read from its beginning, each
//! entry compared with the timers' queue, and the wheel made anew from it. Where the log does not hold what our note, or
//! RocketMQ's marks, say that it does, both are made anew from the topic itself: everything in it that has not had its
//! turn.

use std::collections::HashSet;

use super::entry::Entry;
use super::log::{TimerLog, UNIT_LEN, Unit};
use super::note::{Check, CheckFile, NOTE_LEN, Note, Progress};
use super::state::{Needed, ROUND, State};
use super::wheel::Wheel;
use super::{Timers, linked};
use crate::broker::{LastStop, wheel_second};
use crate::commitlog::MessageView;
use crate::error::Result;
use crate::message::properties::name;
use crate::types::QueueOffset;

/// The name of our own file.
const OWN: &str = "timer";
/// How far RocketMQ's mark may lie ahead of the clock.
const AHEAD_MAX_MILLIS: i64 = 2_000;
/// Copies of a message that came round which are compared.
const COPIES_MAX: usize = 64;

/// From where the timers go on.
enum From {
    /// Our note, and whether wheel and log are on disk just so.
    Note(Note, Trust),
    /// RocketMQ's marks.
    Check(Check),
    /// Nothing is known.
    Nothing,
}

#[derive(PartialEq, Eq)]
enum Trust {
    Whole,
    Read,
}

impl Timers {
    /// Finds out how far the timers have come, and makes wheel and log whole.
    pub(super) fn recover(&self, warnings: &mut Vec<String>) -> Result<State> {
        let broker = &self.broker;
        let [log_dir, wheel_path, check_path, own] = broker.timer_paths();
        let disk = broker.disk();
        let slots = broker.open_slots(OWN, NOTE_LEN)?;
        let check = CheckFile::open(disk, &check_path, &own)?;
        let found = Wheel::open(disk, &wheel_path)?;
        let log = TimerLog::open(disk, log_dir, own.clone(), broker.timer_log_size())?;
        let from = self.from(slots.load().and_then(|payload| Note::decode(&payload)), check.load());
        let from = match from {
            From::Note(note, Trust::Whole) if found.is_none() || note.timer_log_end > log.limit() => {
                From::Note(note, Trust::Read)
            }
            from => from,
        };
        let (wheel, is_new) = match found {
            Some(wheel) if matches!(from, From::Note(_, Trust::Whole)) => (wheel, false),
            _ => (Wheel::create(disk, &wheel_path, &own)?, true),
        };
        let (min, max) = broker.queue_range(&self.topic, 0).unwrap_or_default();
        let now = self.clock.now_millis();
        let (progress, needed) = match &from {
            From::Note(note, _) => (note.progress, note.needed),
            From::Check(check) => (Progress::at(check.next_millis.div_euclid(1_000), check.taken), min),
            From::Nothing => (self.before_the_first(min)?, min),
        };
        let mut state = State {
            wheel,
            log,
            slots,
            check,
            progress: Progress { taken: progress.taken.clamp(min, max), ..progress },
            ahead: 0,
            horizon: i64::MIN,
            next: None,
            window: None,
            counted: true,
            unmade: false,
            recalled: HashSet::new(),
            needed: Needed::from(needed.clamp(min, max), now),
            moved: is_new,
            persisted: self.clock.clock().monotonic(),
            synced: 0,
        };
        self.make_whole(&mut state, &from, warnings)?;
        let here = wheel_second(now);
        if state.progress.second > here {
            // What had its turn before the clock was set back has had it; what comes from here on is not early.
            let passed = state.progress;
            state.progress = Progress::at(here, passed.taken);
            warnings.push("the clock was set back: timers go on by it".to_owned());
            self.rebuild(&mut state, &passed)?;
        }
        state.note(broker, false)?;
        Ok(state)
    }

    /// Decides what counts.
    fn from(&self, note: Option<Note>, check: Option<Check>) -> From {
        let recovery = self.broker.recovery();
        let note = note.filter(|note| !recovery.foreign && note.log_end <= recovery.end);
        match (note, check) {
            (Some(note), _) => {
                let clean = note.clean && recovery.last_stop == LastStop::Clean;
                From::Note(note, if clean { Trust::Whole } else { Trust::Read })
            }
            // One that lies ahead of the clock says nothing of what had its turn.
            (None, Some(check))
                if check.next_millis <= self.clock.now_millis().saturating_add(AHEAD_MAX_MILLIS) =>
            {
                From::Check(check)
            }
            (None, Some(_)) => From::Nothing,
            (None, None) => From::Nothing,
        }
    }

    /// Before the first message that waits.
    fn before_the_first(&self, min: QueueOffset) -> Result<Progress> {
        let first = self.broker.message_in(&self.topic, 0, min)?;
        let now = self.clock.now_millis();
        let second = first.map_or(now, |first| first.store_millis().min(now)).div_euclid(1_000);
        Ok(Progress::at(second.saturating_sub(1), min))
    }

    fn make_whole(&self, state: &mut State, from: &From, warnings: &mut Vec<String>) -> Result<()> {
        let whole = match from {
            From::Note(note, Trust::Whole) => {
                (state.ahead, state.horizon) = (note.ahead, note.horizon);
                state.log.resume(note.timer_log_end);
                state.synced = note.timer_log_end;
                true
            }
            From::Note(note, Trust::Read) => self.read_log(state, note.timer_log_end)?.is_some(),
            From::Check(check) => match self.read_log(state, u64::MAX)? {
                Some(behind) if state.log.end() >= check.timer_log_end => {
                    // RocketMQ takes a message in before it says so.
                    state.progress.taken = state.progress.taken.max(behind);
                    true
                }
                _ => false,
            },
            From::Nothing => false,
        };
        if whole {
            return Ok(());
        }
        let odd = match from {
            From::Nothing if state.log.limit() == 0 => None,
            From::Nothing => Some("nothing says how far timers have come: they may be delivered again"),
            _ => Some("timerlog or timerwheel is not what its marks say: made anew from rmq_sys_wheel_timer"),
        };
        warnings.extend(odd.map(str::to_owned));
        let passed = state.progress;
        self.rebuild(state, &passed)
    }

    /// Makes the wheel from the entries of the log up to `limit`, or as far as there are any. Returns the place of the
    /// timers' queue behind the last one; `None` where they do not fit what the queue says, or end early.
    fn read_log(&self, state: &mut State, limit: u64) -> Result<Option<QueueOffset>> {
        let (min, max) = self.broker.queue_range(&self.topic, 0).unwrap_or_default();
        let (mut place, mut behind) = (min, min);
        let (mut position, mut end) = (state.log.start(), state.log.start());
        while position < limit.min(state.log.limit()) {
            let Some(unit) = state.log.get(position)? else { break };
            let at = loop {
                match self.broker.unit_in(&self.topic, 0, place)? {
                    Some(at) if at.physical_offset < unit.physical && place < max => place = place.plus(1),
                    at => break at,
                }
            };
            if at.is_some_and(|at| at.physical_offset == unit.physical && at.size == unit.size) {
                behind = place.plus(1);
            } else if !self.is_known(&unit) {
                break;
            }
            if !self.show_again(state, &unit, position)? {
                return Ok(None);
            }
            (position, end) = (state.log.behind(position), position.saturating_add(UNIT_LEN));
        }
        state.log.resume(end);
        let whole = limit == u64::MAX || end >= limit;
        Ok(whole.then_some(behind))
    }

    /// Lets a slot of the new wheel lead to an entry, unless its second is over. `false` where it does not continue what the
    /// slot has.
    fn show_again(&self, state: &mut State, unit: &Unit, position: u64) -> Result<bool> {
        let second = unit.second();
        if second < state.progress.second {
            return Ok(true);
        }
        let (last, first_file) = (state.wheel.get(second).last, state.log.start());
        let continues =
            unit.prev == last || (last.is_none() && unit.prev.is_some_and(|prev| prev < first_file));
        if continues {
            state.show(second, unit, position)?;
        }
        Ok(continues)
    }

    /// Tells whether an entry leads to a message that waits, or to one that is gone with its file of the log.
    fn is_known(&self, unit: &Unit) -> bool {
        let (start, _) = self.broker.log_range();
        unit.physical < start
            || self.entry_of(unit).is_some_and(|(message, _)| message.record().size() == unit.size)
    }

    /// Makes wheel and log anew from the timers' topic, without what has had its turn.
    pub(super) fn rebuild(&self, state: &mut State, passed: &Progress) -> Result<()> {
        let [_, wheel_path, _, own] = self.broker.timer_paths();
        state.wheel = Wheel::create(self.broker.disk(), &wheel_path, &own)?;
        state.log.clear()?;
        (state.ahead, state.horizon, state.next) = (0, i64::MIN, None);
        (state.window, state.counted, state.synced, state.moved) = (None, true, 0, true);
        let now = self.clock.now_millis();
        let (min, _) = self.broker.queue_range(&self.topic, 0).unwrap_or_default();
        let mut place = min;
        while place < state.progress.taken {
            if let Some(message) = self.broker.message_in(&self.topic, 0, place)?
                && let Some(entry) = Entry::of(&message)
                && !entry.has_passed(passed, place)
                && !self.has_come_round(state, &message, &entry)?
            {
                state.link(&linked(&entry, &message), now)?;
            }
            place = place.plus(1);
        }
        state.needed = Needed::from(min, now);
        Ok(())
    }

    /// Tells whether there is a later copy of a message, which was made when it came round.
    fn has_come_round(&self, state: &State, message: &MessageView, entry: &Entry) -> Result<bool> {
        let stored = message.store_millis().div_euclid(1_000);
        let may_have = entry.second().saturating_sub(stored) >= ROUND - 1
            && stored.saturating_add(ROUND / 2) <= state.progress.second.saturating_add(1);
        let Some(id) = message.property(name::UNIQ_KEY).filter(|_| may_have) else { return Ok(false) };
        let copies = self.broker.query_by_key(&self.topic, id, i64::MIN..=i64::MAX, COPIES_MAX)?;
        Ok(copies.iter().any(|copy| {
            let of_copy = Entry::of(copy);
            of_copy.is_some_and(|other| other.cancels == entry.cancels && other.rolls > entry.rolls)
        }))
    }
}
