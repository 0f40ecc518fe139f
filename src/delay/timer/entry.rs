//! What does a message of the timers' topic say about its time, and what does it cancel?

use super::note::Progress;
use crate::broker::wheel_second;
use crate::commitlog::MessageView;
use crate::message::properties::name;
use crate::types::QueueOffset;

/// When a message of the timers' topic is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// To the millisecond.
    pub(super) due_millis: i64,
    /// Whether it cancels another one instead of being delivered.
    pub(super) cancels: bool,
    /// How often it has come round.
    pub(super) rolls: u32,
}

impl Entry {
    /// Reads it; `None` for a message that says no time.
    ///
    /// The second is the one that `TIMER_OUT_MS` names: RocketMQ goes by nothing else. Within it the due time is what
    /// the sender asked for, where that is known.
    pub(super) fn of(message: &MessageView) -> Option<Self> {
        let [out, at, millis, seconds, rolls, cancels] = message.properties().pick([
            name::TIMER_OUT_MS,
            name::TIMER_DELIVER_MS,
            name::TIMER_DELAY_MS,
            name::TIMER_DELAY_SEC,
            name::TIMER_ROLL_TIMES,
            name::TIMER_DEL_UNIQKEY,
        ]);
        let number = |text: Option<&str>| text?.parse::<i64>().ok();
        let delay = number(millis).or_else(|| Some(number(seconds)?.saturating_mul(1_000)));
        let stated = number(at).or_else(|| Some(message.store_millis().saturating_add(delay?)));
        let due_millis = match (number(out), stated) {
            (Some(out), Some(due)) => due.clamp(out.saturating_add(1), out.saturating_add(1_000)),
            (Some(out), None) => out.saturating_add(1),
            (None, due) => due?,
        };
        let rolls = rolls.and_then(|times| times.parse().ok()).unwrap_or(0);
        Some(Self { due_millis, cancels: cancels.is_some(), rolls })
    }

    /// Returns the second of the wheel.
    pub(super) const fn second(&self) -> i64 {
        wheel_second(self.due_millis)
    }

    /// Tells whether it has had its turn, or can have none: one that cancels counts for the whole of its second.
    pub(super) fn has_passed(&self, progress: &Progress, place: QueueOffset) -> bool {
        let second = self.second();
        if self.cancels {
            second < progress.second
        } else {
            progress.has_passed(second, (self.due_millis, place))
        }
    }
}

/// Returns the unique id of the message that this one cancels. RocketMQ 5.3 writes the topic in front of it.
pub(super) fn cancelled_id(message: &MessageView) -> Option<&str> {
    let key = message.property(name::TIMER_DEL_UNIQKEY)?;
    let topic = message.property(name::REAL_TOPIC);
    Some(topic.and_then(|topic| key.strip_prefix(topic)?.strip_prefix('+')).unwrap_or(key))
}
