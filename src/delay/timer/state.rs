//! What is known of the timers of one broker while somebody delivers them?

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use super::log::{CANCEL, ROLL, TimerLog, Unit};
use super::note::{Check, CheckFile, Note, Progress};
use super::wheel::{SECONDS, Slot, Wheel};
use super::window::{Due, Window};
use crate::broker::{Broker, wheel_second};
use crate::error::Result;
use crate::storage::TwoSlots;
use crate::types::{PhysicalOffset, QueueOffset, to_u64};

/// Seconds ahead that an entry is put at most; one that is due later comes round once more (RocketMQ's
/// `timerRollWindowSlot`). The message is written again each time, so no file of the log is needed for longer.
pub(super) const ROUND: i64 = 2 * 86_400;

/// What is to be put into the wheel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Linked {
    pub(super) due_millis: i64,
    pub(super) cancels: bool,
    pub(super) physical: PhysicalOffset,
    pub(super) size: u32,
    pub(super) place: QueueOffset,
    pub(super) topic_hash: i32,
}

/// The wheel, its log, and how far both have come.
#[derive(Debug)]
pub(super) struct State {
    pub(super) wheel: Wheel,
    pub(super) log: TimerLog,
    pub(super) slots: TwoSlots,
    pub(super) check: CheckFile,
    pub(super) progress: Progress,
    /// Entries in seconds behind the one that is being delivered.
    pub(super) ahead: u64,
    /// The last second that has any.
    pub(super) horizon: i64,
    /// The next second that has any, where it is known.
    pub(super) next: Option<i64>,
    /// The first entries of the second that is being delivered; `None` before they were looked for.
    pub(super) window: Option<Window>,
    /// Whether the entries of that second are no longer counted as ahead.
    pub(super) counted: bool,
    /// Whether wheel and log are being made anew, and hold less than they should.
    pub(super) unmade: bool,
    /// Messages that were recalled, as long as the wheel does not know it.
    pub(super) recalled: HashSet<Box<str>>,
    pub(super) needed: Needed,
    /// Whether something has changed that is not on disk.
    pub(super) moved: bool,
    /// When it was last put there, on the monotonic clock.
    pub(super) persisted: Duration,
    /// The timer log is on disk up to here.
    pub(super) synced: u64,
}

impl State {
    /// Puts an entry into the wheel: into the second that it is due in, or where it comes round once more.
    pub(super) fn link(&mut self, entry: &Linked, now: i64) -> Result<()> {
        let (mut second, mut rolls) = target(wheel_second(entry.due_millis), now);
        let (here, end) = (self.progress.second, self.progress.second.saturating_add(SECONDS));
        if second >= end {
            // The deliveries are weeks behind: it comes round before its turn, so that everything keeps its order.
            (second, rolls) = (here.saturating_add(ROUND), true);
        }
        let slot = self.wheel.get(second);
        let (now_millis, at) = (now.div_euclid(1_000).saturating_mul(1_000), second.saturating_mul(1_000));
        let (written_millis, ahead_millis) = match i32::try_from(at.saturating_sub(now_millis)) {
            Ok(ahead) => (now_millis, ahead),
            Err(_) => (at, 0),
        };
        let bits = if rolls { ROLL } else { 0 } | if entry.cancels { CANCEL } else { 0 };
        let Linked { physical, size, topic_hash, .. } = *entry;
        let prev = slot.last;
        let unit = Unit { prev, bits, written_millis, ahead_millis, physical, size, topic_hash };
        let before = self.log.end();
        let position = self.log.append(&unit)?;
        // Crash: an entry that no slot leads to lies behind the end that was noted, and is written over.
        self.show(second, &unit, position).inspect_err(|_| self.log.resume(before))?;
        self.moved = true;
        if second == self.progress.second
            && let Some(window) = &mut self.window
            && !unit.cancels()
        {
            let due_millis = if rolls { at.saturating_add(1) } else { entry.due_millis };
            window.add(Due { due_millis, place: entry.place, position });
        }
        Ok(())
    }

    /// Lets the slot of a second lead to an entry.
    pub(super) fn show(&mut self, second: i64, unit: &Unit, position: u64) -> Result<()> {
        let slot = self.wheel.get(second);
        let one = if unit.bits & CANCEL == 0 { 1 } else { -1 };
        let first = slot.first.or(Some(position));
        let count = slot.count.saturating_add(one);
        self.wheel.put(second, Slot { first, last: Some(position), count })?;
        if second > self.progress.second {
            self.ahead = self.ahead.saturating_add(1);
            self.horizon = self.horizon.max(second);
            self.next = self.next.map(|next| next.min(second));
        }
        Ok(())
    }

    /// Returns the next second that has entries.
    pub(super) fn next_second(&mut self) -> Option<i64> {
        if self.horizon <= self.progress.second {
            return None;
        }
        if self.next.is_none() {
            self.next = self.wheel.next_after(self.progress.second);
        }
        if self.next.is_none() {
            self.horizon = self.progress.second;
        }
        self.next
    }

    /// Begins with another second.
    pub(super) fn move_to(&mut self, second: i64) {
        self.progress = Progress::at(second, self.progress.taken);
        (self.window, self.counted) = (None, false);
        if self.next.is_some_and(|next| next <= second) {
            self.next = None;
        }
        self.needed.move_to(second);
    }

    /// Returns how many entries wait.
    pub(super) fn pending(&self) -> u64 {
        let here = self.window.as_ref().map_or(0, |window| to_u64(window.len()));
        self.ahead.saturating_add(here)
    }

    /// Says how far everything has come. It survives the death of the process.
    pub(super) fn note(&self, broker: &Broker, clean: bool) -> Result<()> {
        let note = Note {
            log_end: broker.log_range().1,
            clean,
            progress: self.progress,
            timer_log_end: self.log.end(),
            ahead: self.ahead,
            horizon: self.horizon,
            needed: self.needed.first(self.is_idle(), self.progress.taken),
        };
        broker.set_timers(note.needed, self.progress.taken, self.pending());
        self.slots.store(&note.encode())
    }

    /// Tells whether nothing is in the wheel.
    fn is_idle(&self) -> bool {
        let here = self.window.as_ref().is_some_and(|window| window.len() == 0 && !window.has_more());
        here && self.horizon <= self.progress.second
    }

    /// Writes everything down, for whoever opens the folder next. Durable on return; what is said to be delivered was
    /// flushed before.
    pub(super) fn persist(&mut self, broker: &Broker, now: i64) -> Result<()> {
        broker.flush_deliveries()?;
        self.log.sync_from(self.synced)?;
        self.wheel.sync()?;
        self.synced = self.log.end();
        // What comes into a second whose last entry was delivered is overdue, for RocketMQ as well.
        let done = self.window.as_ref().is_some_and(|window| window.len() == 0 && !window.has_more());
        let next = self.progress.second.saturating_add(if done { 1 } else { 0 });
        let check = Check {
            next_millis: next.saturating_mul(1_000),
            timer_log_end: self.log.end(),
            taken: self.progress.taken,
        };
        self.check.store(&check, now)?;
        let done_millis = self.progress.second.saturating_sub(ROUND + 3_600).saturating_mul(1_000);
        while self.log.drop_oldest(|last| last.written_millis < done_millis)? {}
        self.moved = false;
        Ok(())
    }
}

/// Returns the second into whose slot an entry goes that is due in `second`, and whether it comes round once more. RocketMQ's
/// rule: a round, or half of one where the last round would be a short one.
pub(super) fn target(second: i64, now: i64) -> (i64, bool) {
    let written = now.div_euclid(1_000);
    let beyond = second.saturating_sub(written).saturating_sub(ROUND);
    match beyond {
        ..0 => (second, false),
        0.. if beyond < ROUND / 3 => (written.saturating_add(ROUND / 2), true),
        _ => (written.saturating_add(ROUND), true),
    }
}

/// From where on the timers' queue is needed: by hours in which entries were put into the wheel, because after a round
/// all of an hour are done.
#[derive(Debug)]
pub(super) struct Needed(VecDeque<(i64, QueueOffset)>);

impl Needed {
    pub(super) fn from(first: QueueOffset, now: i64) -> Self {
        Self(VecDeque::from([(hour_of(now), first)]))
    }

    /// Notes that the entry from this place was put into the wheel.
    pub(super) fn add(&mut self, place: QueueOffset, now: i64) {
        let hour = hour_of(now);
        if self.0.back().is_none_or(|(last, _)| *last < hour) {
            self.0.push_back((hour, place));
        }
    }

    fn move_to(&mut self, second: i64) {
        let is_done = |hour: i64| hour.saturating_add(1).saturating_mul(3_600).saturating_add(ROUND) < second;
        while self.0.front().is_some_and(|(hour, _)| is_done(*hour)) {
            self.0.pop_front();
        }
    }

    fn first(&self, idle: bool, taken: QueueOffset) -> QueueOffset {
        let first = self.0.front().filter(|_| !idle);
        first.map_or(taken, |(_, first)| *first)
    }
}

const fn hour_of(millis: i64) -> i64 {
    millis.div_euclid(3_600_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_beyond_a_round_comes_round_as_in_rocketmq() {
        let now = 1_700_000_000_500;
        let at = |ahead: i64| target(1_700_000_000 + ahead, now);
        assert_eq!(at(0), (1_700_000_000, false));
        assert_eq!(at(-90), (1_699_999_910, false));
        assert_eq!(at(ROUND - 1), (1_700_000_000 + ROUND - 1, false));
        assert_eq!(at(ROUND), (1_700_000_000 + ROUND / 2, true));
        assert_eq!(at(ROUND + ROUND / 3), (1_700_000_000 + ROUND, true));
        assert_eq!(target(i64::MAX, now), (1_700_000_000 + ROUND, true));
        assert_eq!(target(0, i64::MIN).0, i64::MIN.div_euclid(1_000) + ROUND);
    }

    #[test]
    fn what_was_put_into_the_wheel_a_round_ago_is_not_needed() {
        let (hour, place) = (3_600_000_i64, QueueOffset::new);
        let mut needed = Needed::from(place(5), 10 * hour);
        needed.add(place(7), 10 * hour + 1);
        needed.add(place(9), 11 * hour);
        assert_eq!(needed.first(false, place(20)), place(5));
        assert_eq!(needed.first(true, place(20)), place(20));
        needed.move_to(11 * 3_600 + ROUND + 1);
        assert_eq!(needed.first(false, place(20)), place(9));
        needed.move_to(13 * 3_600 + ROUND);
        assert_eq!(needed.first(false, place(20)), place(20));
    }
}
